"""Short-horizon actor-critic (SHAC, arXiv 2204.07137): the actor climbs the simulator's gradient.

All environments take `horizon` steps. The actor follows the gradient of what they earned and of the
value that they ended at, through dynamics, rewards and itself (`sobolax.training.backward`); then a
critic `V` is fitted to the lambda-returns of the same steps. Four options go beyond the paper:

- the critic is fitted to the gradients of the lambda-returns too, which the same pass computes;
- a chain of gradients is cut where it grows (`growth_bound`, after AHAC, arXiv 2405.17784);
- gradients along single actions are shortened where they are far longer than the others, so that
  no exploding chain alone decides where the actor goes (`outlier_bound`);
- an entropy bonus (`initial_temperature`, after SAPO, arXiv 2412.12089).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.config import ValueHyperparameters, register_hyperparameters
from sobolax.agents.critics import CriticOptions, CriticState, make_critics
from sobolax.agents.gradients import adam_step, clip_gradient, shorten_outliers
from sobolax.agents.networks import GaussianActor, check_networks
from sobolax.agents.returns import as_experience, fit_returns
from sobolax.agents.sac import make_policy
from sobolax.checks import check_choice, check_counts, check_multiple, check_scalars, owner_of
from sobolax.controls import GRADIENT_TARGETS, check_batch_size
from sobolax.environment import Environment, actor_observations
from sobolax.tangents.units import is_observed
from sobolax.training import on_policy
from sobolax.training.agent import Agent, Metrics
from sobolax.training.backward import WindowGradients, check_reverse_mode
from sobolax.training.base_config import Loop, TrainingConfig
from sobolax.training.normalization import Normalizer, normalize
from sobolax.training.rollouts import Rollout

#: Of Adam's moments, as in the paper.
BETAS = (0.7, 0.95)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """What shapes a SHAC training program; see `sobolax.training.base_config.TrainingConfig`.

    Attributes:
        horizon: Steps of a window, which gradients go back through. Memory is that of
            `num_envs * horizon` states.
        critic_epochs: Passes over a window's states when the critic is fitted.
        minibatches: Updates of the critic in each.
        critics: How many critics; their mean is what windows end in.
        first_order: Whether the critic is fitted to gradients of the lambda-returns too: "reverse",
            or "off" for a critic of values alone, as published.
        hidden_sizes: Of actor and critics.
        activation: Smooth: "swish", "tanh", "gelu" or "softplus".
        critic_norm: See `sobolax.agents.config.AgentConfig`.
        gradient_target: "bellman", or a control (see `sobolax.controls`).
        gradient_units: "raw" or "observation_std" (see `sobolax.tangents.units`).

    Example:
        >>> config = Config(total_timesteps=8_192, num_envs=16, horizon=8)
        >>> config.updates  # 64 windows of 16 environments, 64 updates of the critic after each
        4096
    """

    total_timesteps: int = 524_288
    num_envs: int = 64
    horizon: int = 32
    critic_epochs: int = 16
    minibatches: int = 4
    critics: int = 2
    first_order: str = "reverse"
    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: str = "swish"
    critic_norm: str = "none"
    gradient_target: str = "bellman"
    gradient_units: str = "raw"

    @property
    def updates_per_iteration(self) -> int:
        """Updates of the critic after a window."""
        return self.critic_epochs * self.minibatches

    @property
    def updates(self) -> int:
        """Updates of the critic in the whole training."""
        return self.total_timesteps // (self.num_envs * self.horizon) * self.updates_per_iteration

    @property
    def gradient_mode(self) -> str:
        """The actor's gradient always goes back through the simulator."""
        return "reverse"

    @property
    def actor_differentiates(self) -> bool:
        """The actor's gradient is the simulator's, with or without gradients in the critic."""
        return True

    @property
    def stored_states(self) -> int:
        """States of a window."""
        return self.num_envs * self.horizon

    def make_loop(self) -> Loop:
        """Windows, without a replay buffer."""
        return Loop(on_policy.start, on_policy.learn, gives_windows=True)

    def make_agent(self, environment: Environment) -> Agent:
        """SHAC for this environment."""
        return make_agent(
            environment.observation_size,
            environment.action_size,
            self,
            actor_observations(environment),
        )

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work; compiles nothing."""
        owner = owner_of(self)
        sizes = ("total_timesteps", "num_envs", "epochs", "horizon", "critics")
        check_counts(owner, self, dict.fromkeys((*sizes, "critic_epochs", "minibatches"), 1))
        steps, whole = self.total_timesteps, self.num_envs * self.epochs * self.horizon
        check_multiple(owner, "total_timesteps", steps, "num_envs * epochs * horizon", whole)
        batch, parts = self.stored_states, self.minibatches
        check_multiple(owner, "num_envs * horizon", batch, "minibatches", parts)
        super().check(environment)
        self._check_updates(owner, "critic_epochs")
        check_reverse_mode(owner, environment, self.horizon)
        check_networks(owner, self.hidden_sizes, self.activation, self.critic_norm)
        check_choice(f"{owner}: first_order=", self.first_order, ("off", "reverse"))
        check_choice(f"{owner}: gradient_target=", self.gradient_target, GRADIENT_TARGETS)
        check_batch_size(owner, self.gradient_target, batch // parts)
        check_choice(f"{owner}: gradient_units=", self.gradient_units, ("raw", "observation_std"))
        self._check_gradients(owner, environment)

    def _check_gradients(self, owner: str, environment: Environment) -> None:
        """What the critic's gradients are matched to; see `check`."""
        for name, plain in (("gradient_target", "bellman"), ("gradient_units", "raw")):
            if (value := getattr(self, name)) != plain and self.first_order == "off":
                raise ValueError(
                    f"{owner}: {name}={value!r} would do nothing: first_order='off' fits no "
                    "gradients. Choose first_order='reverse', or leave it out"
                )
        observed = self.normalize_observations and is_observed(environment)
        if self.gradient_units != "raw" and not observed:
            raise ValueError(
                f"{owner}: gradient_units={self.gradient_units!r} needs normalised observations "
                "that perturb computes anew: switch normalize_observations on, or choose 'raw'"
            )


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(ValueHyperparameters):
    """Everything a sweep may vary: numbers that are traced, never part of a program's shape.

    Attributes:
        tau: Share of the online critic that goes into the target critic after every window.
        trace: lambda of the lambda-returns: 1 for the whole window, 0 for one step.
        actor_learning_rate: Of Adam.
        actor_gradient_norm: The actor's gradient is shortened to this Euclidean norm.
        growth_bound: A chain of gradients is cut where it is longer than this many times its
            length at its last step (see `sobolax.training.backward.differentiate`).
        outlier_bound: Gradients along the action of one step of one environment, of what follows
            from that step on, are shortened to this many times their median (see
            `sobolax.agents.gradients.shorten_outliers`).
        initial_temperature: Entropy coefficient to begin with; 0 for no entropy bonus, ever.
        temperature_learning_rate: Of Adam, for the logarithm of the entropy coefficient.
        target_entropy: Entropy per action dimension that the temperature is learned for, in nats.

    Example:
        >>> Hyperparameters(trace=1.5)
        Traceback (most recent call last):
        ValueError: shac.Hyperparameters: trace=1.5 must be at most 1
    """

    tau: Any = 0.6
    critic_learning_rate: Any = 2e-3
    trace: Any = 0.95
    actor_learning_rate: Any = 2e-3
    actor_gradient_norm: Any = 1.0
    growth_bound: Any = float("inf")
    outlier_bound: Any = float("inf")
    initial_temperature: Any = 0.0
    temperature_learning_rate: Any = 3e-3
    target_entropy: Any = -0.5

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        super().__post_init__()
        rates = ("actor_learning_rate", "temperature_learning_rate", "initial_temperature")
        check_scalars(
            owner_of(self),
            self,
            at_least_zero=("trace", *rates),
            at_most_one=("trace",),
            above_zero=("actor_gradient_norm", "growth_bound", "outlier_bound"),
            finite=("target_entropy",),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShacState:
    """Parameters and optimiser states.

    Attributes:
        actor: Parameters of the actor.
        critics: Critics, their targets, optimiser and weighting.
        temperature: Entropy coefficient, `()`.
        actor_optimizer: State of Adam.
        temperature_optimizer: State of Adam.

    Example:
        >>> agent = make_agent(observation_size=2, action_size=1, config=Config())
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> state.temperature.shape
        ()
    """

    actor: Any
    critics: CriticState
    temperature: jax.Array
    actor_optimizer: Any
    temperature_optimizer: Any


def make_agent(
    observation_size: int,
    action_size: int,
    config: Config,
    actor_inputs: tuple[int, ...] | None = None,
) -> Agent:
    """Builds SHAC for observations and actions of these sizes.

    Its `value` is that of the observation alone, `V`, whatever the action.

    Args:
        observation_size: Numbers in an observation.
        action_size: Numbers in an action.
        config: Networks and how they are fitted.
        actor_inputs: Indices of the numbers of an observation that the actor sees; None for all.
            The critics see all of them.

    Example:
        >>> from sobolax.training import normalization
        >>> agent = make_agent(2, 1, Config(hidden_sizes=(8,)))
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> seen = normalization.init(2)
        >>> jax.eval_shape(agent.value, state, seen, jnp.zeros(2), jnp.zeros(1)).shape
        ()
    """
    options = CriticOptions(
        hidden_sizes=config.hidden_sizes,
        activation=config.activation,
        count=config.critics,
        gradient_target=config.gradient_target,
        betas=BETAS,
        norm=config.critic_norm,
        gradient_units=config.gradient_units,
    )
    actor = GaussianActor(config.hidden_sizes, action_size, config.activation, inputs=actor_inputs)
    critics = make_critics(observation_size, 0, options)  # of no action: V
    policy = make_policy(actor)

    def init(key: jax.Array, hyper: Hyperparameters) -> ShacState:
        actor_key, critic_key = jax.random.split(key)
        parameters = actor.init(actor_key, jnp.zeros(observation_size))
        temperature = jnp.asarray(hyper.initial_temperature, jnp.result_type(float))
        return ShacState(
            actor=parameters,
            critics=critics.init(critic_key, hyper),
            temperature=temperature,
            actor_optimizer=optax.adam(hyper.actor_learning_rate, *BETAS).init(parameters),
            temperature_optimizer=optax.adam(hyper.temperature_learning_rate).init(temperature),
        )

    def sample(state: ShacState, normalizer: Normalizer, observation, noise):
        action, log_probability = policy(state.actor, normalizer, observation, noise)
        return action, -state.temperature * log_probability

    def explore(state: ShacState, normalizer: Normalizer, observation, key, hyper) -> jax.Array:
        noise = jax.random.normal(key, (action_size,), observation.dtype)
        return sample(state, normalizer, observation, noise)[0]

    def act(state: ShacState, normalizer: Normalizer, observation) -> jax.Array:
        found = actor.apply(state.actor, normalize(normalizer, observation))
        return jnp.tanh(cast(tuple[jax.Array, jax.Array], found)[0])

    def value(state: ShacState, normalizer: Normalizer, observation, action) -> jax.Array:
        return critics.mean_q(state.critics.parameters, normalizer, observation, action[:0])

    def update(
        state: ShacState,
        normalizer: Normalizer,
        rollout: Rollout,
        differentiate: Callable[..., WindowGradients],
        key: jax.Array,
        hyper: Hyperparameters,
    ) -> tuple[ShacState, Metrics]:
        found = jax.vmap(
            lambda window: differentiate(
                lambda observation, noise: sample(state, normalizer, observation, noise),
                lambda o: critics.mean_q(state.critics.target, normalizer, o, jnp.zeros(0)),
                window,
                discount=hyper.discount,
                reward_scale=hyper.reward_scale,
                trace=hyper.trace,
                growth_bound=hyper.growth_bound,
                slopes=config.first_order != "off",
            ),
            in_axes=1,
        )(rollout)
        observations, noise = (
            jnp.swapaxes(leaf, 0, 1) for leaf in (rollout.states.observation, rollout.noise)
        )
        # An environment without a finite gradient is left out; the mean is over the others.
        kept = jnp.broadcast_to(found.finite[:, None], found.weights.shape)
        shortened, outliers = shorten_outliers(found.actions, kept, hyper.outlier_bound)
        # After that: a late step of its chain is no shorter for being discounted. What is left out
        # weighs 0, as its discounts may be NaN.
        weights = jnp.where(kept, found.weights, 0.0)
        pulls = weights[..., None] * shortened
        count = jnp.maximum(jnp.sum(kept), 1)

        def actor_loss(parameters):
            def one(observation, noise, pull, weight):
                action, log_probability = policy(parameters, normalizer, observation, noise)
                entropy_loss = state.temperature * weight * log_probability
                return entropy_loss - jnp.sum(pull * action), log_probability

            terms = jax.vmap(jax.vmap(one))(observations, noise, pulls, weights)
            losses, log_probabilities = (jnp.where(kept, term, 0.0) for term in terms)
            return jnp.sum(losses) / count, jnp.sum(log_probabilities) / count

        gradient, log_probability = jax.grad(actor_loss, has_aux=True)(state.actor)
        gradient, norm = clip_gradient(gradient, hyper.actor_gradient_norm)
        moved = adam_step(
            hyper.actor_learning_rate, gradient, state.actor_optimizer, state.actor, BETAS
        )
        # The temperature's logarithm takes the step, so that 0 stays 0.
        surplus = -log_probability - action_size * hyper.target_entropy
        rise, temperature_optimizer = adam_step(
            hyper.temperature_learning_rate,
            state.temperature * surplus,
            state.temperature_optimizer,
            jnp.zeros_like(state.temperature),
        )
        # Without a window nothing was measured, and a mean of nothing is no zero to step by.
        (actor_parameters, actor_optimizer), temperature, temperature_optimizer = jax.tree.map(
            lambda new, old: jnp.where(jnp.any(kept), new, old),
            (moved, state.temperature * jnp.exp(rise), temperature_optimizer),
            ((state.actor, state.actor_optimizer), state.temperature, state.temperature_optimizer),
        )
        critic_state, metrics = fit_returns(
            critics,
            state.critics,
            normalizer,
            as_experience(observations, found),
            key,
            hyper,
            epochs=config.critic_epochs,
            minibatches=config.minibatches,
        )
        first = jnp.where(found.finite, found.objective[:, 0], 0.0)
        metrics |= {
            "actor_loss": -jnp.sum(first) / jnp.maximum(jnp.sum(found.finite), 1),
            "actor_gradient_norm": norm,
            "temperature": state.temperature,
            "entropy": -log_probability,
            "windows_cut": jnp.sum(found.cuts, dtype=jnp.int32),
            "outliers_shortened": outliers,
            "windows_nonfinite": jnp.sum(~found.finite, dtype=jnp.int32),
            "windows_dropped": jnp.mean(~found.finite, dtype=jnp.float32),
        }
        new_state = ShacState(
            actor=actor_parameters,
            critics=critic_state,
            temperature=temperature,
            actor_optimizer=actor_optimizer,
            temperature_optimizer=temperature_optimizer,
        )
        return new_state, metrics

    return Agent(
        init,
        explore,
        act,
        sample,
        value,
        update,
        Hyperparameters,
        of_action=False,
        takes_windows=True,
        config=config,
    )
