"""Tables of what each family needed, how much less than plain SAC, and what it cost."""

import math
from collections.abc import Sequence

from experiments.report.intervals import median
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table, number
from experiments.studies.scaling import analysis
from experiments.studies.scaling.analysis import Measured, Size, sizes_of
from experiments.studies.scaling.families import CONTROLS, GRADIENTS, LABELS, PLAIN
from experiments.studies.scaling.references import TASKS

_QUANTITIES = {
    "steps": "Environment steps",
    "updates": "Updates",
    "seconds": "Seconds of a run, where all seeds run side by side; compilation left out",
}
_AT_SHARED = "share_at_shared_steps"


def tables(rows: Rows) -> list[Table]:
    """All tables, in the order they are read; those that would be empty are left out."""
    sizes = sizes_of(rows)
    made = [
        advantages(sizes),
        *(needed(sizes, quantity) for quantity in _QUANTITIES),
        returns(sizes),
        choices(sizes),
        references(rows),
        costs(rows),
    ]
    return [table for table in made if table.rows]


def title(rows: Rows) -> str:
    """The environment, what is reached, and the seeds."""
    options = rows.options
    return (
        f"{options['env']}: to {100 * options['share']:g} % of the way from doing nothing to "
        f"the reference controller, {options['seeds']} seeds"
    )


def needed(sizes: Sequence[Size], quantity: str) -> Table:
    """A row for each family, a column for each n, and the exponent of n."""
    lines = []
    for family in analysis.families_of(sizes):
        fitted = analysis.exponent(sizes, family, quantity)
        cells = [_needed(size.best([family]), quantity) for size in sizes]
        lines.append((LABELS[family], *cells, None if fitted is None else power(fitted)))
    what = _QUANTITIES[quantity]
    return Table(
        f"{what.split(' of a run')[0]} to the stated return",
        ("", *(f"n = {size.n}" for size in sizes), "exponent of n"),
        lines,
        note=f"{what}: median over seeds (and 95 % interval), seeds that got there. Of every "
        "family the best of its configs at each n. > means more than the budget.",
    )


def advantages(sizes: Sequence[Size]) -> Table:
    """How many times as much tuned plain SAC needs, in steps and in time."""
    lines = []
    for size in sizes:
        steps, seconds = (analysis.advantage(size, name) for name in ("steps", "seconds"))
        if steps is None or seconds is None:
            continue
        names = (_named(steps.gradients), _named(steps.plain), _named(seconds.plain))
        cells: list[Cell] = []
        for found in (steps, seconds):
            cells += [("> " if found.bound else "") + number(found.ratio), found.careful]
        lines.append((str(size.n), *names, *cells))
    names = ("n", "best with gradients", "plain SAC's best, in steps", "plain SAC's best, in time")
    return Table(
        "Tuned plain SAC over the best variant with gradients",
        (*names, "steps", "at least", "time", "at least "),
        lines,
        names=len(names),
        note="Ratios of medians, to the variant with gradients that needs the fewest steps; 'at "
        "least' is the ratio of the ends of their intervals that are nearest to each other. > "
        "marks a lower bound: plain SAC spent its budget.",
    )


def returns(sizes: Sequence[Size]) -> Table:
    """The share of the way at the same number of steps, a column for each n."""
    lines = []
    for family in analysis.families_of(sizes):
        best = [size.best([family]) for size in sizes]
        cells = [
            None if variant is None else median(variant.rows.column(_AT_SHARED), worst=-math.inf)
            for variant in best
        ]
        lines.append((LABELS[family], *cells))
    return Table(
        "Return after the steps that variants with gradients have",
        ("", *(f"n = {size.n}" for size in sizes)),
        lines,
        note="0 is doing nothing, 1 the reference controller; median over seeds (and 95 % "
        "interval). A family's variant at each n is the one of the tables above.",
    )


def choices(sizes: Sequence[Size]) -> Table:
    """Every config of every family."""
    configs = dict.fromkeys(
        (variant.family, variant.config) for size in sizes for variant in size.variants
    )
    lines = []
    for family, config in sorted(configs, key=lambda pair: list(LABELS).index(pair[0])):
        cells = []
        for size in sizes:
            found = [a for a in size.variants if (a.family, a.config) == (family, config)]
            mark = " *" if found and found[0] is size.best([family]) else ""
            cells.append(_needed(found[0], "steps", short=True) + mark if found else None)
        lines.append((LABELS[family], config, *cells))
    return Table(
        "All configs: environment steps",
        ("", "config", *(f"n = {size.n}" for size in sizes)),
        lines,
        names=2,
        note="Median over seeds, seeds that got there; * marks the config chosen.",
    )


def references(rows: Rows) -> Table:
    """What the stated return is."""
    lines = []
    for n in sorted(rows.distinct("n")):
        row = rows.where(n=n)[0]
        low, high = row["nothing"], row["reference"]
        lines.append((str(n), low, high, low + rows.options["share"] * (high - low)))
    return Table(
        "The stated return",
        ("n", "doing nothing", "reference controller", "stated return"),
        lines,
        note="Undiscounted, means over all evaluation episodes. Reference: "
        f"{TASKS[rows.options['env']].controller}.",
    )


def costs(rows: Rows) -> Table:
    """What a step and an update cost."""
    kinds = (tuple(PLAIN), (*GRADIENTS, *CONTROLS))
    lines = []
    for n in sorted(rows.distinct("n")):
        own = [rows.where(n=n).among("family", kind) for kind in kinds]
        cells = [
            1e3 * some[0][name] if some else math.nan
            for name in ("seconds_per_step", "seconds_per_update")
            for some in own
        ]
        # Updates that cost less than the clock resolves have no ratio.
        lines.append((str(n), *cells, cells[3] / cells[2] if cells[2] > 0 else None))
    headings = ("step, plain", "step, gradients", "update, plain", "update, gradients")
    return Table(
        "Costs",
        ("n", *headings, "update, ratio"),
        lines,
        note="Milliseconds of a run, where all seeds run side by side; timed in turn.",
    )


def power(fitted: analysis.Exponent) -> str:
    """An exponent with its interval and how many sizes it rests on."""
    low, high = number(fitted.low), number(fitted.high)
    return f"{number(fitted.value)} [{low}, {high}], {len(fitted.sizes)} n"


def _needed(variant: Measured | None, quantity: str, short: bool = False) -> str:
    """Median, interval and how many seeds got there."""
    if variant is None:
        return ""
    found, most = variant.needed(quantity), variant.budget(quantity)

    def limit(value: float) -> str:
        return number(value) if math.isfinite(value) else f"> {number(most)}"

    text = limit(math.inf if found.median is None else found.median)
    if found.low is not None and found.high is not None and not short:
        text += f" [{limit(found.low)}, {limit(found.high)}]"
    return f"{text} {variant.reached}/{found.total}"


def _named(variant: Measured) -> str:
    return f"{LABELS[variant.family]}; {variant.config}"
