"""What a training loop needs of an agent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from sobolax.training.normalization import Normalizer

Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class Agent:
    """Pure functions of an agent's state; all but `update` act on one unbatched observation.

    Observations come in raw, together with the normalizer.

    Attributes:
        init: `(key, hyperparameters) -> agent state`.
        explore: `(agent state, normalizer, observation, key, hyperparameters) -> action`, with
            exploration noise.
        act: `(agent state, normalizer, observation) -> action`, deterministic.
        sample: `(agent state, normalizer, observation, noise) -> (action, bonus)`: the policy
            that the critic evaluates, reparameterised by standard normal `noise (action_size,)`,
            and what is added to the reward of that step (an entropy bonus, or 0).
        value: `(agent state, normalizer, observation, action) -> ()`: the critic that the actor
            climbs, in the units of the scaled reward.
        update: `(agent state, normalizer, batch, find_tangents, key, hyperparameters) -> (agent
            state, metrics)`; `find_tangents` is that of a source (`sobolax.tangents.sources`). A
            batch's `tangents` and `state` belong to its first transitions; to all of them unless
            the configuration's `gradient_fraction` says otherwise. Of an agent that learns without
            a replay buffer: `(agent state, normalizer, rollout, differentiate, key,
            hyperparameters)`, see `sobolax.training.on_policy`.
        hyperparameters: The class of its hyperparameters; None to take whatever is handed over.
        of_action: Whether `value` depends on the action; if not, it is that of the state alone, of
            the policy with its bonus.
        takes_windows: Whether `update` takes a `Rollout`, as `sobolax.training.on_policy` hands it
            over, and no batch of a replay buffer.
        counts_coordinates: Whether it measures gradients in standard deviations of local
            coordinates, which its configuration has to count.
        config: The configuration whose options it was made with; None for none.

    Example:
        >>> from sobolax.training import normalization
        >>> from sobolax.agents import td3
        >>> agent = td3.make_agent(observation_size=2, action_size=1)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), td3.Hyperparameters())
        >>> jax.eval_shape(agent.act, state, normalization.init(2), jnp.zeros(2)).shape
        (1,)
    """

    init: Callable[[jax.Array, Any], Any]
    explore: Callable[[Any, Normalizer, jax.Array, jax.Array, Any], jax.Array]
    act: Callable[[Any, Normalizer, jax.Array], jax.Array]
    sample: Callable[[Any, Normalizer, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    value: Callable[[Any, Normalizer, jax.Array, jax.Array], jax.Array]
    update: Callable[..., tuple[Any, Metrics]]
    hyperparameters: type | None = None
    of_action: bool = True
    takes_windows: bool = False
    counts_coordinates: bool = False
    config: Any = None
