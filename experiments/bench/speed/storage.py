"""Row `storage`: what every way to keep tangents costs in bytes, and in accuracy of gradients.

Transitions of random actions, an agent that has learned from them for a while, and the same
transitions once more with their tangents as they come out of the buffer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from experiments.bench.speed import memory
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import Setup, collect_experience
from experiments.bench.timing import call_ahead
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.losses import Errors, Weights, batch_loss, sobolev_errors, squares
from sobolax.tangents.sources import Experience, make_source
from sobolax.tangents.storage import (
    TANGENT_DTYPES,
    TangentStorage,
    is_packed,
    make_storage,
    moving_parts,
)
from sobolax.training import normalization

_ENVIRONMENTS = 32  # stepped side by side
_BATCHES = 8  # of which gradients are looked at

prepare = memory.prepare


def measure(setups: Mapping[str, Setup], bench: Bench, progress: Progress) -> Iterator[Table]:
    """Every storage in every environment: relative errors, and how far cosines are from 1."""
    transitions = bench.storage.transitions
    for name, setup in setups.items():
        environment = setup.environment
        progress.phase(f"storage of tangents in {name}: collecting")
        source, rounds = make_source("cached", environment), transitions // _ENVIRONMENTS
        experience = replace(
            collect_experience(environment, source, _ENVIRONMENTS, rounds, transitions), state=None
        )
        progress.phase(f"storage of tangents in {name}: learning")
        look = _learn(setup, experience, bench.storage.updates)
        sizes, moving = (
            memory.bytes_per_transition(environment),
            moving_parts(environment, None, None),
        )
        rows, exact, between = [], None, 0.0
        for dtype in TANGENT_DTYPES:
            progress.phase(f"storage of tangents in {name}: {dtype}")
            found = look(make_storage(dtype, moving if is_packed(dtype) else None))
            if exact is None:  # float32
                exact, mean = found, jnp.mean(found[0], axis=0)
                between = float(jnp.mean(_relative(found[0], mean[None])))
            cells = [*_compare(found[1].state, exact[1].state)]
            cells += [*_compare(found[1].action, exact[1].action)]
            cells += [_relative(found[0], exact[0]), 1 - _cosine(found[0], exact[0])]
            numbers = (float(jnp.nanmean(cell)) for cell in cells)
            rows.append((dtype, sizes[f"cached {dtype}"], *numbers))
        kinds = [f"{part}, {what}" for part in ("∇s y", "∇a y") for what in _COMPARED]
        yield Table(
            f"Gradients of the target and gradient of the loss in {name}, beside float32's",
            ("tangents", "bytes", *kinds, "gradient, error", "gradient, 1 - cos"),
            rows,
            note=f"Gradients of single batches differ from their mean by {between:.2g}.",
        )


def _learn(
    setup: Setup, experience: Experience, updates: int
) -> Callable[[TangentStorage], tuple[jax.Array, Errors]]:
    """Trains an agent.

    Returns:
        A function of the storage: its gradients of some batches, `(batches, parameters)`, and the
        errors of all transitions.
    """
    environment, config, hyper = setup.environment, setup.config, setup.hyper
    agent, source = config.make_agent(environment), make_source("cached", environment)
    observations = experience.transition.observation
    total = observations.shape[0]
    normalizer = normalization.init(environment.observation_size)
    normalizer = normalization.update(normalizer, observations)

    def learn(key: jax.Array):
        def one(state, key):
            place_key, key = jax.random.split(key)
            places = jax.random.randint(place_key, (config.batch_size,), 0, total)
            batch = jax.tree.map(lambda leaf: leaf[places], experience)
            state, _ = agent.update(state, normalizer, batch, source.tangents, key, hyper)
            return state, None

        init_key, key = jax.random.split(key)
        return jax.lax.scan(one, agent.init(init_key, hyper), jax.random.split(key, updates))[0]

    learned = call_ahead(learn, jax.random.key(2))

    def with_critics(parameters: Any) -> Any:
        return replace(learned, critics=replace(learned.critics, parameters=parameters))

    target_state = with_critics(learned.critics.target)

    def errors_of(critics: Any, storage: TangentStorage, experience: Experience, key) -> Errors:
        noise_key, storage_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, experience.transition.action.shape)
        stored = storage.pack(storage_key, experience.tangents)

        def td_error(t: Any) -> jax.Array:
            action, bonus = agent.sample(learned, normalizer, t.next_observation, noise)
            next_value = agent.value(target_state, normalizer, t.next_observation, action) + bonus
            target = hyper.reward_scale * t.reward + hyper.discount * t.discount * next_value
            return agent.value(with_critics(critics), normalizer, t.observation, t.action) - target

        return sobolev_errors(
            td_error, experience.transition, *storage.unpack(stored, hyper.tangent_bound)
        )

    def look(storage: TangentStorage) -> tuple[jax.Array, Errors]:
        def one_batch(batch: tuple[Experience, jax.Array]):
            def loss(critics: Any):
                errors = jax.vmap(lambda *one: errors_of(critics, storage, *one))(*batch)
                return batch_loss(squares(errors), Weights(1.0, 1.0)), errors

            gradient, errors = jax.grad(loss, has_aux=True)(learned.critics.parameters)
            return ravel_pytree(gradient)[0], errors

        size = total // _BATCHES
        batches = jax.tree.map(
            lambda leaf: leaf[: size * _BATCHES].reshape(_BATCHES, size, *leaf.shape[1:]),
            (experience, jax.random.split(jax.random.key(3), total)),
        )
        return call_ahead(lambda batches: jax.lax.map(one_batch, batches), batches)

    return look


_COMPARED = ("error", "1 - cos", "validity differs")


def _compare(other: Any, exact: Any) -> tuple[jax.Array, ...]:
    """Target gradients beside those of float32, where both are valid."""
    valid = other.valid & exact.valid
    one, two = (jnp.where(valid, gradients.target, 0.0) for gradients in (other, exact))
    error = jnp.linalg.norm(one - two) / jnp.linalg.norm(two)
    return error, 1 - _cosine(one, two), jnp.mean(other.valid != exact.valid)


def _relative(one: jax.Array, two: jax.Array) -> jax.Array:
    return jnp.linalg.norm(one - two, axis=-1) / jnp.linalg.norm(two, axis=-1)


def _cosine(one: jax.Array, two: jax.Array) -> jax.Array:
    sizes = jnp.linalg.norm(one, axis=-1) * jnp.linalg.norm(two, axis=-1)
    return jnp.sum(one * two, axis=-1) / sizes
