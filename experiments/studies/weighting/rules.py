"""The rows of the table: a weighting, its base weight, and what else differs from the plain agent.

A rule's name says what it does; where one is tried at several base weights, these come last.
"""

import math
from dataclasses import dataclass

from sobolax.losses import Weights
from sobolax.weighting import make_weighting

# Five orders of magnitude.
CONSTANTS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
PLAIN = "plain"
GRADIENT_BOUND = 1.0


@dataclass(frozen=True)
class Rule:
    """One way to weight gradients.

    Attributes:
        name: What the command line and files call it.
        label: What tables and plots call it.
        paper: Where it comes from; empty for what is no paper's.
        weighting: A name in `sobolax.weighting.WEIGHTINGS`.
        weight: Base weight of both gradients, lambda_s = lambda_a.
        huber_delta: Gradient errors of larger norm count linearly.
        line_search: Whether every step of the critic is shortened until it lowers the value loss.
    """

    name: str
    label: str
    paper: str = ""
    weighting: str = "constant"
    weight: float = 1.0
    huber_delta: float = math.inf
    line_search: bool = False

    @property
    def group(self) -> str:
        """The program that it is part of: one per kind of extra cost."""
        if self.line_search:
            return "line search"
        base = Weights(1.0, 1.0)
        if make_weighting(self.weighting, base, updates=1).needs_gradients:
            return "a gradient per term"
        return "one gradient"

    @property
    def constant(self) -> bool:
        """Whether it belongs to the sweep that the best constant is chosen from."""
        ordinary = self.weighting == "constant" and math.isinf(self.huber_delta)
        return ordinary and not self.line_search and self.weight > 0


def _constant(weight: float) -> Rule:
    paper = "First-Order Sobolev RL, arXiv 2511.19165"
    return Rule(f"constant_{weight:g}", f"constant {weight:g}", paper, weight=weight)


def _scale_free(weight: float) -> Rule:
    paper = "Differential machine learning, arXiv 2005.02347"
    name, label = f"scale_free_{weight:g}", f"scale-free {weight:g}"
    return Rule(name, label, paper, "scale_free", weight)


_ALL: tuple[Rule, ...] = (
    Rule(PLAIN, "plain (λ = 0)", weight=0.0),
    *map(_constant, CONSTANTS),
    Rule("schedule", "schedule, cosine to 0", "cosine of SGDR, arXiv 1608.03983", "schedule"),
    Rule("warm_up", "warm-up, a tenth", weighting="warm_up"),
    Rule("guarded", "while values improve", weighting="guarded"),
    Rule("huber", "Huber", "Huber, 1964", huber_delta=GRADIENT_BOUND),
    *map(_scale_free, (0.1, 1.0)),
    Rule(
        "relative_loss_progress",
        "loss progress (ReLoBRaLo)",
        "ReLoBRaLo, arXiv 2110.09813",
        "relative_loss_progress",
    ),
    Rule("constrained", "constraint (GECO)", "GECO, arXiv 1810.00597", "constrained"),
    Rule(
        "gradient_norm_balance",
        "gradient norms (GradNorm)",
        "GradNorm, arXiv 1711.02257",
        "gradient_norm_balance",
    ),
    Rule("conflict_free", "conflict-free (ConFIG)", "ConFIG, arXiv 2408.11104", "conflict_free"),
    Rule("line_search_0", "line search, λ = 0", "Armijo, 1966", weight=0.0, line_search=True),
    Rule("line_search_1", "line search, λ = 1", "Armijo, 1966", line_search=True),
)

RULES = {rule.name: rule for rule in _ALL}
