"""What a person sees of a sweep: all shards as one, with the time left."""

import numpy as np

from experiments.launch.history import RETURN, History, steady_steps_per_second
from experiments.launch.progress import Progress, Step, seconds_left


class OverShards(Progress):
    """The progress of every shard in turn, shown as that of all of them together.

    Args:
        progress: Shows it.
        shards: How many there are.
        epochs: How many each one has.
    """

    def __init__(self, progress: Progress, shards: int, epochs: int):
        self._progress, self._shards, self._epochs = progress, shards, epochs
        self._index = 0
        self._told: set[str] = set()

    def begin(self, index: int) -> None:
        """The next shard's turn."""
        self._index = index

    def phase(self, name: str) -> None:
        """Names the phase, and the shard where there are several."""
        self._progress.phase(f"{self._place()}{name}")

    def epoch(self, history: History, epochs: int) -> None:
        """One epoch of the shard is done."""
        done = self._index * epochs + len(history.epochs)
        left = seconds_left(history, epochs)
        if left is not None:
            each = (history.seconds[-1] - history.seconds[0]) / max(len(history.seconds) - 1, 1)
            each = each or history.seconds[-1]
            left += each * epochs * (self._shards - self._index - 1)
        texts = [text for text in (self._place().rstrip(": "), *status(history)) if text]
        self._progress.step(Step(done, self._shards * epochs, texts, left))

    def note(self, text: str) -> None:
        """Passes it on, once: shards are alike."""
        if text not in self._told:
            self._told.add(text)
            self._progress.note(text)

    def warn(self, text: str) -> None:
        """Passes it on."""
        self._progress.warn(f"{self._place()}{text}")

    def close(self) -> None:
        """There is nothing to close: `progress` is its maker's."""

    def _place(self) -> str:
        return f"shard {self._index + 1}/{self._shards}: " if self._shards > 1 else ""


def status(history: History) -> list[str]:
    """Steps, range of returns, frozen members and speed, as short texts."""
    told = []
    steps, returns = history.last("environment_steps"), history.sound(RETURN)
    if steps is not None:
        told.append(f"{steps.mean():,.0f} steps")
    if returns is not None:
        finite = returns[-1][np.isfinite(returns[-1])]
        text = (
            f"from {finite.min():.1f} over {np.median(finite):.1f} to {finite.max():.1f}"
            if finite.size
            else "not finite"
        )
        told.append(f"return {text}")
    if history.frozen.size and history.frozen[-1].any():
        told.append(f"{int(history.frozen[-1].sum())} frozen")
    speed = steady_steps_per_second(history)
    if speed is not None:
        told.append(f"{speed:,.0f} steps/s")
    return told
