"""Whether the tangents that a training learns from are those of what its environment does.

A sample: some states that the environments have reached, the actions that the
agent explores there, and one random direction of state and action for each. Along it tangents are
held to central differences, in the precision that the training computes in. Where the differences
themselves are in doubt, by curvature, rounding or a kink, nothing is judged. The keys are the
check's own, and nothing that it computes reaches the training.

`sobolax.testing.check_environment` looks at all directions, and names the entry that is wrong.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.environment import State
from sobolax.tangents.differences import default_step, transitions_along
from sobolax.tangents.filters import along_directions, random_combination
from sobolax.tangents.forward import TransitionMap, draw_directions
from sobolax.tangents.methods import make_tangent_function
from sobolax.training.agent import Metrics
from sobolax.training.base_config import TrainingConfig
from sobolax.training.n_step import oldest
from sobolax.training.state import Setup, TrainingState

PARTS = ("observation", "reward", "next_observation", "discount")
# States of a sample: their median survives a few contacts.
_STATES = 8
# A part of a transition is judged where the doubt is at most this share of its change, and a part
# of the sample where that many of its states are.
_DOUBT, _ENOUGH = 0.1, 0.5
# Roundings, of half a unit in the last place each, that a value of a step has gone through.
_ROUNDINGS = 4.0


def is_checked(config: TrainingConfig) -> bool:
    """Whether a training has tangents to check: none without gradients, and none by differences.

    Example:
        >>> from sobolax.training.config import LoopConfig
        >>> is_checked(LoopConfig()), is_checked(LoopConfig(first_order="off"))
        (True, False)
    """
    return config.check_tangents and config.gradient_mode is not None


def compare_tangents(setup: Setup, state: TrainingState, hyper: Any, key: jax.Array) -> Metrics:
    """Holds tangents to central differences, at the states that the environments are in.

    What filters do to tangents on purpose (`max_norm`, `max_disagreement`, `smoothing_samples`) is
    left out.

    Args:
        setup: The training.
        state: Its state.
        hyper: Hyperparameters of the agent.
        key: The check's own key.

    Returns:
        `tangent_disagreement`: the difference relative to the central difference, the median over
        the sample, of the worst of observation, reward, next observation and discount; infinite
        where tangents are not finite, NaN where too little could be judged. A discount that jumps
        at the end of an episode is not judged. `tangents_judged`: the share of the sample that
        could be, of the part that moves most often. Both `()`.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> from sobolax.training.collection import start
        >>> config, hyper = sac.Config(replay_capacity=1_600), sac.Hyperparameters()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> def check(key):
        ...     return compare_tangents(setup, start(setup, key, hyper), hyper, key)
        >>> found = jax.jit(check)(jax.random.key(0))
        >>> bool(found["tangent_disagreement"] < 0.01), float(found["tangents_judged"])
        (True, 1.0)
    """
    config = setup.config
    count = min(config.num_envs, _STATES)
    action_keys, keys = (
        jax.random.split(jax.random.fold_in(key, purpose), count) for purpose in (0, 1)
    )

    def first(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[:count], tree)

    if state.windows is not None:
        states, actions = jax.vmap(lambda window: oldest(window, hyper.discount))(
            first(state.windows)
        )
    else:
        states = first(state.environments)
        actions = jax.vmap(
            lambda one, key: setup.agent.explore(
                state.agent, state.normalizer, one.observation, key, hyper
            )
        )(states, action_keys)
    actions = actions.astype(states.observation.dtype)
    errors, judged = jax.vmap(lambda *where: _compare(setup, *where))(keys, states, actions)
    shares = jnp.mean(judged.astype(errors.dtype), axis=0)
    medians = jnp.nanmedian(jnp.where(judged, errors, jnp.nan), axis=0)
    medians = jnp.where(shares >= _ENOUGH, medians, jnp.nan)
    return {"tangent_disagreement": jnp.nanmax(medians), "tangents_judged": jnp.max(shares)}


def _compare(
    setup: Setup, key: jax.Array, state: State, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Relative differences of all parts, and whether they can be judged, both `(parts,)`."""
    environment = setup.config.look_ahead(setup.environment)
    dtype = state.observation.dtype
    step = setup.config.difference_step or default_step(dtype)
    predict = _pulled_back if setup.config.gradient_mode == "reverse" else _pushed
    displacement, move, predicted, seen = predict(setup, environment, key, state, action)
    # Two steps to either side, and none.
    transitions, reach = transitions_along(
        TransitionMap(environment, state), action, displacement, move, step, (-2, -1, 0, 1, 2)
    )
    errors, judged = [], []
    for part in PARTS:
        values = jax.vmap(seen[part])(getattr(transitions, part).reshape(5, -1))
        near, far = (values[3] - values[1]) / (2 * reach), (values[4] - values[0]) / (4 * reach)
        # Curvature and rounding tell the distances apart, a kink the sides.
        kink = (values[3] - 2 * values[2] + values[1]) / (2 * reach)
        doubt = _norm(jnp.abs(near - far) + jnp.abs(kink))
        largest = jnp.max(jnp.abs(values), axis=0)
        rounding = _norm(_ROUNDINGS * jnp.finfo(dtype).eps * largest / reach)
        change, own = _norm(near), _norm(predicted[part])
        error = _norm(predicted[part] - near) / jnp.maximum(change, rounding)
        errors.append(jnp.where(jnp.isfinite(own), error, jnp.inf))
        # What does not move at all can be judged as well, where tangents say that it does.
        moves = jnp.maximum(change, jnp.where(jnp.isfinite(own), own, 0.0))
        certain = (doubt <= _DOUBT * change + rounding) & (rounding <= _DOUBT * moves)
        judged.append(jnp.isfinite(change) & (moves > 0) & certain)
    return jnp.stack(errors), jnp.stack(judged)


def _pushed(setup: Setup, environment: Any, key: jax.Array, state: State, action: jax.Array):
    """A random combination of the directions of a transition, and its tangents along that."""
    config = setup.config
    raw = replace(config.derivatives, max_norm=None, max_disagreement=None, smoothing_samples=1)
    state_key, action_key, own_key, *weights_keys = jax.random.split(key, 5)
    directions = (
        draw_directions(state_key, config.state_directions, environment.state_size),
        draw_directions(action_key, config.action_directions, environment.action_size),
    )
    _, _, tangents = make_tangent_function(environment, raw)(own_key, state, action, *directions)
    weights, displacement, move = random_combination(
        weights_keys, *(each.astype(state.observation.dtype) for each in directions)
    )
    predicted = {part: along_directions(tangents, weights, part).ravel() for part in PARTS}
    return displacement, move, predicted, dict.fromkeys(PARTS, lambda values: values)


def _pulled_back(setup: Setup, environment: Any, key: jax.Array, state: State, action: jax.Array):
    """A random direction, and what a reverse pass says of one random sum of numbers along it."""
    keys = jax.random.split(key, 2 + len(PARTS))
    dtype = state.observation.dtype
    zero = jnp.zeros(environment.state_size, dtype)
    displacement = jax.random.normal(keys[0], zero.shape, dtype)
    move = jax.random.normal(keys[1], action.shape, dtype)
    apply = TransitionMap(environment, state)
    transition, pull = jax.vjp(lambda *where: apply(*where)[0], zero, action)
    nothing = jax.tree.map(jnp.zeros_like, transition)
    predicted, seen = {}, {}
    for part, own_key in zip(PARTS, keys[2:], strict=True):
        sums = jax.random.normal(own_key, jnp.shape(getattr(transition, part)), dtype)
        of_state, of_action = pull(replace(nothing, **{part: sums}))
        predicted[part] = (of_state @ displacement + of_action @ move)[None]
        seen[part] = partial(_weighted, sums.ravel())
    return displacement, move, predicted, seen


def _weighted(sums: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.dot(values, sums, precision="highest")[None]


def _norm(values: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(values)))
