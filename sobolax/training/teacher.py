"""What a training loop needs of a teacher: tangents from elsewhere than the simulator.

The teacher stands between the source and the agent (`sobolax.agents.teacher` has one). It sees what
the source found for a batch, learns from it, and hands on tangents of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.tangents.sources import Experience, FindTangents
from sobolax.training.agent import Metrics
from sobolax.training.normalization import Normalizer


@dataclass(frozen=True)
class Teacher:
    """Pure functions of a teacher's state.

    Attributes:
        init: `(key, hyperparameters) -> teacher state`.
        update: `(teacher state, normalizer, transitions, tangents, tangent_bound, key,
            hyperparameters) -> (teacher state, tangents, metrics)`, of a batch: transitions and
            tangents have a leading axis, and so have those handed on, of the same transitions.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> teacher = sac.Config(teacher="fitted").make_teacher(Cart())
        >>> state = jax.eval_shape(teacher.init, jax.random.key(0), sac.Hyperparameters())
        >>> state.outcomes.mean.shape  # reward, position, speed
        (3,)
    """

    init: Callable[[jax.Array, Any], Any]
    update: Callable[..., tuple[Any, Any, Metrics]]


def teach(
    teacher: Teacher,
    state: Any,
    normalizer: Normalizer,
    batch: Experience,
    find_tangents: FindTangents,
    key: jax.Array,
    hyper: Any,
) -> tuple[Any, Experience, Metrics]:
    """An update of the teacher, and the batch with its tangents in place of the source's.

    Args:
        teacher: The teacher.
        state: Its state.
        normalizer: Statistics of observations.
        batch: What the replay buffer holds; its first transitions have gradients.
        find_tangents: The source's (`sobolax.tangents.sources`).
        key: Of random directions.
        hyper: Hyperparameters.

    Returns:
        The teacher's state, the batch, and metrics. The agent gets `given` for the source.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> from sobolax.training import normalization
        >>> config, cart = sac.Config(teacher="fitted", hidden_sizes=(4,)), Cart()
        >>> source, teacher, hyper = (
        ...     config.make_source(cart), config.make_teacher(cart), sac.Hyperparameters()
        ... )
        >>> def run(key):
        ...     experience, _ = source.collect(key, cart.at(1.0, 0.0), jnp.ones(1))
        ...     batch = jax.tree.map(lambda leaf: leaf[None], experience)
        ...     state, seen = teacher.init(key, hyper), normalization.init(2)
        ...     return teach(teacher, state, seen, batch, source.tangents, key, hyper)
        >>> _, batch, metrics = jax.eval_shape(run, jax.random.key(0))
        >>> batch.tangents.state.next_observation.shape, sorted(metrics)
        ((1, 2, 2), ['teacher_dropped', 'teacher_tangent_error', 'teacher_value_error'])
    """
    kept = jax.tree.leaves((batch.tangents, batch.state))
    count = kept[0].shape[0]
    transitions = jax.tree.map(lambda leaf: leaf[:count], batch.transition)
    # Without a bound: some sources would drop a long tangent as a whole, and only what the
    # simulator says of the step is in doubt here.
    tangents, _ = jax.vmap(find_tangents, in_axes=(0, 0, None), out_axes=(0, None))(
        replace(batch, transition=transitions), jax.random.split(key, count), jnp.inf
    )
    state, taught, metrics = teacher.update(
        state,
        normalizer,
        transitions,
        tangents,
        hyper.tangent_bound,
        jax.random.fold_in(key, count),
        hyper,
    )
    return state, replace(batch, tangents=taught), metrics


def given(experience: Experience, key: jax.Array, bound: Any) -> tuple[Any, Any]:
    """The source of a batch that has its tangents already: `find_tangents` of an agent's update.

    Example:
        >>> from sobolax.cart import example_transition
        >>> experience = Experience(*example_transition(), None)
        >>> tangents, bound = given(experience, jax.random.key(0), 1e3)
        >>> tangents.state.reward.tolist(), bound
        ([-2.5, -1.25], 1000.0)
    """
    return experience.tangents, bound
