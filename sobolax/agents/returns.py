"""Critics of states, `V`, fitted to the returns of a window and to their gradients.

The loss is that of every other agent, on transitions that end at once: the lambda-return stands in
the place of the reward, and its gradient in the place of the reward's tangent.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.critics import Critics, CriticState
from sobolax.losses import TDError
from sobolax.tangents.sources import Experience
from sobolax.training.agent import Metrics
from sobolax.training.backward import WindowGradients
from sobolax.training.normalization import Normalizer
from sobolax.transition import Tangents, Transition


def as_experience(observations: jax.Array, found: WindowGradients) -> Experience:
    """Returns as transitions that end at once, in one batch.

    Args:
        observations: Before every step, `(environments, horizon, observation_size)`.
        found: Returns and gradients, with the same leading axes.

    Example:
        >>> ones = jnp.ones((2, 3))
        >>> found = WindowGradients(ones, ones, ones, ones, None, None, jnp.zeros(2), ones > 0)
        >>> experience = as_experience(jnp.zeros((2, 3, 5)), found)
        >>> experience.transition.observation.shape, experience.transition.reward.shape
        ((6, 5), (6,))
    """
    size = found.returns.size
    observations, returns = observations.reshape(size, -1), found.returns.ravel()
    nothing = jnp.zeros((size, 0), observations.dtype)
    transition = Transition(observations, nothing, returns, jnp.zeros_like(returns), observations)
    if found.along_state is None or found.observations is None:
        return Experience(transition, None, None)
    moved = found.observations.reshape(size, *found.observations.shape[2:])
    along = Transition(moved, None, found.along_state.reshape(size, -1), None, None)
    still = Transition(None, nothing[..., None][..., :0], None, None, None)
    return Experience(transition, Tangents(along, still), None)


def make_td_error(critic: Callable[[jax.Array, jax.Array], jax.Array]) -> TDError:
    """`V(o) - G`, of a transition that holds the return `G` as its reward.

    Example:
        >>> from sobolax.cart import example_transition
        >>> transition, _ = example_transition()
        >>> float(make_td_error(lambda o, a: o[0])(transition))  # 1 - (-1.5625)
        2.5625
    """
    return lambda t: critic(t.observation, t.action) - t.reward


def fit_returns(
    critics: Critics,
    state: CriticState,
    normalizer: Normalizer,
    experience: Experience,
    key: jax.Array,
    hyper: Any,
    *,
    epochs: int,
    minibatches: int,
) -> tuple[CriticState, Metrics]:
    """Passes over a window's states, each in minibatches of its own order; then the target moves.

    Args:
        critics: Critics without an action.
        state: Their state.
        normalizer: Statistics of observations.
        experience: A window's returns (`as_experience`).
        key: Of the orders.
        hyper: Hyperparameters.
        epochs: Passes.
        minibatches: Updates in a pass.

    Returns:
        The state, and means of the metrics of all updates.

    Example:
        >>> from sobolax.agents import shac
        >>> from sobolax.agents.critics import CriticOptions, make_critics
        >>> from sobolax.training import normalization
        >>> critics = make_critics(5, 0, CriticOptions(hidden_sizes=(4,)))
        >>> ones, hyper = jnp.ones((2, 3)), shac.Hyperparameters()
        >>> found = WindowGradients(ones, ones, ones, ones, None, None, jnp.zeros(2), ones > 0)
        >>> def fit(key):
        ...     begin, batch = critics.init(key, hyper), as_experience(jnp.zeros((2, 3, 5)), found)
        ...     sizes = {"epochs": 2, "minibatches": 3}
        ...     seen = normalization.init(5)
        ...     return fit_returns(critics, begin, seen, batch, key, hyper, **sizes)
        >>> jax.eval_shape(fit, jax.random.key(0))[1]["value_loss"].shape
        ()
    """
    size = experience.transition.reward.size
    still = replace(hyper, tau=jnp.zeros_like(hyper.tau))  # the target moves once, below
    keys = jax.random.split(key, epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, size))(keys)
    rows = orders.reshape(epochs * minibatches, -1)

    def one(state: CriticState, now):
        rows, key = now
        return critics.update(
            state,
            normalizer,
            jax.tree.map(lambda leaf: leaf[rows], experience),
            lambda critic, _: make_td_error(critic),
            (),
            lambda experience, key, bound: (experience.tangents, bound),
            key,
            still,
        )

    # Beyond those of the epochs, which are `fold_in(key, 0)` and on.
    update_keys = jax.random.split(jax.random.fold_in(key, epochs), len(rows))
    fitted, metrics = jax.lax.scan(one, state, (rows, update_keys))
    target = optax.incremental_update(fitted.parameters, state.target, hyper.tau)
    means = {
        name: jnp.mean(values, axis=0) for name, values in metrics.items() if "action" not in name
    }
    return replace(fitted, target=target), means
