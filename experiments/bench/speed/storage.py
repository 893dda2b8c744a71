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
from experiments.bench.speed.work import FULL_BASIS, Setup, make_setup, vectorize
from experiments.launch.program import call_ahead
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax import make_training
from sobolax.losses import Errors, Weights, batch_loss, sobolev_errors, squares
from sobolax.tangents.sources import Experience
from sobolax.tangents.storage import (
    TANGENT_DTYPES,
    TangentStorage,
    is_packed,
    make_storage,
    moving_parts,
)
from sobolax.training import replay

_ENVIRONMENTS = 32  # stepped side by side
_BATCHES = 8  # of which gradients are looked at


def prepare(bench: Bench) -> dict[str, Setup]:
    """A training for each environment, whose updates all follow its last step."""
    row = bench.storage
    return {
        name: make_setup(
            name,
            steps=row.transitions // _ENVIRONMENTS,
            num_envs=_ENVIRONMENTS,
            replay_capacity=row.transitions,
            learning_starts=row.transitions - _ENVIRONMENTS,
            gradient_steps=row.updates,
            tangent_dtype="float32",
            **FULL_BASIS,
        )
        for name in bench.memory
    }


def measure(setups: Mapping[str, Setup], bench: Bench, progress: Progress) -> Iterator[Table]:
    """Every storage in every environment: relative errors, and how far cosines are from 1."""
    del bench
    for name, setup in setups.items():
        environment = setup.environment
        progress.phase(f"storage of tangents in {name}: training")
        look = _train(setup)
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


def _train(setup: Setup) -> Callable[[TangentStorage], tuple[jax.Array, Errors]]:
    """Trains an agent.

    Returns:
        A function of the storage: its gradients of some batches, `(batches, parameters)`, and the
        errors of all transitions.
    """
    key, hyper, _ = vectorize(setup, 1)
    training = make_training(setup.environment, setup.config)
    agent = setup.config.make_agent(setup.environment)

    def train(key: jax.Array, hyper: Any) -> Any:
        return training.learn(training.init(key, hyper), hyper, jnp.int32(0))[0]

    trained = call_ahead(train, key, hyper)
    learned, normalizer = trained.agent, trained.normalizer
    experience = replay.read_all(trained.replay)

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

        total = experience.transition.reward.shape[0]
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
