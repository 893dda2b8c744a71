"""What is compared with what: sizes and configs of every contender."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.report.results import counted

OURS = "sobolax"


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        label: What the table calls it.
        worker: Whose SAC: "brax", "rejax", "sbx" or "sobolax".
        config: What the worker gets, beside the number of segments.
    """

    label: str
    worker: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Contenders that do the same work, in the same units.

    Attributes:
        name: For the command line.
        title: Of its table.
        peer: The library that ours is compared with.
        contenders: The peer's and ours; of either the fastest counts.
        note: What is the same, and what is not.
    """

    name: str
    title: str
    peer: str
    contenders: tuple[Contender, ...]
    note: str


def _sizes(
    num_envs: int, updates: int, batch: int, width: int, rounds: int, collect_rounds: int, **more
) -> dict[str, Any]:
    """Sizes that a comparison has in common; the buffer holds all that is collected."""
    return {
        "num_envs": num_envs,
        "gradient_steps": updates,
        "batch_size": batch,
        "hidden_sizes": [width, width],
        "replay_capacity": 131_072,
        "learning_starts": 4 * batch,
        "rounds": rounds,
        "collect_rounds": collect_rounds,
        **more,
    }


def _brax(name: str, episode_length: int, sizes: Mapping[str, Any]) -> Comparison:
    shared = {"environment": name, "episode_length": episode_length, **sizes}
    ours = {**shared, "environment_arguments": {"brax_backend": "generalized"}}
    return Comparison(
        f"brax-{name}",
        f"Brax's {name} (generalized), {_described(sizes)}",
        "brax",
        (
            Contender("Brax SAC", "brax", {**shared, "backend": "generalized"}),
            Contender("sobolax SAC", OURS, ours),
        ),
        "The same Brax environment, physics, sizes, activation (swish) and running normalisation "
        "of observations in both. Brax restarts an environment from one stored state, sobolax "
        "draws a new one.",
    )


def _rejax(suffix: str, sizes: Mapping[str, Any]) -> Comparison:
    ours = {"environment": "pendulum", "environment_arguments": {}, "episode_length": 200}
    return Comparison(
        f"rejax-pendulum{suffix}",
        f"Pendulum-v1, {_described(sizes)}, buffer of {sizes['replay_capacity']:,}",
        "rejax",
        (
            Contender("rejax SAC", "rejax", {**sizes, "environment": "Pendulum-v1"}),
            Contender("sobolax SAC", OURS, {**sizes, **ours}),
        ),
        "gymnax's Pendulum-v1 and ours, of the same equations. rejax draws batches without "
        "replacement, sobolax with; rejax moves its target networks once a step, sobolax once "
        "an update.",
    )


def _sbx() -> Comparison:
    # One update for each environment step, however many environments are stepped side by side.
    def sizes(num_envs: int, collected: int, **more: Any) -> dict[str, Any]:
        rounds = 128 // num_envs, collected // num_envs
        return _sizes(num_envs, num_envs, 256, 256, *rounds, **more)

    def theirs(num_envs: int, frequency: int) -> Contender:
        config = sizes(num_envs, 2048, environment="HalfCheetah-v5", train_frequency=frequency)
        at_once = "" if frequency == 1 else f", {frequency * num_envs} updates at once"
        return Contender(f"SBX SAC, {counted(num_envs, 'environment')}{at_once}", "sbx", config)

    ours = {"environment": "half_cheetah", "environment_arguments": {}, "episode_length": 1000}
    return Comparison(
        "sbx-half-cheetah",
        "HalfCheetah-v5, 1 update of batch 256 per environment step, hidden layers 2 x 256",
        "sbx",
        (
            *(theirs(1, 1), theirs(1, 64), theirs(8, 8)),
            Contender("sobolax SAC, 64 environments", OURS, sizes(64, 4096, **ours)),
        ),
        "SBX on MuJoCo's C engine through Gymnasium, sobolax on the same model in MJX; of either "
        "the fastest config counts. SBX does not normalise observations, sobolax does.",
    )


def _described(sizes: Mapping[str, Any]) -> str:
    return (
        f"{counted(sizes['num_envs'], 'environment')}, "
        f"{counted(sizes['gradient_steps'], 'update')} of batch {sizes['batch_size']} per "
        f"step of all, hidden layers 2 x {sizes['hidden_sizes'][0]}"
    )


#: All comparisons by name.
ALL = {
    comparison.name: comparison
    for comparison in (
        _brax("reacher", 100, _sizes(64, 8, 256, 128, 20, 100)),
        # What Brax's own examples train Ant with.
        _brax("ant", 1000, _sizes(128, 64, 512, 256, 1, 10)),
        # What rejax ships for this environment.
        _rejax("", _sizes(1, 1, 256, 64, 500, 20_000, replay_capacity=10_000)),
        _rejax("-16", _sizes(16, 8, 256, 64, 60, 2_000)),
        _rejax("-million", _sizes(16, 8, 256, 64, 10, 2_000, replay_capacity=2**20)),
        _sbx(),
    )
}
