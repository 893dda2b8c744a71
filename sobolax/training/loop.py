"""The training loop: collection, replay, updates and evaluation of an epoch, one program."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.checks import check_counts, check_environment, check_multiple
from sobolax.environment import Environment, State
from sobolax.tangents.methods import Derivatives
from sobolax.tangents.sources import Experience, check_source, make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import normalization
from sobolax.training import replay as replay_buffer
from sobolax.training.agent import Agent, Metrics
from sobolax.training.critic_report import report_on_critic
from sobolax.training.evaluation import evaluate, is_finite, stays_finite
from sobolax.training.n_step import MultiStep, Window, oldest, open_window, push
from sobolax.training.normalization import Normalizer

# Looking keeps, reads and selects all arrays of an agent: a tenth of an update, on CPU.
_UPDATES_PER_ROUND = 32


@dataclass(frozen=True)
class LoopConfig:
    """What shapes a training program: sizes and counts. All of it is static.

    Attributes:
        total_timesteps: Steps of all environments together, over the whole training.
        num_envs: Environments that are stepped side by side.
        epochs: Parts the training is split into; after each the policy is evaluated, the critic
            reported on, and the metrics reach the host.
        gradient_steps: Updates after every step of all environments.
        learning_starts: Environment steps with uniformly random actions before the first update.
        batch_size: Transitions of an update.
        n_step: Steps that a target looks ahead before it bootstraps (see
        `sobolax.training.n_step`).
            Transitions reach the buffer `n_step - 1` steps late; that many steps of every
            environment, with random actions, come before the first one and are not counted.
        replay_capacity: Transitions that the replay buffer holds.
        first_order: Where gradients come from: "cached", "recomputed", "reverse", or "off" (see
            `sobolax.tangents.sources`).
        state_directions: Random directions of the state per transition; None for all.
        action_directions: Random directions of the action per transition; None for all.
        tangent_dtype: How stored tangents are kept: "float32", "bfloat16", "float16", "int8" or
            "int4" (see `sobolax.tangents.storage`).
        derivatives: How tangents are computed (see `sobolax.tangents.methods`).
        normalize_observations: Whether networks see observations centred and scaled by running
            statistics.
        evaluation_episodes: Episodes of an evaluation.
        report_states: States that the critic report looks at, from as many episodes of the
            evaluation; 0 for no report.
        report_horizon: Steps of its rollouts.
        report_draws: Draws of the policy's noise that its references are averaged over.

    Example:
        >>> config = LoopConfig(total_timesteps=1_024, num_envs=16, learning_starts=256)
        >>> config.updates  # (1024 - 256) / 16 steps of all environments, 8 updates after each
        384
    """

    total_timesteps: int = 32_768
    num_envs: int = 16
    epochs: int = 8
    gradient_steps: int = 8
    learning_starts: int = 1_024
    batch_size: int = 256
    n_step: int = 1
    replay_capacity: int = 131_072
    first_order: str = "cached"
    state_directions: int | None = None
    action_directions: int | None = None
    tangent_dtype: str = "float32"
    derivatives: Derivatives = field(default_factory=Derivatives)
    normalize_observations: bool = True
    evaluation_episodes: int = 16
    report_states: int = 16
    report_horizon: int = 100
    report_draws: int = 1

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        prefill = math.ceil(self.learning_starts / self.num_envs)
        return (self.total_timesteps // self.num_envs - prefill) * self.gradient_steps

    def look_ahead(self, environment: Environment) -> Environment:
        """The environment whose step is a transition of the replay buffer."""
        return environment if self.n_step == 1 else MultiStep(environment, self.n_step)

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the mend, for what cannot work; compiles nothing."""
        owner = type(self).__module__.rpartition(".")[2] + ".Config"
        positive = (
            "total_timesteps",
            "num_envs",
            "epochs",
            "batch_size",
            "n_step",
            "replay_capacity",
            "evaluation_episodes",
        )
        check_counts(
            owner,
            self,
            dict.fromkeys(positive, 1)
            | dict.fromkeys(("gradient_steps", "learning_starts", "report_states"), 0)
            | {"report_horizon": 2, "report_draws": 1},
        )
        check_multiple(
            owner,
            "total_timesteps",
            self.total_timesteps,
            "num_envs * epochs",
            self.num_envs * self.epochs,
        )
        check_multiple(owner, "replay_capacity", self.replay_capacity, "num_envs", self.num_envs)
        if self.batch_size > self.replay_capacity:
            raise ValueError(
                f"{owner}: batch_size={self.batch_size} is larger than "
                f"replay_capacity={self.replay_capacity}: lower the one or raise the other"
            )
        if self.learning_starts >= self.total_timesteps:
            raise ValueError(
                f"{owner}: learning_starts={self.learning_starts} leaves nothing of "
                f"total_timesteps={self.total_timesteps} to learn in: lower the one or raise "
                "the other"
            )
        if self.report_states > self.evaluation_episodes:
            raise ValueError(
                f"{owner}: report_states={self.report_states} is more than "
                f"evaluation_episodes={self.evaluation_episodes}, and every state comes from an "
                "episode of its own: lower the one or raise the other"
            )
        if self.tangent_dtype not in TANGENT_DTYPES:
            raise ValueError(
                f"{owner}: tangent_dtype={self.tangent_dtype!r} must be one of "
                f"{', '.join(TANGENT_DTYPES)}"
            )
        check_environment(environment)
        if self.n_step > environment.episode_length:
            raise ValueError(
                f"{owner}: n_step={self.n_step} is longer than an episode of environment "
                f"{environment.name!r}, which has {environment.episode_length} steps: choose 1 to "
                f"{environment.episode_length}"
            )
        check_source(
            self.first_order,
            self.look_ahead(environment),
            self.state_directions,
            self.action_directions,
            self.derivatives,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingState:
    """Everything that a training needs to go on.

    Attributes:
        agent: State of the agent.
        normalizer: Statistics of observations.
        replay: Replay buffer of `Experience`.
        environments: States of the environments, leading axis `num_envs`.
        clocks: Steps of their running episodes, `(num_envs,)`.
        windows: Their last `n_step` steps; None where `n_step` is 1.
        key: Random key.
        frozen_at: Environment steps at which the agent was frozen (see `make_training`), `()`
            int32; -1 while it is not.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), sac.Config(num_envs=16))
        >>> state = jax.eval_shape(training.init, jax.random.key(0), sac.Hyperparameters())
        >>> state.environments.observation.shape, state.clocks.shape
        ((16, 2), (16,))
    """

    agent: Any
    normalizer: Normalizer
    replay: replay_buffer.Replay
    environments: State
    clocks: jax.Array
    windows: Window | None
    key: jax.Array
    frozen_at: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """A trained policy: what acting needs, and nothing else.

    Attributes:
        agent: State of the agent.
        normalizer: Statistics of observations.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), sac.Config())
        >>> state = jax.eval_shape(training.init, jax.random.key(0), sac.Hyperparameters())
        >>> training.policy(state).normalizer.mean.shape
        (2,)
    """

    agent: Any
    normalizer: Normalizer


@dataclass(frozen=True)
class Training:
    """A training as pure functions; `jax.jit` and `jax.vmap` them as you like.

    Attributes:
        init: `(key, hyperparameters) -> TrainingState`.
        epoch: `(state, hyperparameters, index of the epoch) -> (state, metrics)`; `vmap` it over
            states and hyperparameters, not over the index, and donate the state.
        learn: What an epoch does before it looks: the same without evaluation and report.
        run: `(key, hyperparameters) -> (state, metrics)`: all epochs; metrics have a leading
            axis of epochs.
        act: `(policy, observation) -> action`, deterministic.
        policy: `state -> Policy`.

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
    run: Callable[[jax.Array, Any], tuple[TrainingState, Metrics]]
    act: Callable[[Policy, jax.Array], jax.Array]
    policy: Callable[[TrainingState], Policy]


def make_training(environment: Environment, agent: Agent, config: LoopConfig) -> Training:
    """Ties an environment, an agent and a loop together.

    When a round of steps, about 32 updates, leaves something in the agent or the normalizer that
    is not finite, those of the round before are kept from then on (but for counters of updates,
    which go on): the agent is frozen, and evaluated as it is; its environments go on with random
    actions. The metrics `frozen` (0 or 1) and `frozen_at` say so, and those of updates leave the
    failed round out; other members of a `vmap` go on as if nothing had been.

    Args:
        environment: The environment.
        agent: The agent.
        config: The loop.

    Returns:
        Pure functions; nothing is compiled yet, but for what `int8` and `int4` ask of the
        environment (see `sobolax.tangents.storage.moving_parts`).

    Raises:
        ValueError: If the configuration cannot work (see `LoopConfig.check`).

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.agents.sac import make_agent
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), make_agent(2, 1), LoopConfig(num_envs=16))
        >>> state = jax.eval_shape(training.init, jax.random.key(0), sac.Hyperparameters())
        >>> state.replay.rows.shape[0]  # the capacity
        131072
    """
    config.check(environment)
    source = make_source(
        config.first_order,
        config.look_ahead(environment),
        config.state_directions,
        config.action_directions,
        config.tangent_dtype,
        config.derivatives,
    )
    steps_per_epoch = config.total_timesteps // (config.num_envs * config.epochs)
    prefill = math.ceil(config.learning_starts / config.num_envs)
    steps_per_round = _steps_per_round(steps_per_epoch, config.gradient_steps)

    def init(key: jax.Array, hyper: Any) -> TrainingState:
        # One key for each purpose, by fold_in: keys of a split depend on nothing else.
        agent_key, reset_key, clock_key, run_key = (jax.random.fold_in(key, i) for i in range(4))
        count = config.num_envs
        environments = jax.vmap(environment.reset)(jax.random.split(reset_key, count))
        one = jax.tree.map(lambda leaf: leaf[0], environments)
        windows, start = None, one
        action = jnp.zeros(environment.action_size, one.observation.dtype)
        if config.n_step > 1:
            windows = jax.vmap(lambda s: open_window(s, environment.action_size, config.n_step))(
                environments
            )
            start, action = oldest(jax.tree.map(lambda leaf: leaf[0], windows), hyper.discount)
        example, _ = jax.eval_shape(source.collect, run_key, start, action)
        state = TrainingState(
            agent=agent.init(agent_key, hyper),
            normalizer=normalization.create(environment.observation_size),
            replay=replay_buffer.create(example, config.replay_capacity),
            environments=environments,
            # Staggered, so that a batch of environments holds all times of an episode.
            clocks=jax.random.randint(clock_key, (count,), 0, environment.episode_length),
            windows=windows,
            key=run_key,
            frozen_at=jnp.full((), -1, jnp.int32),
        )
        if config.n_step == 1:
            return state
        return jax.lax.scan(
            lambda state, _: (advance(state, hyper, jnp.ones((), bool))[0], None),
            state,
            length=config.n_step - 1,
        )[0]

    def advance(
        state: TrainingState, hyper: Any, random: jax.Array
    ) -> tuple[TrainingState, Experience | None, jax.Array]:
        """One step of all environments; random actions where `random`.

        Returns:
            The state, with nothing in its buffer yet; what was experienced (None while several
            steps make a transition), and which environments stayed finite, `(num_envs,)` bool.
        """
        key, action_key, random_key, direction_key, reset_key = jax.random.split(state.key, 5)
        keys = [
            jax.random.split(k, config.num_envs)
            for k in (action_key, random_key, direction_key, reset_key)
        ]

        def one(current, clock, window, action_key, random_key, direction_key, reset_key):
            explored = agent.explore(
                state.agent, state.normalizer, current.observation, action_key, hyper
            )
            uniform = jax.random.uniform(
                random_key, explored.shape, explored.dtype, minval=-1.0, maxval=1.0
            )
            action = jnp.where(random, uniform, explored)
            if window is None:
                experience, following = source.collect(direction_key, current, action)
            else:
                experience, following = None, environment.step(current, action)
            finite = is_finite(following)
            # The transition is taken before any reset; a time limit is not in it at all.
            ended = following.terminated | ~finite | (clock + 1 >= environment.episode_length)
            if window is not None:
                window = push(window, current, action, ended)
            fresh = environment.reset(reset_key)
            onward = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, following)
            return experience, onward, jnp.where(ended, 0, clock + 1), window, finite

        experience, environments, clocks, windows, finite = jax.vmap(one)(
            state.environments, state.clocks, state.windows, *keys
        )
        state = replace(state, environments=environments, clocks=clocks, windows=windows, key=key)
        return state, experience, finite

    def collect(
        state: TrainingState, hyper: Any, random: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One step of all environments, and one transition of each into the buffer."""
        state, experience, finite = advance(state, hyper, random)
        if experience is None:
            key, direction_key = jax.random.split(state.key)
            state = replace(state, key=key)
            experience, _ = jax.vmap(
                lambda key, window: source.collect(key, *oldest(window, hyper.discount))
            )(jax.random.split(direction_key, config.num_envs), state.windows)
        normalizer = state.normalizer
        if config.normalize_observations:
            normalizer = normalization.update(normalizer, experience.transition.observation)
        state = replace(
            state, normalizer=normalizer, replay=replay_buffer.insert(state.replay, experience)
        )
        return state, {"transitions_nonfinite": jnp.sum(~finite)}

    def update(state: TrainingState, hyper: Any) -> tuple[Any, jax.Array, Metrics]:
        key, sample_key, update_key = jax.random.split(state.key, 3)
        batch: Experience = replay_buffer.sample(state.replay, sample_key, config.batch_size)
        updated, metrics = agent.update(
            state.agent, state.normalizer, batch, source.errors, update_key, hyper
        )
        return updated, key, metrics

    def epoch(state: TrainingState, hyper: Any, index: jax.Array):
        hyper = jax.tree.map(jnp.asarray, hyper)
        state, metrics = learn(state, hyper, index)
        return state, metrics | look(state, hyper, index)

    def learn(state: TrainingState, hyper: Any, index: jax.Array):
        hyper = jax.tree.map(jnp.asarray, hyper)
        steps = index * steps_per_epoch + jnp.arange(steps_per_epoch)
        empty = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(update, state, hyper)[2]
        )

        def step(carry, number):
            state, totals, nonfinite = carry
            filling = number < prefill
            # What a frozen agent makes of the rest of a round is lost: it need not act on it.
            state, collected = collect(state, hyper, filling | (state.frozen_at >= 0))

            def one_update(_, inner):
                agent_state, key, totals = inner
                # The buffer is only read here: it is no part of what the loop carries.
                current = replace(state, agent=agent_state, key=key)
                agent_state, key, metrics = update(current, hyper)
                return agent_state, key, jax.tree.map(jnp.add, totals, metrics)

            count = jnp.where(filling, 0, config.gradient_steps)
            agent_state, key, totals = jax.lax.fori_loop(
                0, count, one_update, (state.agent, state.key, totals)
            )
            state = replace(state, agent=agent_state, key=key)
            nonfinite += collected["transitions_nonfinite"]
            return (state, totals, nonfinite), None

        def round_of_steps(carry, numbers):
            """Steps, after which the agent is looked at: what is not finite stays so until then."""
            before, totals, nonfinite, updates = carry
            (state, sums, nonfinite), _ = jax.lax.scan(step, (before, totals, nonfinite), numbers)
            goes_on = (before.frozen_at < 0) & stays_finite(
                (before.agent, before.normalizer), (state.agent, state.normalizer)
            )
            held = normalization.hold(before.normalizer, state.normalizer.count)
            agent_state, normalizer, totals = jax.tree.map(
                lambda new, old: keep_unless(goes_on, new, old),
                (state.agent, state.normalizer, sums),
                (before.agent, held, totals),
            )
            now = ((numbers[-1] + 1) * config.num_envs).astype(jnp.int32)
            state = replace(
                state,
                agent=agent_state,
                normalizer=normalizer,
                frozen_at=jnp.where(goes_on | (before.frozen_at >= 0), before.frozen_at, now),
            )
            done = jnp.sum(numbers >= prefill) * config.gradient_steps
            return (state, totals, nonfinite, updates + jnp.where(goes_on, done, 0)), None

        zero = jnp.zeros((), jnp.int32)
        (state, totals, nonfinite, updates), _ = jax.lax.scan(
            round_of_steps, (state, empty, zero, zero), steps.reshape(-1, steps_per_round)
        )
        metrics = jax.tree.map(lambda total: total / jnp.maximum(updates, 1), totals)
        frozen = state.frozen_at >= 0
        # The round that failed left nothing.
        sound = state.frozen_at // config.num_envs - steps_per_round
        learned_from = jnp.where(frozen, sound, steps[-1] + 1)
        metrics |= {
            "environment_steps": (steps[-1] + 1) * config.num_envs,
            "updates": jnp.maximum(learned_from - prefill, 0) * config.gradient_steps,
            "transitions_nonfinite": nonfinite,
            "frozen": frozen.astype(jnp.int32),
            "frozen_at": state.frozen_at,
        }
        return state, metrics

    def keep_unless(goes_on: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
        # Counters go on: chosen member by member they would no longer be one number for all, and
        # a `vmap` of sound members would round otherwise than without this.
        counts = new is old or not jnp.issubdtype(new.dtype, jnp.floating)
        return new if counts else jnp.where(goes_on, new, old)

    def look(state: TrainingState, hyper: Any, index: jax.Array) -> Metrics:
        """Evaluates the policy and reports on the critic, with keys of their own."""
        # The same for every run: what is compared is compared on the same episodes.
        evaluation_key, report_key = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        result = evaluate(
            environment,
            lambda observation: agent.act(state.agent, state.normalizer, observation),
            evaluation_key,
            config.evaluation_episodes,
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
            lambda observation, noise: agent.sample(
                state.agent, state.normalizer, observation, noise
            ),
            lambda observation, action: agent.value(
                state.agent, state.normalizer, observation, action
            ),
            jax.tree.map(lambda leaf: leaf[: config.report_states], result.visited),
            report_key,
            horizon=config.report_horizon,
            draws=config.report_draws,
            discount=hyper.discount,
            reward_scale=hyper.reward_scale,
        )
        return metrics | {name: getattr(report, name) for name in report.__dataclass_fields__}

    def run(key: jax.Array, hyper: Any):
        hyper = jax.tree.map(jnp.asarray, hyper)
        return jax.lax.scan(
            lambda state, index: epoch(state, hyper, index),
            init(key, hyper),
            jnp.arange(config.epochs),
        )

    def act(policy: Policy, observation: jax.Array) -> jax.Array:
        return agent.act(policy.agent, policy.normalizer, observation)

    def policy(state: TrainingState) -> Policy:
        return Policy(state.agent, state.normalizer)

    return Training(init, epoch, learn, run, act, policy)


def _steps_per_round(steps_per_epoch: int, gradient_steps: int) -> int:
    """Steps between two looks at whether the agent is finite; they divide an epoch."""
    most = max(1, _UPDATES_PER_ROUND // max(gradient_steps, 1))
    return max(size for size in range(1, most + 1) if steps_per_epoch % size == 0)
