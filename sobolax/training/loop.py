"""The training loop: collection, updates and evaluation of an epoch, one program.

What an epoch learns is the configuration's (`make_loop`): `collection` and `updates` with a replay
buffer, `on_policy` from what was just collected. `freezing` stops runs that are no longer finite,
`evaluation` and `critic_report` look at what was learned.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sobolax.checks import owner_of
from sobolax.environment import Environment
from sobolax.training import normalization, sharding
from sobolax.training.agent import Agent, Metrics
from sobolax.training.base_config import TrainingConfig
from sobolax.training.config import LoopConfig
from sobolax.training.critic_report import report_on_critic
from sobolax.training.evaluation import evaluate
from sobolax.training.state import Policy, Setup, TrainingState
from sobolax.training.tangent_check import compare_tangents, is_checked

#: `(key, hyperparameters) -> (state, metrics of all epochs)`.
Train = Callable[[jax.Array, Any], tuple[TrainingState, Metrics]]


@dataclass(frozen=True)
class Training:
    """A training as pure functions; `jax.jit` and `jax.vmap` them as you like.

    Attributes:
        init: `(key, hyperparameters) -> TrainingState`.
        epoch: `(state, hyperparameters, index of the epoch) -> (state, metrics)`; `vmap` it over
            states and hyperparameters, not over the index, and donate the state.
        learn: What an epoch does before it looks: the same without evaluation and report.
        look: `(state, hyperparameters, index of the epoch) -> metrics`: evaluation and report.
        check: `(state, hyperparameters, key) -> metrics`: a sample of tangents beside differences
            (`sobolax.training.tangent_check`); it needs no buffer. No epoch contains it, as it is
            worth one look at a training and takes long to compile. None where there is nothing to
            check.
        run: `(key, hyperparameters) -> (state, metrics)`: all epochs; metrics have a leading
            axis of epochs.
        act: `(policy, observation) -> action`, deterministic.
        policy: `state -> Policy`.
        environment: The environment's name, for messages.
        actor_differentiates: Whether the actor learns from the simulator's derivatives, whatever
            the weights of the critic's gradients are.
        gives_windows: Whether it learns from windows, without a replay buffer.
        mesh: Devices over which it is split; None for one.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), sac.Config())
        >>> state = jax.eval_shape(training.init, jax.random.key(0), sac.Hyperparameters())
        >>> jax.eval_shape(training.act, training.policy(state), jnp.zeros(2)).shape
        (1,)
    """

    init: Callable[[jax.Array, Any], TrainingState]
    epoch: Callable[[TrainingState, Any, jax.Array], tuple[TrainingState, Metrics]]
    learn: Callable[[TrainingState, Any, jax.Array], tuple[TrainingState, Metrics]]
    look: Callable[[TrainingState, Any, jax.Array], Metrics]
    check: Callable[[TrainingState, Any, jax.Array], Metrics] | None
    run: Train
    act: Callable[[Policy, jax.Array], jax.Array]
    policy: Callable[[TrainingState], Policy]
    environment: str
    actor_differentiates: bool = False
    gives_windows: bool = False
    mesh: Mesh | None = None


def make_training(
    environment: Environment,
    config: TrainingConfig,
    agent: Agent | None = None,
    mesh: Mesh | None = None,
) -> Training:
    """Ties an environment, an agent and a loop together.

    Args:
        environment: The environment.
        config: Sizes, counts and options: the `Config` of an agent.
        agent: An agent of your own; None for the configuration's.
        mesh: Devices over which every training is split (`sobolax.training.sharding`); None for
            one device.

    Returns:
        Pure functions: `run` for a whole training, the others for one that stops between epochs.
        Nothing is compiled yet, but for what `int8` and `int4` need to know of the environment (see
        `sobolax.tangents.storage.moving_parts`).

    Raises:
        ValueError: If the configuration cannot work (see its `check`) or cannot be split over the
            mesh, or the agent is another one than the configuration's, needs another loop or was
            made without its options. What is made raises it for hyperparameters of another agent,
            or that are arrays of several values without a `vmap`.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), sac.Config(replay_capacity=1_600))
        >>> state = jax.eval_shape(training.init, jax.random.key(0), sac.Hyperparameters())
        >>> state.replay.rows.shape[:2]
        (100, 16)
        >>> from sobolax.training.config import LoopConfig
        >>> training = make_training(Cart(), LoopConfig(), sac.make_agent(2, 1))  # your own agent
        >>> state = jax.eval_shape(training.init, jax.random.key(0), sac.Hyperparameters())
        >>> state.replay.rows.shape[:2]
        (8192, 16)
    """
    if not isinstance(config, TrainingConfig):
        kind, cls = ("the class", config) if isinstance(config, type) else ("a", type(config))
        what = f"{kind} {cls.__module__}.{cls.__qualname__}"
        raise ValueError(f"config is {what}, but must be the Config of an agent: sac.Config()")
    config.check(environment)
    sharding.check(owner_of(config), config.parts, mesh)
    agent = _chosen(agent, config, environment)
    setup = Setup(environment, agent, config, config.make_source(environment), mesh)
    loop = config.make_loop()

    def checked(hyper: Any) -> Any:
        _check_hyperparameters(agent, hyper)
        return jax.tree.map(jnp.asarray, hyper)

    def init(key: jax.Array, hyper: Any):
        return sharding.constrain(mesh, loop.start(setup, key, checked(hyper)))

    def learn(state: TrainingState, hyper: Any, index: jax.Array):
        return loop.learn(setup, state, checked(hyper), index)

    def look_on(state: TrainingState, hyper: Any, index: jax.Array):
        return look(setup, state, checked(hyper), index)

    epoch, run = join(init, learn, look_on, config.epochs)
    return Training(
        init=init,
        epoch=epoch,
        learn=learn,
        look=look_on,
        check=partial(compare_tangents, setup) if is_checked(config) else None,
        run=run,
        act=lambda policy, observation: agent.act(policy.agent, policy.normalizer, observation),
        policy=lambda state: Policy(state.agent, state.normalizer),
        environment=environment.name,
        actor_differentiates=config.actor_differentiates,
        gives_windows=loop.gives_windows,
        mesh=mesh,
    )


def join(init: Callable, learn: Callable, look: Callable, epochs: int) -> tuple[Callable, Train]:
    """An epoch, which learns and looks, and a whole training: `Training.epoch` and `Training.run`.

    Args:
        init: `(key, hyperparameters) -> state`.
        learn: `(state, hyperparameters, index of the epoch) -> (state, metrics)`.
        look: `(state, hyperparameters, index of the epoch) -> metrics`.
        epochs: How many a training has.

    Example:
        >>> counting = lambda state, step, index: (state + step, {"learned": index})
        >>> looking = lambda state, step, index: {"seen": state}
        >>> _, run = join(lambda key, step: key, counting, looking, epochs=3)
        >>> run(jnp.int32(10), 2)[1]["seen"].tolist()
        [12, 14, 16]
    """

    def epoch(state: Any, hyper: Any, index: jax.Array):
        state, metrics = learn(state, hyper, index)
        return state, metrics | look(state, hyper, index)

    def run(key: jax.Array, hyper: Any):
        return jax.lax.scan(
            lambda state, index: epoch(state, hyper, index), init(key, hyper), jnp.arange(epochs)
        )

    return epoch, run


def _chosen(agent: Agent | None, config: TrainingConfig, environment: Environment) -> Agent:
    """The agent that was handed over, if it is one of the configuration's; else the latter."""
    if agent is None:
        return config.make_agent(environment)
    _check_loop(agent, config)
    _check_coordinates(agent, config)
    try:
        own = config.make_agent(environment)
    except NotImplementedError:
        return agent
    if agent.hyperparameters is not None and agent.hyperparameters is not own.hyperparameters:
        raise ValueError(
            f"{owner_of(config)} was handed an agent with {owner_of(agent.hyperparameters)}: take "
            "the Config of that agent, or a LoopConfig, which has no agent of its own"
        )
    _check_options(agent, config)
    return agent


def _check_loop(agent: Agent, config: TrainingConfig) -> None:
    """Raises ValueError where the agent's `update` takes something else than the loop has."""
    if agent.takes_windows == config.make_loop().gives_windows:
        return
    owner = owner_of(config)
    if agent.takes_windows:
        raise ValueError(
            f"{owner} has a replay buffer, but was handed an agent that learns from windows of "
            "steps that were just taken: take the agent's own Config, shac.Config() for SHAC"
        )
    raise ValueError(
        f"{owner} has windows of steps and no replay buffer, but was handed an agent that learns "
        "from batches of one: take the agent's own Config, or a LoopConfig"
    )


def _check_coordinates(agent: Agent, config: TrainingConfig) -> None:
    """Raises ValueError where one of them measures in what the other does not know of."""
    if agent.counts_coordinates == config.counts_coordinates:
        return
    owner = owner_of(config)
    if agent.counts_coordinates:
        raise ValueError(
            f"{owner} was handed an agent with gradient_units='state_std', but counts no "
            "coordinates: take the agent's own Config(gradient_units='state_std') and its "
            "make_agent(environment), or other units"
        )
    raise ValueError(
        f"{owner}: gradient_units='state_std' would scale tangents for an agent that was handed "
        "over and measures in other units: leave it out, or give the agent the same"
    )


def _check_options(agent: Agent, config: TrainingConfig) -> None:
    """Raises ValueError for options of an agent that the one handed over was made without."""
    loop = LoopConfig if isinstance(config, LoopConfig) else TrainingConfig
    known = {entry.name for entry in fields(loop)}
    for entry in fields(config):
        found = getattr(config, entry.name)
        if entry.name in known or found == getattr(agent.config, entry.name, entry.default):
            continue
        raise ValueError(
            f"{owner_of(config)}: {entry.name}={found!r} does not reach the agent that was handed "
            "over, which was made without it: hand over this configuration's "
            "make_agent(environment) or none, take a LoopConfig, or, where you made the agent with "
            "it by hand, say so: dataclasses.replace(agent, config=config)"
        )


def _check_hyperparameters(agent: Agent, hyper: Any) -> None:
    expected, found = agent.hyperparameters, type(hyper)
    if expected is None:  # an agent of one's own, which may take anything
        return
    # A class of yours may add to the agent's; one of another agent has defaults of its own.
    own = issubclass(found, expected) and not found.__module__.startswith("sobolax.agents.")
    if found is not expected and not own:
        raise ValueError(
            f"the agent takes {owner_of(expected)}, but was handed {owner_of(found)}: they are "
            "called with (key, hyperparameters), and every agent has a Hyperparameters of its own"
        )
    # Some arrays would broadcast, and train another loss unnoticed.
    for entry in fields(expected) if is_dataclass(expected) else ():
        # Under `vmap` this is the shape that one run sees.
        if shape := getattr(getattr(hyper, entry.name), "shape", ()):
            raise ValueError(
                f"{owner_of(hyper)}: {entry.name} has shape {shape}, but must be one number, (): "
                "vmap the training over several values (docs/guides/sweeps.md)"
            )


def look(setup: Setup, state: TrainingState, hyper: Any, index: jax.Array) -> Metrics:
    """Evaluates the policy and reports on the critic, with keys of their own.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> from sobolax.training.collection import start
        >>> config, hyper = sac.Config(report_states=0), sac.Hyperparameters()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> state = jax.eval_shape(lambda key: start(setup, key, hyper), jax.random.key(0))
        >>> sorted(jax.eval_shape(lambda s: look(setup, s, hyper, jnp.int32(0)), state))
        ['evaluation_length', 'evaluation_nonfinite', 'evaluation_return']
    """
    environment, agent, config = setup.environment, setup.agent, setup.config
    # The same for every run: what is compared is compared on the same episodes.
    evaluation_key, report_key = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
    result = evaluate(
        environment,
        lambda observation: agent.act(state.agent, state.normalizer, observation),
        evaluation_key,
        config.evaluation_episodes,
        setup.mesh,
    )
    metrics = {
        "evaluation_return": jnp.mean(result.returns),
        "evaluation_length": jnp.mean(result.lengths.astype(result.returns.dtype)),
        "evaluation_nonfinite": result.nonfinite,
    }
    if not config.report_states:
        return metrics
    report = report_on_critic(
        environment,
        lambda observation, noise: agent.sample(state.agent, state.normalizer, observation, noise),
        lambda observation, action: agent.value(state.agent, state.normalizer, observation, action),
        jax.tree.map(lambda leaf: leaf[: config.report_states], result.visited),
        report_key,
        horizon=config.report_horizon,
        draws=config.report_draws,
        discount=hyper.discount,
        reward_scale=hyper.reward_scale,
        deviation=normalization.deviation(state.normalizer),
        of_action=agent.of_action,
        bonus_interval=config.bonus_interval,
    )
    return metrics | {name: found for name, found in vars(report).items() if found is not None}
