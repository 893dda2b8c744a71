"""What is compared: plain learning, Sobolev learning, and the controls."""

from dataclasses import dataclass

from sobolax.checks import check_choice
from sobolax.controls import GRADIENT_TARGETS


@dataclass(frozen=True)
class Variant:
    """One way to learn; all numbers are traced, so that many variants are one compiled program.

    Attributes:
        name: In results.
        label: Its display name.
        state_weight: λ_s.
        action_weight: λ_a.
        gradient_target: What gradients are matched to, a name in
            `sobolax.controls.GRADIENT_TARGETS`.
        action_noise: Standard deviation of the noise on the target's action (TD3), cut off at two
            and a half of it.
        weight_decay: Of AdamW.
        more_data: How many times the transitions of the other variants.
    """

    name: str
    label: str
    state_weight: float = 0.0
    action_weight: float = 0.0
    gradient_target: str = "bellman"
    action_noise: float = 0.0
    weight_decay: float = 0.0
    more_data: int = 1

    def __post_init__(self) -> None:
        """Refuses a gradient target that there is not."""
        check_choice("gradient_target=", self.gradient_target, GRADIENT_TARGETS)


PLAIN = Variant("plain", "plain")
SOBOLEV = Variant("sobolev", "Sobolev", 1.0, 1.0)
PAIR = (PLAIN, SOBOLEV)
# Noise and decay are those that served best in `--study tuning`. The penalties served the better
# the smaller their weight: they are shown at Sobolev's own, and at a tenth of a thousandth of it.
VARIANTS = (
    *PAIR,
    Variant("state_only", "λ_s only", 1.0, 0.0),
    Variant("action_only", "λ_a only", 0.0, 1.0),
    Variant("smoothed", "plain, smoothed target action", action_noise=0.1),
    Variant("sobolev_smoothed", "Sobolev, smoothed target action", 1.0, 1.0, action_noise=0.1),
    Variant("weight_decay", "plain, weight decay", weight_decay=1e-2),
    Variant("more_data", "plain, three times the data", more_data=3),
    Variant("zero", "penalty towards 0", 1.0, 1.0, "zero"),
    Variant("weak_zero", "penalty towards 0, λ = 1e-4", 1e-4, 1e-4, "zero"),
    Variant("unit_norm", "penalty towards norm 1", 1.0, 1.0, "unit_norm"),
    Variant("weak_unit_norm", "penalty towards norm 1, λ = 1e-4", 1e-4, 1e-4, "unit_norm"),
    Variant("shuffled", "gradients shuffled in the batch", 1.0, 1.0, "shuffled"),
    Variant("random", "random gradients of the same norm", 1.0, 1.0, "random"),
)

# What noise, decay and the weights of penalties were chosen from.
TUNED = (
    *(Variant(f"bellman {w:g}", f"Sobolev, λ = {w:g}", w, w) for w in (0.1, 1.0, 10.0)),
    *(
        Variant(f"decay {w:g}", f"weight decay {w:g}", weight_decay=w)
        for w in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
    ),
    *(Variant(f"noise {w:g}", f"action noise {w:g}", action_noise=w) for w in (0.05, 0.1, 0.2)),
    *(
        Variant(f"{name} {weight:g}", f"{name}, λ = {weight:g}", weight, weight, name)
        for weight in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
        for name in ("zero", "unit_norm", "shuffled", "random")
    ),
)
LABELS = {variant.name: variant.label for variant in (*VARIANTS, *TUNED)}
