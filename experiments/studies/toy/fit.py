"""Fitted Q iteration with a first-order loss, as one compiled program for all variants.

The target is `r + γ max_a Q'(s', a)`, the maximum over the actions within the limits. Its gradient
is that of `Q'(s', a*)` with the maximiser `a*` held fixed: the envelope theorem. It is exact where
the maximiser is unique, at a limit too (there the maximum stays C1, and its curvature jumps); at a
tie of two maximisers the maximum has a kink, and the gradient is that of one of the branches. Hence
there is no policy's part in the gradient of the target that could be frozen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.toy.systems import grid
from experiments.studies.toy.variants import Variant
from sobolax.controls import GRADIENT_TARGETS
from sobolax.losses import Errors, Weights, batch_loss, sobolev_errors, squares
from sobolax.transition import Tangents, Transition

_NOISE_LIMIT = 2.5  # standard deviations, as TD3's 0.5 for 0.2
# The target's maximisers are found for so many transitions at a time, for no more than there are.
CHUNK = 16


@dataclass(frozen=True)
class Sizes:
    """Static configuration of the program.

    Attributes:
        iterations: Of fitted Q iteration, each with a target of its own.
        updates: Steps of Adam in an iteration.
        batch_size: Transitions in such a step.
        actions: Points of the grid that the target's maximum is taken over.
        capacity: Transitions that there is room for, a multiple of `CHUNK`.
    """

    iterations: int = 60
    updates: int = 50
    batch_size: int = 16
    actions: int = 33
    capacity: int = 1024


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Run:
    """What the runs of a program differ in; every leaf has the runs as its leading axis.

    Attributes:
        key: Of its network and its noise.
        transitions: Padded to the capacity.
        tangents: Of them.
        count: How many of them are there.
        state_weight: λ_s.
        action_weight: λ_a.
        gradient_target: Index into the program's gradient targets.
        action_noise: See `experiments.studies.toy.variants.Variant`.
        weight_decay: The same.
    """

    key: jax.Array
    transitions: Transition
    tangents: Tangents
    count: jax.Array
    state_weight: jax.Array
    action_weight: jax.Array
    gradient_target: jax.Array
    action_noise: jax.Array
    weight_decay: jax.Array


# (runs, learning rate, discount) -> values and both gradients on the grid, `(runs, points)`.
Fit = Callable[[Run, jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def make_fit(module: nn.Module, sizes: Sizes, gradient_targets: Sequence[str]) -> Fit:
    """The program of one critic, not compiled yet.

    Args:
        module: The critic.
        sizes: Static configuration of the program.
        gradient_targets: Names in `GRADIENT_TARGETS` that runs may choose from. All of them are
            computed for every run, so name no more than needed.
    """
    choices = [GRADIENT_TARGETS[name] for name in gradient_targets]
    actions = jnp.linspace(-1.0, 1.0, sizes.actions)[:, None]
    steps = sizes.iterations * sizes.updates
    schedule = optax.cosine_decay_schedule(1.0, steps, alpha=0.01)
    adam = optax.scale_by_adam()

    def q(parameters: Any, observation: jax.Array, action: jax.Array) -> jax.Array:
        value = module.apply(parameters, observation, action)
        assert isinstance(value, jax.Array)
        return value

    def best_action(parameters: Any, observation: jax.Array) -> jax.Array:
        values = jax.vmap(lambda action: q(parameters, observation, action))(actions)
        best = jnp.argmax(values)
        # The vertex of a parabola through the best and its neighbours. Next to a maximiser off by
        # `e` the value is off by `e²`, but its gradient by `e`: of a grid's best, gradients would
        # know.
        middle = jnp.clip(best, 1, sizes.actions - 2)
        below, at, above = values[middle - 1], values[middle], values[middle + 1]
        bend = below - 2.0 * at + above
        vertex = 0.5 * (below - above) / jnp.where(bend < 0, bend, -1.0)
        place = jnp.where(bend < 0, middle + jnp.clip(vertex, -1.0, 1.0), best)
        return (place * (2.0 / (sizes.actions - 1)) - 1.0)[None]

    def best_actions(parameters: Any, run: Run, chunks: jax.Array) -> jax.Array:
        observations = run.transitions.next_observation

        def fill(chunk: jax.Array, best: jax.Array) -> jax.Array:
            start = chunk * CHUNK
            these = jax.lax.dynamic_slice_in_dim(observations, start, CHUNK)
            found = jax.vmap(lambda observation: best_action(parameters, observation))(these)
            return jax.lax.dynamic_update_slice_in_dim(best, found, start, 0)

        return jax.lax.fori_loop(0, chunks, fill, jnp.zeros_like(run.transitions.action))

    def loss(
        parameters: Any,
        target: Any,
        run: Run,
        batch: tuple[Transition, Tangents, jax.Array],
        discount: jax.Array,
        key: jax.Array,
    ) -> jax.Array:
        def errors_of(transition: Transition, tangents: Tangents, next_action: jax.Array) -> Errors:
            def td_error(t: Transition) -> jax.Array:
                value = q(target, t.next_observation, next_action)
                return q(parameters, t.observation, t.action) - (
                    t.reward + discount * t.discount * value
                )

            return sobolev_errors(td_error, transition, tangents)

        errors = jax.vmap(errors_of)(*batch)
        errors = jax.lax.switch(run.gradient_target, choices, errors, key)
        return batch_loss(squares(errors), Weights(run.state_weight, run.action_weight))

    def fit_one(
        run: Run, learning_rate: jax.Array, discount: jax.Array, chunks: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        network_key, noise_key = jax.random.split(run.key)
        parameters = module.init(network_key, jnp.zeros(1), jnp.zeros(1))

        def iterate(carry: Any, iteration: jax.Array) -> tuple[Any, None]:
            target = carry[0]
            best = best_actions(target, run, chunks)

            def update(carry: Any, index: jax.Array) -> tuple[Any, None]:
                parameters, moments = carry
                step = iteration * sizes.updates + index
                # Transitions are drawn independently: cycling through them is a random order.
                chosen = (step * sizes.batch_size + jnp.arange(sizes.batch_size)) % run.count
                transitions, tangents, next_action = jax.tree.map(
                    lambda leaf: leaf[chosen], (run.transitions, run.tangents, best)
                )
                action_key, gradient_key = jax.random.split(jax.random.fold_in(noise_key, step))
                noise = run.action_noise * jnp.clip(
                    jax.random.normal(action_key, next_action.shape), -_NOISE_LIMIT, _NOISE_LIMIT
                )
                batch = transitions, tangents, jnp.clip(next_action + noise, -1.0, 1.0)
                gradient = jax.grad(loss)(parameters, target, run, batch, discount, gradient_key)
                direction, moments = adam.update(gradient, moments)
                rate = learning_rate * schedule(step)
                parameters = jax.tree.map(
                    lambda p, d: p - rate * (d + run.weight_decay * p), parameters, direction
                )
                return (parameters, moments), None

            return jax.lax.scan(update, carry, jnp.arange(sizes.updates))[0], None

        start = parameters, adam.init(parameters)
        (parameters, _), _ = jax.lax.scan(iterate, start, jnp.arange(sizes.iterations))

        def evaluate(state: jax.Array, action: jax.Array) -> jax.Array:
            return q(parameters, state[None], action[None])

        points = [jnp.asarray(part, jnp.float32) for part in grid()]
        value, gradients = jax.vmap(jax.value_and_grad(evaluate, argnums=(0, 1)))(*points)
        return value, *gradients

    def fit(runs: Run, learning_rate: jax.Array, discount: jax.Array):
        # As many chunks as the largest run fills: the same number for all, so that the loop
        # stays one loop under `vmap`.
        chunks = -(-jnp.max(runs.count) // CHUNK)
        each = jax.vmap(fit_one, in_axes=(0, None, None, None))
        return each(runs, learning_rate, discount, chunks)

    return fit


def stack(
    variants: Sequence[Variant],
    gradient_targets: Sequence[str],
    keys: jax.Array,
    data: tuple[Transition, Tangents],
    count: int,
) -> Run:
    """Runs of some variants times all seeds, seeds innermost.

    All variants have the same network and the same transitions to begin with, seed by seed.

    Args:
        variants: The variants.
        gradient_targets: Those of the program.
        keys: One per seed.
        data: Transitions and tangents, `(seeds, capacity)`.
        count: How many of them are there.
    """
    seeds = keys.shape[0]

    def column(values: list[float], dtype: type) -> jax.Array:
        return jnp.asarray(np.repeat(np.asarray(values, dtype), seeds))

    transitions, tangents = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(variants)), data)
    return Run(
        key=jnp.concatenate([keys] * len(variants)),
        transitions=transitions,
        tangents=tangents,
        count=column([variant.more_data * count for variant in variants], np.int32),
        gradient_target=column(
            [gradient_targets.index(variant.gradient_target) for variant in variants], np.int32
        ),
        **{
            name: column([getattr(variant, name) for variant in variants], np.float32)
            for name in ("state_weight", "action_weight", "action_noise", "weight_decay")
        },
    )
