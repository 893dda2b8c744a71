"""A smooth teacher: a small network of the dynamics, whose tangents the critic is matched to.

Near contact the tangents of a simulator jump and grow: each is right at its own state alone. A
smooth network that is fitted to many of them averages over what is near. It predicts the reward and
the next observation from observation and action, and is fitted, one step of Adam at every update,
to the transitions *and* to the source's tangents of the same batch. Learned Jacobians in place of a
simulator's: MAGE (arXiv 2004.14309), JAVE (arXiv 2608.02069); here a simulator's Jacobians are the
data too, as in Sobolev training (arXiv 1706.04859).

The critic then gets tangents whose reward and next observation are the network's, while
observation, action and discount stay the simulator's. What the network cannot see (a state that the
observation does not tell, a direction that does not move it) it does not know: its tangents are
means over that, and zero along such directions.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.gradients import adam_step
from sobolax.agents.networks import MLP
from sobolax.losses import all_finite, zero_unless
from sobolax.tangents.filters import lengths
from sobolax.tangents.outcomes import (
    Step,
    columns,
    combine_directions,
    outcome_of,
    outcome_tangents,
    replace_tangents,
)
from sobolax.training import normalization
from sobolax.training.agent import Metrics
from sobolax.training.normalization import Normalizer, normalize
from sobolax.training.teacher import Teacher
from sobolax.transition import Tangents, Transition

#: Their names.
TEACHERS = ("simulator", "fitted")

# Of an observation's standard deviation, and of the mean reward: what changes by less, hardly does.
_SMALLEST_CHANGE = 1e-3
# Mean square of tangents, in standard deviations of the outcome for one of the observation.
_SMALLEST_SQUARE = 1e-4
# Of the largest of its kind, as in `sobolax.tangents.units`.
_UNOBSERVED = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TeacherState:
    """A teacher in training.

    Attributes:
        parameters: Of the network.
        optimizer: State of Adam.
        outcomes: Statistics of what it predicts: reward and change of the observation.

    Example:
        >>> from sobolax.agents.sac import Hyperparameters
        >>> teacher = make_teacher(observation_size=2, action_size=1, hidden_sizes=(4,))
        >>> state = jax.eval_shape(teacher.init, jax.random.key(0), Hyperparameters())
        >>> state.outcomes.mean.shape
        (3,)
    """

    parameters: Any
    optimizer: Any
    outcomes: Normalizer


def make_teacher(
    observation_size: int,
    action_size: int,
    hidden_sizes: tuple[int, ...] = (128, 128),
    activation: str = "swish",
) -> Teacher:
    """A fitted teacher for observations and actions of these sizes.

    Its hyperparameters are `teacher_learning_rate` and `teacher_tangent_weight`. The loss is the
    mean square of errors of reward and change of the observation, each in standard deviations of
    its own, plus the weight times that of their tangents, each relative to the mean square of its
    own in the batch: in both, 1 is what no knowledge gives. A direction's unit is what moves
    normalised observation and action by 1. Tangents that are not finite or longer than
    `tangent_bound` are left out; so are transitions that are not finite.

    The step of Adam sees one random combination of a transition's tangents in place of them all,
    whose squared error has the same mean. The tangents handed on are those of the parameters before
    it: a batch is not learned from before it is used.

    Metrics: `teacher_value_error` and `teacher_tangent_error`, the roots of both means, and
    `teacher_dropped`, the share of tangents that were not finite or too long.

    Example:
        >>> from sobolax.agents.sac import Hyperparameters
        >>> teacher = make_teacher(observation_size=2, action_size=1, hidden_sizes=(4,))
        >>> state = jax.eval_shape(teacher.init, jax.random.key(0), Hyperparameters())
        >>> [leaf.shape for leaf in jax.tree.leaves(state.parameters)]
        [(4,), (3, 4), (3,), (4, 3)]
    """
    network = MLP(hidden_sizes, 1 + observation_size, activation)

    def init(key: jax.Array, hyper: Any) -> TeacherState:
        parameters = network.init(key, jnp.zeros(observation_size + action_size))
        optimizer = optax.adam(hyper.teacher_learning_rate).init(parameters)
        return TeacherState(parameters, optimizer, normalization.init(1 + observation_size))

    def update(
        state: TeacherState,
        normalizer: Normalizer,
        transitions: Transition,
        tangents: Tangents,
        bound: Any,
        key: jax.Array,
        hyper: Any,
    ) -> tuple[TeacherState, Tangents, Metrics]:
        finite = jax.vmap(all_finite)(transitions)
        transitions = jax.vmap(zero_unless)(finite, transitions)
        deviation = normalization.deviation(normalizer)
        outcome = jax.vmap(outcome_of)(transitions)
        outcomes = normalization.update(state.outcomes, _fill(outcome, finite))
        floor = _SMALLEST_CHANGE * jnp.concatenate([jnp.abs(outcomes.mean[:1]), deviation])
        scale = jnp.maximum(normalization.deviation(outcomes, smallest=0.0), floor)
        motion, valid = jax.vmap(_motion, in_axes=(0, 0, None, None))(
            transitions, tangents, deviation, bound
        )
        fitted = valid & (motion > 0) & finite[:, None]
        unit = scale[:, None] * jnp.where(fitted, motion, 1.0)[:, None]

        def per_unit(tangents: Tangents) -> jax.Array:
            """Of the outcomes, in units of theirs, `(batch, outcomes, directions)`."""
            found = jax.vmap(outcome_tangents)(transitions, tangents)
            return jnp.where(fitted[:, None], found, 0.0) / unit

        def step_of(parameters) -> Step:
            def step(observation: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
                x = jnp.concatenate([normalize(normalizer, observation), action])
                found = outcomes.mean + scale * cast(jax.Array, network.apply(parameters, x))
                found = found.astype(observation.dtype)
                return found[0], observation + found[1:]

            return step

        taught = jax.vmap(partial(replace_tangents, step_of(state.parameters)))(
            transitions, tangents
        )
        wanted = per_unit(tangents)
        squares = _mean_squares(wanted, fitted)
        errors = _mean_squares(per_unit(taught) - wanted, fitted)
        floored = jnp.maximum(squares, _SMALLEST_SQUARE)
        moving = squares > _SMALLEST_SQUARE
        # One random combination of all directions: its squared error has the mean of their sum
        # (Hutchinson, 1990), and costs what one direction costs.
        signs = jnp.where(fitted, jax.random.rademacher(key, fitted.shape, motion.dtype), 0.0)
        along = jax.vmap(combine_directions)(
            transitions, tangents, signs / jnp.where(fitted, motion, 1.0)
        )
        combined = jnp.sum(wanted * signs[:, None], axis=-1)

        def loss_of(parameters):
            def one(transition: Transition, along: tuple[jax.Array, jax.Array]):
                where = transition.observation, transition.action
                (reward, after), moved = jax.jvp(step_of(parameters), where, along)
                predicted = replace(transition, reward=reward, next_observation=after)
                return outcome_of(predicted), jnp.append(moved[0], moved[1] - along[0])

            predicted, moved = jax.vmap(one)(transitions, along)
            off = ((predicted - outcome) / scale)[..., None]
            value = _mean(_mean_squares(off, finite[:, None]), scale > floor)
            off = jnp.square(moved / scale - combined)
            tangent = jnp.sum(off, axis=0) / jnp.maximum(jnp.sum(fitted), 1) / floored
            return value + hyper.teacher_tangent_weight * _mean(tangent, moving), value

        gradient, value = jax.grad(loss_of, has_aux=True)(state.parameters)
        parameters, optimizer = adam_step(
            hyper.teacher_learning_rate, gradient, state.optimizer, state.parameters
        )
        metrics = {
            "teacher_value_error": jnp.sqrt(value),
            "teacher_tangent_error": jnp.sqrt(_mean(errors / floored, moving)),
            "teacher_dropped": jnp.mean(~valid, dtype=value.dtype),
        }
        return TeacherState(parameters, optimizer, outcomes), taught, metrics

    return Teacher(init, update)


def _motion(
    transition: Transition, tangents: Tangents, deviation: jax.Array, bound: Any
) -> tuple[jax.Array, jax.Array]:
    """How far directions move what the network sees, 0 for not at all; and which are to be used."""

    def of(kind: Transition) -> tuple[jax.Array, jax.Array]:
        size = lengths(kind)
        observation = columns(transition, kind, "observation") / deviation[:, None]
        seen = jnp.concatenate([observation, columns(transition, kind, "action")])
        motion = jnp.sqrt(jnp.sum(jnp.square(seen), axis=0))
        motion = jnp.where(jnp.isfinite(motion), motion, 0.0)
        motion = jnp.where(motion > _UNOBSERVED * jnp.max(motion, initial=0.0), motion, 0.0)
        return motion, jnp.isfinite(size) & (size <= bound)

    each = of(tangents.state), of(tangents.action)
    motion, valid = (jnp.concatenate(both) for both in zip(*each, strict=True))
    return motion, valid


def _fill(outcome: jax.Array, finite: jax.Array) -> jax.Array:
    """A batch of outcomes whose gaps are the mean of the others."""
    known = finite[:, None]
    mean = jnp.sum(jnp.where(known, outcome, 0.0), axis=0) / jnp.maximum(jnp.sum(finite), 1)
    return jnp.where(known, outcome, mean)


def _mean_squares(values: jax.Array, counted: jax.Array) -> jax.Array:
    """Over batch and directions: `(batch, outcomes, directions)` to `(outcomes,)`."""
    total = jnp.sum(jnp.where(counted[:, None], jnp.square(values), 0.0), axis=(0, 2))
    return total / jnp.maximum(jnp.sum(counted), 1)


def _mean(ratios: jax.Array, varies: jax.Array) -> jax.Array:
    """Over the outcomes that vary: those that do not are easy, and would hide the others."""
    return jnp.sum(ratios) / jnp.maximum(jnp.sum(varies), 1)
