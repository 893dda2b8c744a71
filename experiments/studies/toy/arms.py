"""What is compared: plain learning, Sobolev learning, and the controls."""

from dataclasses import dataclass

from sobolax.controls import SLOPE_TARGETS


@dataclass(frozen=True)
class Arm:
    """One way to learn; all numbers are traced, so that many arms are one compiled program.

    Attributes:
        name: In results.
        label: What people call it.
        state_weight: λ_s.
        action_weight: λ_a.
        slope_target: What slopes are matched to, a name in `sobolax.controls.SLOPE_TARGETS`.
        action_noise: Standard deviation of the noise on the target's action (TD3), cut off at two
            and a half of it.
        weight_decay: Of AdamW.
        more_data: How many times the transitions of the other arms.
    """

    name: str
    label: str
    state_weight: float = 0.0
    action_weight: float = 0.0
    slope_target: str = "bellman"
    action_noise: float = 0.0
    weight_decay: float = 0.0
    more_data: int = 1

    def __post_init__(self) -> None:
        """Refuses a slope target that there is not."""
        if self.slope_target not in SLOPE_TARGETS:
            raise ValueError(f"{self.slope_target!r} is not one of {', '.join(SLOPE_TARGETS)}")


PLAIN = Arm("plain", "plain")
SOBOLEV = Arm("sobolev", "Sobolev", 1.0, 1.0)
PAIR = (PLAIN, SOBOLEV)
# Noise and decay are those that served best in `--study tuning`. The penalties served the better
# the smaller their weight: they are shown at Sobolev's own, and at a tenth of a thousandth of it.
ARMS = (
    *PAIR,
    Arm("state_only", "λ_s only", 1.0, 0.0),
    Arm("action_only", "λ_a only", 0.0, 1.0),
    Arm("smoothed", "plain, smoothed target action", action_noise=0.1),
    Arm("sobolev_smoothed", "Sobolev, smoothed target action", 1.0, 1.0, action_noise=0.1),
    Arm("weight_decay", "plain, weight decay", weight_decay=1e-2),
    Arm("more_data", "plain, three times the data", more_data=3),
    Arm("zero", "penalty towards 0", 1.0, 1.0, "zero"),
    Arm("weak_zero", "penalty towards 0, λ = 1e-4", 1e-4, 1e-4, "zero"),
    Arm("unit_norm", "penalty towards norm 1", 1.0, 1.0, "unit_norm"),
    Arm("weak_unit_norm", "penalty towards norm 1, λ = 1e-4", 1e-4, 1e-4, "unit_norm"),
    Arm("shuffled", "slopes shuffled in the batch", 1.0, 1.0, "shuffled"),
    Arm("random", "random slopes of the same norm", 1.0, 1.0, "random"),
)
