"""What every agent's training has in common: its static configuration and its traced numbers."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from sobolax.agents.critics import CriticOptions
from sobolax.agents.networks import check_networks
from sobolax.agents.smoothness import SMOOTHNESS
from sobolax.agents.teacher import TEACHERS, make_teacher
from sobolax.checks import check_choice, check_flags, check_scalars, owner_of
from sobolax.controls import check_batch_size, check_gradient_target
from sobolax.environment import Environment
from sobolax.losses import Weights
from sobolax.tangents.trust import TRUSTS
from sobolax.tangents.units import GRADIENT_UNITS, check_coordinates, is_observed
from sobolax.training.config import LoopConfig
from sobolax.training.teacher import Teacher
from sobolax.weighting import WEIGHTINGS, Weighting, check_weighting, make_weighting

T = TypeVar("T")

# Controls that put something else in the place of the target's gradient.
_WITHOUT_TARGET = ("zero", "unit_norm")


def register_hyperparameters(cls: type[T]) -> type[T]:
    """Makes a dataclass of numbers a pytree that JAX puts together unchecked.

    `jax.tree_util.register_dataclass` would call `__post_init__` with whatever a transformation
    keeps in place of numbers: axes, names, None. What a caller makes is checked all the same.

    Example:
        >>> jax.tree.map(str, CriticHyperparameters()).tau
        '0.005'
    """
    names = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]

    def unflatten(_, leaves: Any) -> T:
        made = object.__new__(cls)
        for name, leaf in zip(names, leaves, strict=True):
            object.__setattr__(made, name, leaf)
        return made

    jax.tree_util.register_pytree_with_keys(
        cls,
        lambda values: (
            [(jax.tree_util.GetAttrKey(name), getattr(values, name)) for name in names],
            None,
        ),
        unflatten,
        lambda values: ([getattr(values, name) for name in names], None),
    )
    return cls


@register_hyperparameters
@dataclass(frozen=True)
class ValueHyperparameters:
    """What a sweep may vary in every agent, whatever its critic is a function of; traced numbers.

    Attributes:
        state_weight: lambda_s, the weight of gradients with respect to the physics state.
        discount: gamma.
        tau: Share of the online critic that goes into the target critic at every update.
        critic_learning_rate: Of Adam.
        reward_scale: Multiplies every reward that the critic learns from.
        tangent_bound: Tangents of larger Euclidean norm take their own term out of the loss. No
            bound with a replay buffer and `first_order="reverse"`, which computes no tangents.
        huber_delta: Gradient errors of larger Euclidean norm count linearly, not squared (Huber).

    Example:
        >>> ValueHyperparameters(discount=1.5)
        Traceback (most recent call last):
        ValueError: config.ValueHyperparameters: discount=1.5 must be at most 1
    """

    state_weight: Any = 1.0
    discount: Any = 0.99
    tau: Any = 0.005
    critic_learning_rate: Any = 3e-4
    reward_scale: Any = 1.0
    tangent_bound: Any = 1e3
    huber_delta: Any = float("inf")

    @property
    def weights(self) -> Weights:
        """Weights of the loss's terms."""
        return Weights(self.state_weight, 0.0)

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass. A class of yours becomes a pytree."""
        # Not when the class is made: its fields are known only after `dataclass` has seen it.
        if jax.tree_util.all_leaves([self]):
            register_hyperparameters(type(self))
        check_scalars(
            owner_of(self),
            self,
            at_least_zero=("state_weight", "discount", "tau", "critic_learning_rate"),
            above_zero=("reward_scale", "tangent_bound", "huber_delta"),
            at_most_one=("discount", "tau"),
            finite=("reward_scale",),
        )


@dataclass(frozen=True)
class _BothWeights:
    """What `CriticHyperparameters` begins with, by position: the two weights beside each other."""

    state_weight: Any = 1.0
    action_weight: Any = 1.0


@register_hyperparameters
@dataclass(frozen=True)
class CriticHyperparameters(ValueHyperparameters, _BothWeights):
    """The same for agents whose critic is a function of the action too.

    Attributes:
        action_weight: lambda_a, the weight of gradients with respect to the action.
        target_action_noise: Standard deviation of the noise that smooths the target's action.
        target_action_noise_bound: That noise is clipped to this size.
        teacher_learning_rate: Of the teacher's Adam (`sobolax.agents.teacher`).
        teacher_tangent_weight: Weight of errors of tangents beside those of values in its loss;
            both are relative to what no knowledge gives.
        smoothness_weight: Multiplies what `critic_smoothness` adds to the loss.

    Example:
        >>> CriticHyperparameters(action_weight=-1.0)
        Traceback (most recent call last):
        ValueError: config.CriticHyperparameters: action_weight=-1.0 must be finite and at least 0
    """

    target_action_noise: Any = 0.0
    target_action_noise_bound: Any = 0.5
    teacher_learning_rate: Any = 1e-3
    teacher_tangent_weight: Any = 1.0
    smoothness_weight: Any = 1.0

    @property
    def weights(self) -> Weights:
        """Weights of the loss's terms."""
        return Weights(self.state_weight, self.action_weight)

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        super().__post_init__()
        check_scalars(
            owner_of(self),
            self,
            at_least_zero=(
                "action_weight",
                "target_action_noise",
                "teacher_learning_rate",
                "teacher_tangent_weight",
                "smoothness_weight",
            ),
            above_zero=("target_action_noise_bound",),
        )


@dataclass(frozen=True)
class AgentConfig(LoopConfig):
    """What shapes a training program; see also `sobolax.training.config.LoopConfig`.

    Attributes:
        hidden_sizes: Of actor and critics.
        activation: Smooth: "swish", "tanh", "gelu" or "softplus".
        gradient_target: What the critic's gradients are matched to: "bellman", or a control (see
            `sobolax.controls`): "zero", "unit_norm", "shuffled", "random".
        weighting: How the terms of the loss are weighted (see `sobolax.weighting`): "constant",
            "schedule", "scale_free", "relative_loss_progress", "gradient_norm_balance",
            "conflict_free", "constrained", "warm_up" or "guarded"; or a rule of your own, a
            function of the base weights (lambda_s and lambda_a, traced) that gives a
            `sobolax.weighting.Weighting`.
        line_search: Whether every step of the critic is shortened, up to eight times, while it does
            not lower the value loss of its batch.
        critic_norm: Normalisation of the critics' hidden layers, before the activation: "none",
            "layer" (arXiv 1607.06450) or "rms" (arXiv 1910.07467). Smooth, and of one sample alone.
        gradient_units: What gradients along the state are measured in (see
            `sobolax.tangents.units`): "raw", the environment's own (metres, radians),
            "observation_std", standard deviations of the normalised observation, or "state_std",
            standard deviations of the state's local coordinates.
        trust: How far gradients of the bootstrapped target are trusted where a step stretches (see
            `sobolax.tangents.trust`): "full", "soft" or "hard".
        teacher: Whose tangents of reward and next observation the critic is matched to: the
            "simulator"'s, or those of a network that is "fitted" to them and to the transitions
            (see `sobolax.agents.teacher`), with the agent's `hidden_sizes` and `activation`.
        critic_smoothness: "none", or "pave" for critics that are smooth for their own sake: a
            control without a simulator (see `sobolax.agents.smoothness`).

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> sac.Config(activation="relu").check(Cart())
        Traceback (most recent call last):
        ValueError: sac.Config: activation='relu' is not smooth: its gradient jumps, and ...
    """

    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: str = "swish"
    gradient_target: str = "bellman"
    weighting: str | Callable[[Weights], Weighting] = "constant"
    line_search: bool = False
    critic_norm: str = "none"
    gradient_units: str = "raw"
    trust: str = "full"
    teacher: str = "simulator"
    critic_smoothness: str = "none"

    @property
    def counts_coordinates(self) -> bool:
        """Whether gradients are measured in standard deviations of local coordinates."""
        return self.gradient_units == "state_std"

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work.

        Compiles nothing, but for a weighting rule of your own, which is tried on a few numbers.
        """
        super().check(environment)
        owner = owner_of(self)
        check_flags(owner, self, ["line_search"])
        check_networks(owner, self.hidden_sizes, self.activation, self.critic_norm)
        check_choice(f"{owner}: critic_smoothness=", self.critic_smoothness, SMOOTHNESS)
        check_gradient_target(owner, self.gradient_target, self.first_order, self.directions)
        check_batch_size(owner, self.gradient_target, self.gradient_batch)
        what = f"{owner}: weighting={self.weighting!r}"
        allowed = (
            f"must be one of {', '.join(WEIGHTINGS)}, or a function of base weights that gives a "
            "sobolax.weighting.Weighting"
        )
        if not (isinstance(self.weighting, str) or callable(self.weighting)):
            raise ValueError(f"{what} {allowed}")
        if self.weighting != "constant" and self.first_order == "off":
            raise ValueError(
                f"{what} weighs gradients beside values, and first_order='off' has none. Choose "
                "first_order='cached', or leave it out"
            )
        self._check_units(owner, environment)
        self._check_teacher(owner, environment)
        weighting = self.make_weighting(Weights(1.0, 1.0))
        if not isinstance(weighting, Weighting):
            raise ValueError(f"{what} gives a {type(weighting).__name__}, but {allowed}")
        if callable(self.weighting):
            check_weighting(weighting)

    def _check_units(self, owner: str, environment: Environment) -> None:
        """Units and trust; see `check`."""
        units, trust = self.gradient_units, self.trust
        check_choice(f"{owner}: gradient_units=", units, GRADIENT_UNITS)
        check_choice(f"{owner}: trust=", trust, TRUSTS)
        chosen = [
            f"{name}={value!r}"
            for name, value, plain in (
                ("gradient_units", units, "raw"),
                ("trust", trust, "full"),
            )
            if value != plain
        ]
        if not chosen:
            return
        what = f"{owner}: {' and '.join(chosen)}"
        if self.first_order == "off":
            raise ValueError(
                f"{what} would do nothing: first_order='off' has no gradients. Choose "
                "first_order='cached', or leave it out"
            )
        if trust == "hard" and self.gradient_target in _WITHOUT_TARGET:
            raise ValueError(
                f"{what} bounds the target's gradient, and "
                f"gradient_target={self.gradient_target!r} replaces it: choose trust='soft' or "
                "'full'"
            )
        directions = {"state_directions": self.state_directions}
        if trust != "full":
            directions["action_directions"] = self.action_directions
        for name, count in directions.items():
            if count:
                raise ValueError(
                    f"{what} goes by coordinates, but {name}={count} draws random directions: "
                    f"leave {name} at None, for the full basis, or take gradient_units='raw' and "
                    "trust='full'"
                )
        if trust != "full" and self.first_order == "reverse":
            raise ValueError(
                f"{what} needs to know how much the step stretches every direction, which "
                "first_order='reverse' never computes: choose 'cached' or 'recomputed', or "
                "trust='full'"
            )
        if units == "observation_std" and not self.normalize_observations:
            raise ValueError(
                f"{what} measures in standard deviations of the normalised observation, but "
                "normalize_observations is False: switch it on, or choose gradient_units='raw'"
            )
        if units == "state_std":
            if self.first_order == "reverse":
                raise ValueError(
                    f"{what} scales tangents, and first_order='reverse' has none: choose 'cached' "
                    "or 'recomputed', or gradient_units='observation_std'"
                )
            check_coordinates(what, environment)
        drops = units == "observation_std" or trust != "full"
        if drops and not is_observed(environment):
            raise ValueError(
                f"{what}: nothing observes the state of environment {environment.name!r}: the "
                "observation after perturb(state, displacement) does not depend on the "
                "displacement, and every gradient would drop out. Compute it anew in perturb "
                "(sobolax.testing.check_environment tests that)"
            )

    def _check_teacher(self, owner: str, environment: Environment) -> None:
        """See `check`."""
        check_choice(f"{owner}: teacher=", self.teacher, TEACHERS)
        if self.teacher == "simulator":
            return
        what = f"{owner}: teacher={self.teacher!r}"
        if self.gradient_target in _WITHOUT_TARGET:
            raise ValueError(
                f"{what} is fitted for the target's gradient, and "
                f"gradient_target={self.gradient_target!r} replaces it: choose teacher='simulator'"
            )
        if self.first_order in ("off", "reverse"):
            raise ValueError(
                f"{what} is fitted to tangents, and first_order={self.first_order!r} has none: "
                "choose 'cached' or 'recomputed', or teacher='simulator'"
            )
        if self.n_step > 1:
            raise ValueError(
                f"{what} predicts a step from its observation and action, but n_step={self.n_step} "
                "makes one of several, whose later actions it does not see: choose n_step=1, or "
                "teacher='simulator'"
            )
        if not is_observed(environment):
            raise ValueError(
                f"{what}: nothing observes the state of environment {environment.name!r}: the "
                "observation after perturb(state, displacement) does not depend on the "
                "displacement, and all its gradients along the state would be 0. Compute it anew "
                "in perturb (sobolax.testing.check_environment tests that)"
            )

    def make_teacher(self, environment: Environment) -> Teacher | None:
        """The teacher for an environment, None where the simulator is."""
        if self.teacher == "simulator":
            return None
        return make_teacher(
            environment.observation_size,
            environment.action_size,
            self.hidden_sizes,
            self.activation,
        )

    def make_weighting(self, base: Weights) -> Weighting:
        """The weighting of these base weights."""
        if isinstance(self.weighting, str):
            return make_weighting(self.weighting, base, max(1, self.updates))
        return self.weighting(base)

    def base_weights(self, hyper: Any) -> Weights:
        """Those of `hyper`, 0 for a kind of gradients without directions: no rule counts it."""
        idle = {
            kind: jnp.zeros_like(jnp.asarray(getattr(hyper.weights, kind)))
            for kind, count in self.directions.items()
            if count == 0
        }
        return replace(hyper.weights, **idle)

    def critic_options(self, critics: int) -> CriticOptions:
        """What the agent's critics are made of."""
        return CriticOptions(
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            count=critics,
            gradient_target=self.gradient_target,
            weighting=lambda hyper: self.make_weighting(self.base_weights(hyper)),
            line_search=self.line_search,
            norm=self.critic_norm,
            gradient_units=self.gradient_units,
            trust=self.trust,
            smoothness=self.critic_smoothness,
        )
