"""Q-learning on a fixed set of few transitions of a scalar system, whose `Q*` is known.

The smallest task on which weights matter: no exploration, no actor, and an error instead of a
return. Critic, target and update are the library's (`sobolax.agents.q_learning`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.analytic.scalar import Scalar
from experiments.studies.selection import to_index
from sobolax import weighting
from sobolax.agents import q_learning
from sobolax.agents.config import register_hyperparameters
from sobolax.agents.critics import CriticOptions
from sobolax.checks import check_counts, check_multiple
from sobolax.losses import Weights
from sobolax.tangents.sources import Experience, make_source
from sobolax.training import normalization
from sobolax.training.agent import Metrics
from sobolax.training.normalization import Normalizer

DIGITS = "digits"
_RESOLUTION = 40  # points per side on which the critic is compared with Q*


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(q_learning.Hyperparameters):
    """Q-learning's, and which weighting.

    Attributes:
        weighting: Place in the tuple of weightings; a float is rounded.
    """

    weighting: Any = 0


@dataclass(frozen=True)
class Config:
    """Static configuration of the program.

    Attributes:
        updates: Of the whole training, each on all transitions.
        epochs: Parts that the updates are split into; after each the critic is compared with `Q*`.
        transitions: How many there are, of states and actions uniform in their domain.
        hidden_sizes: Of the critic.
        grid_points: Actions that the target's maximum is taken over.
        line_search: See `sobolax.agents.config.AgentConfig`.
    """

    updates: int = 4_096
    epochs: int = 8
    transitions: int = 32
    hidden_sizes: tuple[int, ...] = (64, 64)
    grid_points: int = 33
    line_search: bool = False


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FittingState:
    """A critic in training, and what it is trained on.

    Attributes:
        agent: State of the agent.
        batch: All transitions, with their tangents.
        key: Random key.
    """

    agent: q_learning.QLearningState
    batch: Experience
    key: jax.Array


@dataclass(frozen=True)
class Fitting:
    """A training as pure functions, to be `vmap`ped as `sobolax.training.loop.Training`'s.

    Attributes:
        init: `(key, hyperparameters) -> FittingState`.
        epoch: `(state, hyperparameters, index of the epoch) -> (state, metrics)`.
    """

    init: Callable[[jax.Array, Any], FittingState]
    epoch: Callable[[FittingState, Any, jax.Array], tuple[FittingState, Metrics]]


def make_fitting(environment: Scalar, config: Config, weightings: Sequence[str]) -> Fitting:
    """Builds the program; nothing is compiled yet.

    Args:
        environment: The system.
        config: Sizes and counts.
        weightings: Names that `Hyperparameters.weighting` chooses from.

    Raises:
        ValueError: If the configuration cannot work or a name is unknown.
    """
    check_counts("fitting.Config", config, {"updates": 1, "epochs": 1, "transitions": 1})
    check_multiple("fitting.Config", "updates", config.updates, "epochs", config.epochs)
    for name in weightings:
        weighting.make_weighting(name, Weights(1.0, 1.0), config.updates)

    def chosen(hyper: Hyperparameters) -> weighting.Weighting:
        made = [
            weighting.make_weighting(name, hyper.weights, config.updates) for name in weightings
        ]
        return weighting.choose(to_index(hyper.weighting), made)

    options = CriticOptions(
        hidden_sizes=config.hidden_sizes,
        count=1,
        weighting=chosen,
        line_search=config.line_search,
    )
    sizes = environment.observation_size, environment.action_size
    agent = q_learning.make_agent(*sizes, options, config.grid_points)
    source = make_source("cached", environment)
    normalizer = normalization.init(environment.observation_size)

    def collect(key: jax.Array) -> Experience:
        state_key, action_key, direction_key = jax.random.split(key, 3)
        action = jax.random.uniform(action_key, (1,), minval=-1.0, maxval=1.0)
        return source.collect(direction_key, environment.reset(state_key), action)[0]

    def init(key: jax.Array, hyper: Hyperparameters) -> FittingState:
        agent_key, data_key, run_key = (jax.random.fold_in(key, i) for i in range(3))
        batch = jax.vmap(collect)(jax.random.split(data_key, config.transitions))
        return FittingState(agent.init(agent_key, hyper), batch, run_key)

    def update(state: FittingState, hyper: Hyperparameters) -> tuple[FittingState, Metrics]:
        key, update_key = jax.random.split(state.key)
        learned, metrics = agent.update(
            state.agent, normalizer, state.batch, source.tangents, update_key, hyper
        )
        return replace(state, agent=learned, key=key), metrics

    def epoch(state: FittingState, hyper: Hyperparameters, index: jax.Array):
        hyper = jax.tree.map(jnp.asarray, hyper)
        state, metrics = jax.lax.scan(
            lambda state, _: update(state, hyper), state, length=config.updates // config.epochs
        )
        metrics = jax.tree.map(jnp.mean, metrics)
        return state, metrics | compare(environment, agent.value, state.agent, normalizer)

    return Fitting(init, epoch)


def compare(
    environment: Scalar, value: Callable[..., jax.Array], agent_state: Any, normalizer: Normalizer
) -> Metrics:
    """How far a critic is from `Q*` over all states and actions.

    Errors are relative, as those of `sobolax.training.critic_report`: 1 is as good as the mean
    value, or as no gradient. `digits` is `-log10` of the value's: one more is a tenth of the error.
    """
    middles = (np.arange(_RESOLUTION) + 0.5) * (2 / _RESOLUTION) - 1
    states, actions = (
        jnp.asarray(part.ravel()[:, None], float) for part in np.meshgrid(middles, middles)
    )

    def look(q: Callable[[jax.Array, jax.Array], jax.Array]):
        return jax.vmap(jax.value_and_grad(q, argnums=(0, 1)))(states, actions)

    found, gradients = look(lambda o, a: value(agent_state, normalizer, o, a))
    true, true_gradients = look(environment.optimal_q)

    def error(one: jax.Array, other: jax.Array, centre: Any = 0.0) -> jax.Array:
        return jnp.sqrt(jnp.mean((one - other) ** 2) / jnp.mean((other - centre) ** 2))

    value_error = error(found, true, jnp.mean(true))
    return {
        DIGITS: -jnp.log10(value_error),
        "value_error": value_error,
        "state_gradient_error": error(gradients[0], true_gradients[0]),
        "action_gradient_error": error(gradients[1], true_gradients[1]),
    }
