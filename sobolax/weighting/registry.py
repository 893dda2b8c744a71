"""Weightings by name."""

from collections.abc import Callable

from sobolax.checks import check_choice
from sobolax.losses import Weights
from sobolax.weighting.adaptive import constrained, guarded, relative_loss_progress, scale_free
from sobolax.weighting.fixed import constant, scheduled, warm_up
from sobolax.weighting.gradients import conflict_free, gradient_norm_balance
from sobolax.weighting.interface import Weighting


def _falling_to_zero(base: Weights, updates: int) -> Weighting:
    import optax  # late: somebody who wants a weighting need not wait for optimisers

    return scheduled(base, optax.cosine_decay_schedule(1.0, updates))


_FACTORIES: dict[str, Callable[[Weights, int], Weighting]] = {
    "constant": lambda base, updates: constant(base),
    "schedule": _falling_to_zero,
    "scale_free": lambda base, updates: scale_free(base),
    "relative_loss_progress": lambda base, updates: relative_loss_progress(base),
    "gradient_norm_balance": lambda base, updates: gradient_norm_balance(base),
    "conflict_free": lambda base, updates: conflict_free(base),
    "constrained": lambda base, updates: constrained(base),
    "warm_up": lambda base, updates: scheduled(base, warm_up(updates // 10, updates // 10)),
    "guarded": lambda base, updates: guarded(base),
}

WEIGHTINGS: tuple[str, ...] = tuple(_FACTORIES)


def make_weighting(name: str, base: Weights, updates: int) -> Weighting:
    """A weighting by name, with its default options.

    Args:
        name: One of `WEIGHTINGS`.
        base: Weights to be multiplied, numbers or traced.
        updates: How many updates the training has; "schedule" decays to 0 over them, along a
            cosine; "warm_up" waits for a tenth of them and rises over another tenth.

    Raises:
        ValueError: If there is no such weighting, or no update.

    Example:
        >>> from sobolax.weighting import Signals
        >>> rule = make_weighting("constant", Weights(state=0.5, action=2.0), updates=100)
        >>> weights, _ = rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))
        >>> float(weights.value), float(weights.state), float(weights.action)
        (1.0, 0.5, 2.0)
    """
    check_choice("weighting ", name, WEIGHTINGS)
    if updates < 1:
        raise ValueError(f"weighting {name!r}: updates={updates} must be at least 1")
    return _FACTORIES[name](base, updates)
