"""What was measured: one row of metrics per epoch, over variants and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.launch.configuration import Variant

RETURN = "evaluation_return"
METRICS, SECONDS = "history/metrics/", "history/seconds"  # names in a checkpoint


@dataclass
class History:
    """Metrics of all epochs done so far.

    Runs are variants times seeds, flattened with the seeds innermost.

    Attributes:
        variants: The variants, in the order of the runs.
        seeds: Seeds per variant.
        epochs: Per epoch, a metric's name to its values, `(variants, seeds)`.
        seconds: Per epoch, the time of its end, from the start of the first.
    """

    variants: Sequence[Variant]
    seeds: int
    epochs: list[dict[str, np.ndarray]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, metrics: Mapping[str, Any], seconds: float) -> None:
        """Appends one epoch: metrics of shape `(runs,)`."""
        shape = (len(self.variants), self.seeds)
        rows = {name: np.array(value, np.float64) for name, value in metrics.items()}
        self.epochs.append({name: row.reshape(shape) for name, row in rows.items()})
        self.seconds.append(seconds)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a checkpoint stores, by name."""
        metrics = {METRICS + name: self._stack(name) for name in self.names}
        return metrics | {SECONDS: np.array(self.seconds, np.float64)}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> "History":
        """The inverse of `to_arrays`, with the same variants and seeds."""
        seconds = arrays[SECONDS].tolist()
        metrics = {
            name.removeprefix(METRICS): values
            for name, values in arrays.items()
            if name.startswith(METRICS)
        }
        epochs = [{name: row[i] for name, row in metrics.items()} for i in range(len(seconds))]
        return History(self.variants, self.seeds, epochs, seconds)

    @property
    def names(self) -> list[str]:
        """Names of the metrics of any epoch: a resumed run may be of a version with others."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch))

    def values(self, name: str) -> np.ndarray | None:
        """One metric of all epochs, `(epochs, variants, seeds)`, NaN in those that lack it.

        None if it was not measured.
        """
        return self._stack(name) if name in self.names else None

    @property
    def frozen(self) -> np.ndarray:
        """Which runs were frozen at the end of each epoch, `(epochs, variants, seeds)` bool."""
        flags = self.values("frozen")
        if flags is None:
            return np.zeros((len(self.epochs), len(self.variants), self.seeds), bool)
        return flags > 0

    def sound(self, name: str) -> np.ndarray | None:
        """As `values`, with NaN for frozen runs, which means and intervals leave out."""
        found = self.values(name)
        return None if found is None else np.where(self.frozen, np.nan, found)

    def last(self, name: str) -> np.ndarray | None:
        """One metric of the last epoch, `(variants, seeds)`; None if it was not measured."""
        return self.epochs[-1].get(name) if self.epochs else None

    def _stack(self, name: str) -> np.ndarray:
        missing = np.full((len(self.variants), self.seeds), np.nan)
        return np.stack([epoch.get(name, missing) for epoch in self.epochs])

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` for one epoch: one per run."""
        return [
            {
                "epoch": epoch,
                "variant": variant.name,
                "seed": seed,
                **variant.weights,
                "seconds": round(self.seconds[epoch], 3),
                **{name: float(row[index, seed]) for name, row in self.epochs[epoch].items()},
            }
            for index, variant in enumerate(self.variants)
            for seed in range(self.seeds)
        ]


def summary(history: History, variant: int, epoch: int) -> tuple[dict[str, float], int]:
    """What trackers get of an epoch of a variant, by name; and its step, of the environment.

    Means (`mean/`) and standard deviations (`std/`) over the seeds that are finite and not frozen,
    and the return of every seed (`seed/`).
    """
    measured = {name: row[variant] for name, row in history.epochs[epoch].items()}
    frozen = measured.get("frozen", np.zeros(history.seeds)) > 0
    found = {"mean/seconds": history.seconds[epoch]}
    for name, row in measured.items():
        kept = np.isfinite(row) & (~frozen | name.startswith("frozen"))
        if name == "frozen_at":
            kept &= row >= 0  # -1 is none
        if kept.any():
            found[f"mean/{name}"] = float(row[kept].mean())
        if kept.sum() > 1:
            found[f"std/{name}"] = float(row[kept].std(ddof=1))
        if name == RETURN and history.seeds > 1:
            found |= {f"seed/{name}_{i}": float(row[i]) for i in np.flatnonzero(kept)}
    steps = measured.get("environment_steps", np.array([epoch + 1.0]))
    return found, int(steps.max())


def steady_steps_per_second(history: History) -> float | None:
    """Environment steps of all runs per second, without the first epoch."""
    steps = history.values("environment_steps")
    if steps is None or len(steps) < 2:
        return None
    passed = history.seconds[-1] - history.seconds[0]
    return float((steps[-1] - steps[0]).sum() / passed) if passed > 0 else None
