"""How the terms of the Sobolev loss are weighted: TD error, gradients along state and action.

A `Weighting` is two pure functions, `init() -> state` and `update(state, signals) -> (weights,
state)`; it is handed what a batch says (`Signals`) and multiplies base weights, numbers or traced.

- `constant`, `scheduled`: base weights, perhaps times a schedule (`warm_up` is one).
- `scale_free`: free of the units of reward, state and action.
- `relative_loss_progress`, `gradient_norm_balance`: terms that lag behind count more.
- `conflict_free`: an update that agrees with values and gradients alike.
- `constrained`: gradients as far as values allow.
- `guarded`: gradients only while values do not get worse.
- `choose`: one of several, by a traced index.
- `make_weighting`: by name, one of `WEIGHTINGS`.
- `measure_signals`: what a rule looks at, from the errors of a batch.
- `check_weighting`: whether one of your own keeps to the rules.
"""

from sobolax.weighting.adaptive import constrained, guarded, relative_loss_progress, scale_free
from sobolax.weighting.check import check_weighting
from sobolax.weighting.fixed import choose, constant, scheduled, warm_up
from sobolax.weighting.gradients import conflict_free, gradient_norm_balance
from sobolax.weighting.interface import Signals, Weighting, measure_signals
from sobolax.weighting.registry import WEIGHTINGS, make_weighting

__all__ = [
    "WEIGHTINGS",
    "Signals",
    "Weighting",
    "check_weighting",
    "choose",
    "conflict_free",
    "constant",
    "constrained",
    "gradient_norm_balance",
    "guarded",
    "make_weighting",
    "measure_signals",
    "relative_loss_progress",
    "scale_free",
    "scheduled",
    "warm_up",
]
