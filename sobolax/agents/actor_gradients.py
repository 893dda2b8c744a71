"""What an actor climbs: its critic, or the critic's target through a fresh step of the simulator.

- `critic`: `dQ/da` of the critic, as published for SAC.
- `simulator`: `d/da [c r + gamma d V(o')]` at the action that the policy takes at the replayed
  state today, through reward and dynamics: SVG(1) with a known model (Heess et al., 2015, arXiv
  1510.09142). `V` is a fixed function, that of the critic's own target: no parameter of the policy
  is moved through what it does at `o'`.
- `mixed`: `w` of the simulator's gradient and `1 - w` of the critic's, along every coordinate of
  the action. If the error of `grad Q` is one per unit of action, and that of `grad V` one in every
  normalised coordinate, `gamma rho` of the latter arrives along the action (see
  `sobolax.tangents.trust`). Weights by the inverse of the variances are then
  `w = 1 / (1 + (gamma rho)^2)`: the simulator's where a step contracts, the critic's at an impact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.agents.gradients import scale_gradient
from sobolax.losses import TDError, sobolev_errors
from sobolax.tangents.forward import TransitionMap
from sobolax.tangents.fresh import FreshSteps
from sobolax.tangents.units import gradient_scales
from sobolax.transition import Tangents, Transition

#: Their names.
ACTOR_GRADIENTS = ("critic", "simulator", "mixed")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TargetGradient:
    """The gradient of a target with respect to the action, and how much of it is taken.

    Attributes:
        along_action: `dy/da`, `(action_size,)`; 0 where it is not valid.
        weight: `w`, `(action_size,)`; 0 where it is not valid.
        valid: Whether the fresh step and its derivatives are finite and within the bound, `()`
            bool.

    Example:
        >>> from sobolax.cart import example_transition
        >>> delta = lambda t: -(t.reward + 0.5 * t.discount * t.next_observation[0])
        >>> found = differentiate_target(delta, *example_transition())
        >>> found.along_action.tolist(), found.weight.tolist()  # -0.625 + 0.5 / 4
        ([-0.5], [1.0])
    """

    along_action: jax.Array
    weight: jax.Array
    valid: jax.Array


def differentiate_target(
    td_error: TDError,
    transition: Transition,
    tangents: Tangents | TransitionMap,
    tangent_bound: jax.typing.ArrayLike = jnp.inf,
    *,
    trusted: tuple[jax.Array, Any] | None = None,
) -> TargetGradient:
    """The gradient of the target of a TD error with respect to the action.

    Args:
        td_error: A TD error; only its target counts.
        transition: A fresh step (`sobolax.tangents.fresh`).
        tangents: Its tangents along the full basis of the action, or its map.
        tangent_bound: Longer tangents are not valid.
        trusted: For weights below 1, what the normaliser divides observations by,
            `(observation_size,)`, and gamma, `()`. Needs tangents.

    Example:
        >>> from sobolax.cart import example_transition
        >>> delta = lambda t: -(t.reward + 0.5 * t.discount * t.next_observation[0])
        >>> found = differentiate_target(
        ...     delta, *example_transition(), trusted=(jnp.array([0.25, 1.0]), 0.5)
        ... )
        >>> print(found.weight.round(3))  # the action moves o' by (1/4, 1/2): rho^2 = 1.25
        [0.762]
    """
    errors = sobolev_errors(td_error, transition, tangents, tangent_bound)
    valid = errors.value_valid & jnp.all(errors.action.valid)
    weight = jnp.ones_like(errors.action.target)
    if trusted is not None:
        deviation, discount = trusted
        onward = discount * transition.discount
        scales = gradient_scales(tangents, deviation, onward, trust="soft")
        weight = jnp.square(scales.action)  # those are for gradients that are squared
    return TargetGradient(
        jnp.where(valid, errors.action.target, 0.0), jnp.where(valid, weight, 0.0), valid
    )


def differentiate_targets(
    make_td_error: Callable[[Any], TDError],
    fresh: FreshSteps,
    extras: Any,
    trusted: tuple[jax.Array, Any] | None = None,
) -> TargetGradient:
    """The same for a batch of fresh steps.

    Args:
        make_td_error: `extra -> TDError`.
        fresh: The steps.
        extras: What else a TD error depends on (noise, say), with a leading batch axis.
        trusted: As for one.

    Example:
        >>> from sobolax.cart import example_transition
        >>> batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), example_transition())
        >>> scaled = lambda scale: lambda t: -scale * t.reward
        >>> found = differentiate_targets(scaled, FreshSteps(*batch, 1e3), jnp.array([1.0, 2.0]))
        >>> found.along_action.ravel().tolist()
        [-0.625, -1.25]
    """

    def one(transition: Transition, tangents: Tangents | TransitionMap, extra: Any):
        bound = fresh.tangent_bound
        delta = make_td_error(extra)
        return differentiate_target(delta, transition, tangents, bound, trusted=trusted)

    return jax.vmap(one)(fresh.transition, fresh.tangents, extras)


def climb(
    value: Callable[[jax.Array], jax.Array], action: jax.Array, found: TargetGradient | None
) -> jax.Array:
    """The critic's value of an action, with the gradient that the actor is to follow.

    Args:
        value: `action -> ()`, of the critic.
        action: `(action_size,)`.
        found: The target's gradient; None for the critic's alone.

    Example:
        >>> found = TargetGradient(jnp.array([5.0]), jnp.array([0.25]), jnp.array(True))
        >>> value = lambda a: 2.0 * a[0]
        >>> climbed, gradient = jax.value_and_grad(lambda a: climb(value, a, found))(jnp.ones(1))
        >>> float(climbed), gradient.tolist()  # a quarter of 5, three quarters of 2
        (2.0, [2.75])
    """
    if found is None:
        return value(action)
    moved = action - jax.lax.stop_gradient(action)  # zero, but for its gradient
    own = value(scale_gradient(action, 1.0 - found.weight))
    return own + jnp.sum(found.weight * found.along_action * moved)


def check_fresh_steps(owner: str, config: Any) -> None:
    """Raises ValueError, saying what to do instead, where no fresh step can be differentiated.

    Args:
        owner: What the messages begin with.
        config: A configuration with `actor_gradient` and `gradients_at`.

    Example:
        >>> from sobolax.agents import sac
        >>> check_fresh_steps("mine", sac.Config(actor_gradient="mixed", first_order="reverse"))
        Traceback (most recent call last):
        ValueError: mine: actor_gradient='mixed' needs to know how much the step stretches every ...
    """
    if config.gradients_at != "replayed":
        _check_policy(owner, config)
    for name, plain in (("actor_gradient", "critic"), ("gradients_at", "replayed")):
        if (value := getattr(config, name)) == plain:
            continue
        what, instead = f"{owner}: {name}={value!r}", f"{name}={plain!r}"
        if config.n_step != 1:
            raise ValueError(
                f"{what} goes through one step, but n_step={config.n_step} keeps the starts of "
                f"several: choose n_step=1, or {instead}"
            )
        if config.gradient_fraction != 1:
            raise ValueError(
                f"{what} needs the state of every transition, but gradient_fraction="
                f"{config.gradient_fraction} keeps those of a part: leave it at 1, or choose "
                f"{instead}"
            )
    if config.actor_gradient == "mixed" and config.first_order == "reverse":
        at_policy = config.gradients_at == "policy"
        others = "'recomputed'" if at_policy else "'cached', 'recomputed' or 'off'"
        raise ValueError(
            f"{owner}: actor_gradient='mixed' needs to know how much the step stretches every "
            f"direction, which first_order='reverse' never computes: choose {others}, or "
            "actor_gradient='simulator'"
        )


def _check_policy(owner: str, config: Any) -> None:
    """What gradients at the policy's own action need; see `check_fresh_steps`."""
    what = f"{owner}: gradients_at={config.gradients_at!r}"
    if config.first_order not in ("recomputed", "reverse"):
        raise ValueError(
            f"{what} needs derivatives at actions that were never taken, but first_order="
            f"{config.first_order!r} has none: choose 'recomputed' or 'reverse'"
        )
    if config.teacher != "simulator":
        raise ValueError(
            f"{what} takes the simulator's own tangents there, and a teacher would have no "
            f"effect: leave out teacher={config.teacher!r}, or choose gradients_at='replayed'"
        )
    if config.gradient_units == "state_std":
        raise ValueError(
            f"{what} does not go with gradient_units='state_std', whose statistics scale what "
            "was replayed: choose 'observation_std' or 'raw'"
        )
    if config.actor_gradient != "critic" and config.action_directions is not None:
        raise ValueError(
            f"{what} and actor_gradient={config.actor_gradient!r} share one step, and the actor "
            f"needs its derivatives along the whole action, but action_directions="
            f"{config.action_directions} draws random ones: leave it at None"
        )
