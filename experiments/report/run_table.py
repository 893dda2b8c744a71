"""The final table on the terminal."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from experiments.report.results import (
    RETURN,
    counted,
    dropped_gradients,
    frozen_runs,
    metric,
    sentence,
)
from experiments.report.table import Table, fitting, number, text, wide_console
from sobolax.training.shares import SHARES

# Two numbers to a cell, one below the other, so that a terminal of 80 columns holds them all.
_COLUMNS = {
    "value, error": ("value_error",),
    "∇s Q, error, cosine": ("state_gradient_error", "state_gradient_cosine"),
    "∇a Q, error, cosine": ("action_gradient_error", "action_gradient_cosine"),
}
# Over a whole run: the share of gradient terms out of bounds, and transitions that are not finite.
_DROPPED, _NONFINITE = "gradients_dropped", "transitions_nonfinite"
# A reference that misses more than this share of the return's weight says little about values.
_LONG_TAIL = 0.1
# Of those with the largest shares of the gradient loss.
_COORDINATES = 6


def render(results: Mapping[str, Any], title: str) -> RenderableType:
    """The table of a run, its times, and one sentence on the difference of the variants."""
    timing = results["timing"]
    speed = timing["steady_steps_per_second"]
    runs = len(results["variants"]) * results["seeds"]
    rows = [_row(results, name, speed and speed / runs) for name in results["variants"]]
    headings = ("variant", "return, [95 %]", *_COLUMNS, "dropped, non-fin.", "steps/s, per seed")
    parts: list[RenderableType] = [Table(title, headings, rows).rendered()]
    if any("*" in cell for row in rows for cell in row):
        parts.append(Text("* over the seeds whose value is finite and that are not frozen"))
    for warning in (frozen_runs(results), dropped_gradients(results)):
        if warning is not None:
            parts.append(Text(warning, style="yellow"))
    line = f"{counted(runs, 'run')} in one program: compiled in {timing['compile_seconds']:.0f} s"
    if speed is not None:
        line += f", {speed:,.0f} environment steps/s in all"
    parts.append(Text(f"{line}, {timing['wall_seconds']:.0f} s altogether."))
    tails = [metric(results, variant, "tail") for variant in results["variants"]]
    tail = max((found.mean for found in tails if found and found.mean is not None), default=0.0)
    if tail > _LONG_TAIL:
        parts.append(
            Text(
                "Critic errors are against rollouts too short for the discount: "
                f"what lies beyond them weighs {number(tail)}."
            )
        )
    shares = filter(None, map(partial(_shares, results), SHARES))
    parts += [table.rendered() for table in shares]
    if results["interrupted"]:
        parts.append(Text(f"Interrupted after {counted(results['epochs'], 'epoch')}."))
    parts.append(Text(sentence(results)))
    return Group(*parts)


def _shares(results: Mapping[str, Any], prefix: str) -> Table | None:
    """The coordinates with the largest shares of the gradient loss; None without any."""
    found = {
        name: [metric(results, variant, name) for variant in results["variants"]]
        for entry in results["variants"].values()
        for name in entry["metrics"]
        if name.startswith(prefix)
    }
    means = {
        name.removeprefix(prefix): [e.mean if e and e.mean is not None else 0.0 for e in estimates]
        for name, estimates in found.items()
    }
    if len(means) < 2:  # the share of a single coordinate is 1
        return None
    kind = prefix.partition("_")[0]
    ordered = sorted(means, key=lambda name: -max(means[name]))
    rows = [(name, *means[name]) for name in ordered[:_COORDINATES]]
    if rest := ordered[_COORDINATES:]:
        sums = map(sum, zip(*(means[name] for name in rest), strict=True))
        rows.append((counted(len(rest), "other"), *sums))
    labels = (variant["label"] for variant in results["variants"].values())
    return Table("", (f"share of the gradient loss by {kind} coordinate", *labels), rows)


def show(results: Mapping[str, Any], title: str, console: Console) -> None:
    """Prints the table; where the output is no terminal, as wide as it needs."""
    console = wide_console(console)
    console.print(fitting(render(results, title), console))


def _row(results: Mapping[str, Any], name: str, speed: float | None) -> list[str]:
    variant = results["variants"][name]
    label, weights, whole = variant["label"], variant["weights"], variant["whole_run"]
    if any(weights.values()):
        label += f"\nλ {weights['state_weight']:g}, {weights['action_weight']:g}"
    cells = [text(metric(results, name, RETURN)).replace(" [", "\n[")]
    for keys in _COLUMNS.values():
        found = (text(metric(results, name, key), intervals=False) for key in keys)
        cells.append("\n".join(found))
    dropped = text(whole.get(_DROPPED))
    if _NONFINITE in whole:
        dropped += f"\n{number(int(whole[_NONFINITE]))}"
    return [label, *cells, dropped, "–" if speed is None else f"{speed:,.0f}"]
