"""Checkpoints of a training: when they are taken and how many are kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointRule:
    """When checkpoints are taken, and how many stay.

    Attributes:
        seconds: Least time between the beginnings of two; 0 for one after every epoch. None for
            a time that bounds the cost: one after the first epoch, and another when at least 50
            times as long has passed as the last one cost, so that they take no more than 2 % of a
            run.
        keep: How many are kept.
    """

    seconds: float | None = None
    keep: int = 2

    def check(self) -> None:
        """Raises ValueError, with the mend, for what cannot work."""
        if self.keep < 1:
            raise ValueError(
                f"--keep-checkpoints {self.keep} must be at least 1; --no-checkpoints takes none"
            )
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise ValueError(
                f"--checkpoint-seconds {self.seconds} must be 0 (one after every epoch) or more; "
                "--no-checkpoints takes none"
            )
