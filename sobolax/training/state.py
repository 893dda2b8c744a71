"""What a training is made of, and what it carries from step to step."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax
from jax.sharding import Mesh

from sobolax.environment import Environment, State
from sobolax.tangents.sources import Source
from sobolax.training.agent import Agent
from sobolax.training.base_config import TrainingConfig
from sobolax.training.n_step import Window
from sobolax.training.normalization import Normalizer
from sobolax.training.replay import Replay

C = TypeVar("C", bound=TrainingConfig)


@dataclass(frozen=True)
class Setup(Generic[C]):
    """What every part of the loop works with; static.

    Attributes:
        environment: The environment.
        agent: The agent.
        config: Sizes and counts.
        source: Where gradients come from.
        mesh: Devices over which the training is split (`sobolax.training.sharding`); None for one.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> config = sac.Config(first_order="off")
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> setup.config.updates
        15872
    """

    environment: Environment
    agent: Agent
    config: C
    source: Source
    mesh: Mesh | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """A trained policy: what acting needs, and nothing else.

    Attributes:
        agent: State of the agent.
        normalizer: Statistics of observations.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> training = sobolax.make_training(Cart(), sobolax.agents.sac.Config())
        >>> hyper = sobolax.agents.sac.Hyperparameters()
        >>> state = jax.eval_shape(training.init, jax.random.key(0), hyper)
        >>> training.policy(state).normalizer.mean.shape
        (2,)
    """

    agent: Any
    normalizer: Normalizer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingState:
    """Everything that a training needs to go on.

    Attributes:
        agent: State of the agent.
        normalizer: Statistics of observations.
        replay: Replay buffer of `Experience`, of those environments that gradients come from; None
            where a training learns from what it has just collected.
        environments: States of the environments, leading axis `num_envs`.
        clocks: Steps of their running episodes, `(num_envs,)`.
        windows: Their last `n_step` steps; None where `n_step` is 1.
        key: Random key.
        frozen_at: Environment steps at which the agent was frozen (`sobolax.training.freezing`),
            `()` int32; -1 while it is not.
        plain_replay: Replay buffer of the other environments, without anything that gradients need;
            None where `gradient_fraction` is 1 and there are no others.
        coordinates: Statistics of local coordinates; None where nothing is measured in them.
        teacher: State of the teacher (`sobolax.training.teacher`); None where there is none.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> training = sobolax.make_training(Cart(), sobolax.agents.sac.Config(num_envs=16))
        >>> hyper = sobolax.agents.sac.Hyperparameters()
        >>> state = jax.eval_shape(training.init, jax.random.key(0), hyper)
        >>> state.environments.observation.shape, state.clocks.shape
        ((16, 2), (16,))
    """

    agent: Any
    normalizer: Normalizer
    replay: Replay | None
    environments: State
    clocks: jax.Array
    windows: Window | None
    key: jax.Array
    frozen_at: jax.Array
    plain_replay: Replay | None = None
    coordinates: Normalizer | None = None
    teacher: Any = None
