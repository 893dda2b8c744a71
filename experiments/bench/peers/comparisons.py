"""What is compared with what: sizes and settings of every contender."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

OURS = "sobolax"


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        label: What the table calls it.
        worker: Whose SAC: "brax", "rejax", "sbx" or "sobolax".
        settings: What the worker is told.
    """

    label: str
    worker: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Contenders that do the same work, in the same units.

    Attributes:
        name: For the command line.
        title: Of its table.
        peer: Whom ours is compared with.
        contenders: The peer's and ours; of either the fastest counts.
        note: What is the same, and what is not.
    """

    name: str
    title: str
    peer: str
    contenders: tuple[Contender, ...]
    note: str


def make(repetitions: int) -> dict[str, Comparison]:
    """All comparisons by name.

    Args:
        repetitions: Timed segments of each contender and part.
    """
    made = (
        _brax("reacher", 100, _sizes(64, 8, 256, 128), {"rounds": 20, "collect_rounds": 100}),
        # What Brax's own examples train Ant with.
        _brax("ant", 1000, _sizes(128, 64, 512, 256), {"rounds": 1, "collect_rounds": 10}),
        # What rejax ships as its settings for this environment.
        _rejax("", _sizes(1, 1, 256, 64, 10_000), {"rounds": 500, "collect_rounds": 20_000}),
        _rejax("-16", _sizes(16, 8, 256, 64), {"rounds": 60, "collect_rounds": 2_000}),
        _rejax("-million", _sizes(16, 8, 256, 64, 2**20), {"rounds": 10, "collect_rounds": 2_000}),
        _sbx(),
    )
    # Brax plans its whole training beforehand.
    return {
        comparison.name: replace(
            comparison,
            contenders=tuple(
                replace(one, settings={**one.settings, "segments": repetitions})
                if one.worker == "brax"
                else one
                for one in comparison.contenders
            ),
        )
        for comparison in made
    }


def _sizes(
    environments: int, updates: int, batch: int, width: int, capacity: int = 131_072
) -> dict[str, Any]:
    """Sizes that a comparison has in common; the buffer holds all that is collected."""
    return {
        "num_envs": environments,
        "gradient_steps": updates,
        "batch_size": batch,
        "hidden_sizes": [width, width],
        "replay_capacity": capacity,
        "learning_starts": 4 * batch,
    }


def _brax(
    name: str, episode_length: int, sizes: Mapping[str, Any], lengths: Mapping[str, int]
) -> Comparison:
    shared = {"environment": name, "episode_length": episode_length, **sizes, **lengths}
    return Comparison(
        f"brax-{name}",
        f"Brax's {name} (generalized), {_described(sizes)}",
        "brax",
        (
            Contender("Brax SAC", "brax", {**shared, "backend": "generalized"}),
            Contender("sobolax SAC", OURS, {**shared, **_arguments(brax_backend="generalized")}),
        ),
        "The same Brax environment, physics, sizes, activation (swish) and running normalisation "
        "of observations in both. Brax restarts an environment from one stored state, sobolax "
        "draws a new one.",
    )


def _rejax(suffix: str, sizes: Mapping[str, Any], lengths: Mapping[str, int]) -> Comparison:
    shared = {**sizes, **lengths}
    ours = {"environment": "pendulum", "episode_length": 200, **_arguments()}
    return Comparison(
        f"rejax-pendulum{suffix}",
        f"Pendulum-v1, {_described(sizes)}, buffer of {sizes['replay_capacity']:,}",
        "rejax",
        (
            Contender("rejax SAC", "rejax", {**shared, "environment": "Pendulum-v1"}),
            Contender("sobolax SAC", OURS, {**shared, **ours}),
        ),
        "gymnax's Pendulum-v1 and ours, of the same equations. rejax draws batches without "
        "replacement, sobolax with; rejax moves its target networks once a step, sobolax once "
        "an update.",
    )


def _sbx() -> Comparison:
    # One update for each environment step, whoever steps how many environments side by side.
    def sizes(environments: int, rounds: int, collect_rounds: int) -> dict[str, Any]:
        lengths = {"rounds": rounds, "collect_rounds": collect_rounds}
        return {**_sizes(environments, environments, 256, 256), **lengths}

    def theirs(environments: int, frequency: int) -> Contender:
        settings = {
            **sizes(environments, 128 // environments, 2048 // environments),
            "environment": "HalfCheetah-v5",
            "train_frequency": frequency,
        }
        at_once = "" if frequency == 1 else f", {frequency * environments} updates at once"
        return Contender(f"SBX SAC, {_side_by_side(environments)}{at_once}", "sbx", settings)

    def ours(environments: int) -> Contender:
        settings = {
            **sizes(environments, 128 // environments, 4096 // environments),
            "environment": "half_cheetah",
            "episode_length": 1000,
            **_arguments(),
        }
        return Contender(f"sobolax SAC, {_side_by_side(environments)}", OURS, settings)

    return Comparison(
        "sbx-half-cheetah",
        "HalfCheetah-v5, 1 update of batch 256 per environment step, hidden layers 2 x 256",
        "sbx",
        (theirs(1, 1), theirs(1, 64), theirs(8, 8), ours(64)),
        "SBX on MuJoCo's C engine through Gymnasium, sobolax on the same model in MJX; of either "
        "the fastest setting counts. SBX does not normalise observations, sobolax does.",
    )


def _arguments(**arguments: Any) -> dict[str, Any]:
    return {"environment_arguments": arguments}


def _side_by_side(environments: int) -> str:
    return "1 environment" if environments == 1 else f"{environments} environments"


def _described(sizes: Mapping[str, Any]) -> str:
    updates, width = sizes["gradient_steps"], sizes["hidden_sizes"][0]
    counted = "1 update" if updates == 1 else f"{updates} updates"
    return (
        f"{_side_by_side(sizes['num_envs'])}, {counted} of batch {sizes['batch_size']} per "
        f"step of all, hidden layers 2 x {width}"
    )
