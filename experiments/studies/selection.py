"""SAC whose gradient target and weighting are traced numbers: controls and rules side by side.

A sweep over names is a sweep over numbers here, so that variants which differ in what their
gradients are matched to, or in how their loss is weighted, are runs of one compiled program.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

import sobolax
from sobolax import weighting
from sobolax.agents import sac as agent
from sobolax.agents.config import register_hyperparameters
from sobolax.controls import GRADIENT_TARGETS, GradientTarget, check_gradient_target
from sobolax.environment import Environment
from sobolax.losses import Errors, Weights
from sobolax.training.loop import Training


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(sobolax.agents.sac.Hyperparameters):
    """SAC's, and which of the names that `make_training` was given.

    Attributes:
        gradient_target: Place in the tuple of gradient targets; a float is rounded.
        weighting: Place in the tuple of weightings; a float is rounded.
    """

    gradient_target: Any = 0
    weighting: Any = 0


def make_training(
    environment: Environment,
    config: sobolax.agents.sac.Config,
    gradient_targets: Sequence[str] = ("bellman",),
    weightings: Sequence[str] = ("constant",),
) -> Training:
    """A SAC training whose hyperparameters choose among gradient targets and among weightings.

    All of them are evaluated at every update. Gradient targets and most weightings are a few
    numbers each; a weighting that needs gradients makes every run compute a backward pass per term.

    Args:
        environment: The environment.
        config: Sizes and counts; its `gradient_target` and `weighting` are not looked at.
        gradient_targets: Names in `sobolax.controls.GRADIENT_TARGETS`.
        weightings: Names in `sobolax.weighting.WEIGHTINGS`.

    Returns:
        Pure functions of `Hyperparameters`; nothing is compiled yet.

    Raises:
        ValueError: If the configuration cannot work or a name is unknown.
    """
    if not gradient_targets or not weightings:
        raise ValueError("make_training: name at least one gradient target and one weighting")
    for name in gradient_targets:
        check_gradient_target("selection", name, config.first_order, config.directions)
    for name in weightings:
        weighting.make_weighting(name, Weights(1.0, 1.0), max(1, config.updates))

    def chosen_weighting(hyper: Hyperparameters) -> weighting.Weighting:
        base, updates = config.base_weights(hyper), max(1, config.updates)
        return weighting.choose(
            to_index(hyper.weighting),
            [weighting.make_weighting(name, base, updates) for name in weightings],
        )

    options = replace(
        config.critic_options(critics=2),
        gradient_target=lambda hyper: choose(
            to_index(hyper.gradient_target), [GRADIENT_TARGETS[name] for name in gradient_targets]
        ),
        weighting=chosen_weighting,
    )
    made = agent.make_agent(environment.observation_size, environment.action_size, options)
    return sobolax.make_training(environment, config, replace(made, config=config))


def choose(
    index: jax.typing.ArrayLike, gradient_targets: Sequence[GradientTarget]
) -> GradientTarget:
    """The gradient target that a traced index names; beyond the ends it counts as the nearest."""

    def chosen(errors: Errors, key: jax.Array) -> Errors:
        found = [change(errors, key) for change in gradient_targets]
        return jax.tree.map(lambda *leaves: _take(index, leaves), *found)

    return chosen


def _take(index: jax.typing.ArrayLike, leaves: Sequence[jax.Array]) -> jax.Array:
    """One of some arrays; one that all share is passed on as it is."""
    if all(leaf is leaves[0] for leaf in leaves):
        return leaves[0]
    taken = leaves[0]
    for place, leaf in enumerate(leaves[1:], start=1):
        # A select, not a stack that is indexed: the compiler fuses it into what reads it.
        taken = jnp.where(jnp.asarray(index) >= place, leaf, taken)
    return taken


def to_index(value: Any) -> jax.Array:
    """A hyperparameter, which is a float in a program, as the place in a tuple that it means."""
    return jnp.round(jnp.asarray(value)).astype(jnp.int32)
