"""Row `storage`: what every way to keep tangents costs in bytes, and in gradients and gradients.

Transitions of random actions, a SAC agent that has learned from them for a while, and the same
transitions once more with their tangents as they come out of the buffer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from rich.console import RenderableType

from experiments.bench.speed.memory import bytes_per_transition
from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, table
from experiments.bench.speed.work import Tell, collect_experience, make_environment
from experiments.bench.timing import compile_ahead
from experiments.launch.configuration import defaults
from experiments.launch.program import call
from sobolax.environment import Environment
from sobolax.losses import Errors, Weights, batch_loss, sobolev_errors, squares
from sobolax.tangents.sources import Experience, make_source
from sobolax.tangents.storage import TANGENT_DTYPES, is_packed, make_storage, moving_parts
from sobolax.training import normalization

_ENVIRONMENTS = 32  # stepped side by side
_BATCHES = 8  # of which gradients are looked at


@dataclass(frozen=True)
class Setting:
    """What is measured in one environment.

    Attributes:
        environment: The environment.
        config: Of the agent.
        hyper: Hyperparameters of the environment.
    """

    environment: Environment
    config: Any
    hyper: Any


def prepare(bench: Bench) -> dict[str, Setting]:
    """The environments by name; raises ValueError for one that there is not."""
    found = {}
    for name in bench.memory:
        base = defaults(name)
        found[name] = Setting(make_environment(name, base.env_args), base.config, base.hyper)
    return found


def run(prepared: Mapping[str, Setting], bench: Bench, tell: Tell) -> dict[str, Any]:
    """Measures every storage in every environment."""
    found = {}
    for name, setting in prepared.items():
        tell(f"storage of tangents in {name}: collecting")
        found[name] = _measure(setting, bench, lambda text, name=name: tell(f"{name}: {text}"))
    return {"sizes": vars(bench.storage), "found": found}


def _measure(setting: Setting, bench: Bench, tell: Tell) -> dict[str, Any]:
    environment, asked = setting.environment, bench.storage
    experience = collect_experience(
        environment,
        make_source("cached", environment),
        _ENVIRONMENTS,
        asked.transitions // _ENVIRONMENTS,
        asked.transitions,
    )
    tell("learning")
    look = _make_look(setting, experience, asked.updates)
    tell("float32")
    gradients, errors = look("float32")
    mean = jnp.mean(gradients, axis=0)
    entries = {}
    size = bytes_per_transition(environment)
    for dtype in TANGENT_DTYPES[1:]:
        tell(dtype)
        other_gradients, other = look(dtype)
        entries[dtype] = {
            "bytes": size[f"cached {dtype}"],
            **{
                f"{kind} {name}": float(value)
                for kind in ("state", "action")
                for name, value in _compare(getattr(other, kind), getattr(errors, kind)).items()
            },
            "gradient error": float(jnp.mean(_relative(other_gradients, gradients))),
            "gradient cosine": float(jnp.mean(_cosine(other_gradients, gradients))),
        }
    return {
        "bytes": size["cached float32"],
        "between batches": float(jnp.mean(_relative(gradients, mean[None]))),
        "dtypes": entries,
    }


def _make_look(setting: Setting, experience: Experience, updates: int) -> Any:
    """A function of the type of tangents: gradients of some batches, and errors of all of them."""
    environment, config, hyper = setting.environment, setting.config, setting.hyper
    agent = config.make_agent(environment)
    source = make_source("cached", environment)
    observations = experience.transition.observation
    normalizer = normalization.update(
        normalization.init(environment.observation_size), observations
    )
    experience = replace(experience, state=None)
    total = observations.shape[0]

    def learn(key: jax.Array):
        def one(state, key):
            place_key, update_key = jax.random.split(key)
            places = jax.random.randint(place_key, (config.batch_size,), 0, total)
            batch = jax.tree.map(lambda leaf: leaf[places], experience)
            return agent.update(state, normalizer, batch, source.tangents, update_key, hyper)[
                0
            ], None

        begin, go_on = jax.random.split(key)
        return jax.lax.scan(one, agent.init(begin, hyper), jax.random.split(go_on, updates))[0]

    compiled, _ = compile_ahead(learn, jax.random.key(2))
    learned = call(compiled, jax.random.key(2))
    exact = make_storage("float32")
    moving = moving_parts(environment, None, None)

    def errors_of(critic: Any, stored: Any, storage: Any, transition: Any, noise: Any) -> Errors:
        changed = replace(learned, critics=replace(learned.critics, parameters=critic))
        targeting = replace(
            learned, critics=replace(learned.critics, parameters=learned.critics.target)
        )

        def td_error(t: Any) -> jax.Array:
            action, bonus = agent.sample(learned, normalizer, t.next_observation, noise)
            following = agent.value(targeting, normalizer, t.next_observation, action) + bonus
            target = hyper.reward_scale * t.reward + hyper.discount * t.discount * following
            return agent.value(changed, normalizer, t.observation, t.action) - target

        tangents, bound = storage.unpack(stored, hyper.tangent_bound)
        return sobolev_errors(td_error, transition, tangents, bound)

    def look(dtype: str) -> tuple[jax.Array, Errors]:
        storage = make_storage(dtype, moving if is_packed(dtype) else None)
        weights = Weights(1.0, 1.0)

        def one_batch(experience: Experience, key: jax.Array):
            noise = jax.random.normal(key, experience.transition.action.shape)
            keys = jax.random.split(key, noise.shape[0])

            def loss(critic: Any):
                def one(experience, noise, key):
                    tangents, _ = exact.unpack(experience.tangents, jnp.inf)
                    stored = storage.pack(key, tangents)
                    return errors_of(critic, stored, storage, experience.transition, noise)

                found = jax.vmap(one)(experience, noise, keys)
                return batch_loss(squares(found), weights), found

            gradient, found = jax.grad(loss, has_aux=True)(learned.critics.parameters)
            return ravel_pytree(gradient)[0], found

        def batches(experience: Experience):
            return jax.lax.map(
                lambda item: one_batch(*item),
                (experience, jax.random.split(jax.random.key(3), _BATCHES)),
            )

        size = total // _BATCHES
        split = jax.tree.map(
            lambda leaf: leaf[: size * _BATCHES].reshape(_BATCHES, size, *leaf.shape[1:]),
            experience,
        )
        compiled, _ = compile_ahead(batches, split)
        gradients, errors = call(compiled, split)
        return gradients, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), errors)

    return look


def _compare(other: Any, exact: Any) -> dict[str, jax.Array]:
    """Target gradients beside those of float32, where both are valid."""
    valid = other.valid & exact.valid
    one, two = (jnp.where(valid, gradients.target, 0.0) for gradients in (other, exact))
    return {
        "error": jnp.linalg.norm(one - two) / jnp.linalg.norm(two),
        "cosine": jnp.nanmean(_cosine(one, two)),
        "dropped otherwise": jnp.mean(other.valid != exact.valid),
    }


def _relative(one: jax.Array, two: jax.Array) -> jax.Array:
    return jnp.linalg.norm(one - two, axis=-1) / jnp.linalg.norm(two, axis=-1)


def _cosine(one: jax.Array, two: jax.Array) -> jax.Array:
    sizes = jnp.linalg.norm(one, axis=-1) * jnp.linalg.norm(two, axis=-1)
    return jnp.sum(one * two, axis=-1) / sizes


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """A table for each environment: relative errors, and how far cosines are from 1."""
    parts: list[RenderableType] = []
    for name, measured in found["found"].items():
        made = table(
            (
                "tangents",
                "bytes",
                *("∇s y", "1 - cos"),
                *("∇a y", "1 - cos"),
                *("gradient", "1 - cos"),
            )
        )
        made.add_row("float32", f"{measured['bytes']:,}", *("0",) * 6)
        for dtype, entry in measured["dtypes"].items():
            numbers = []
            for what in ("state", "action", "gradient"):
                numbers += [entry[f"{what} error"], 1 - entry[f"{what} cosine"]]
            made.add_row(dtype, f"{entry['bytes']:,}", *(f"{number:.2g}" for number in numbers))
        title = (
            f"Gradients of the target and gradient of the loss in {name}, errors beside float32's\n"
            f"(gradients of single batches are off the mean's by {measured['between batches']:.2g})"
        )
        parts += [heading(title), made]
    return parts
