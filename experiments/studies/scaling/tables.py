"""Tables of a measurement: the same rows on the console and in Markdown."""

import math
from collections.abc import Sequence

from experiments.report.table import Table
from experiments.studies.scaling import analysis
from experiments.studies.scaling.analysis import Median, Size, Variant, median
from experiments.studies.scaling.variants import CONTROLS, GRADIENTS, LABELS, PLAIN

NOTES = {
    "steps": "Environment steps",
    "updates": "Updates",
    "seconds": "Seconds of a run, where all seeds run side by side; compilation left out",
}


def listings(sizes: Sequence[Size]) -> list[Table]:
    """All tables, in the order they are read; those that would be empty are left out."""
    made = [
        advantages(sizes),
        *(needed(sizes, quantity) for quantity in analysis.QUANTITIES),
        returns(sizes),
        choices(sizes),
        references(sizes),
        prices(sizes),
    ]
    return [listing for listing in made if listing.rows]


def needed(sizes: Sequence[Size], quantity: str) -> Table:
    """A row for each family, a column for each n, and the exponent of n."""
    rows = []
    for family in analysis.families_of(sizes):
        cells = []
        for size in sizes:
            variant = analysis.best(size, [family])
            cells.append("" if variant is None else cell(size, variant, quantity))
        fitted = analysis.exponent(sizes, family, quantity)
        rows.append((LABELS[family], *cells, "" if fitted is None else power(fitted)))
    return Table(
        f"{NOTES[quantity].split(';')[0].split(' of a run')[0]} to the stated return",
        ("", *(f"n = {size['n']}" for size in sizes), "exponent of n"),
        rows,
        note=f"{NOTES[quantity]}: median over seeds (and interval), seeds that got there. Of every "
        "family the best of its settings at each n. > stands for more than the budget.",
    )


def advantages(sizes: Sequence[Size]) -> Table:
    """How many times as much tuned plain SAC needs, in steps and in time."""
    rows = []
    for size in sizes:
        steps, seconds = (analysis.advantage(size, name) for name in ("steps", "seconds"))
        if steps is None or seconds is None:
            continue
        rows.append(
            (
                str(size["n"]),
                named(steps.plain),
                named(steps.gradients),
                ratio(steps),
                _number(steps.careful),
                ratio(seconds),
                _number(seconds.careful),
            )
        )
    return Table(
        "Tuned plain SAC over the best variant with gradients",
        ("n", "plain SAC's best", "best with gradients", "steps", "at least", "time", "at least "),
        rows,
        names=3,
        note="Ratios of medians; 'at least' is the ratio of the ends of their intervals that are "
        "nearest to each other. > marks a lower bound: plain SAC spent its budget.",
    )


def returns(sizes: Sequence[Size]) -> Table:
    """The share of the way at the same number of steps, a column for each n."""
    rows = []
    for family in analysis.families_of(sizes):
        cells = []
        for size in sizes:
            variant = analysis.best(size, [family])
            cells.append("" if variant is None else share(variant["shares_at_shared_steps"]))
        rows.append((LABELS[family], *cells))
    return Table(
        "Return after the steps that variants with gradients have",
        ("", *(f"n = {size['n']}, {size['shared_steps']:,} steps" for size in sizes)),
        rows,
        note="0 is doing nothing, 1 the reference controller; median over seeds (and interval). A "
        "family's variant at each n is the one of the tables above.",
    )


def choices(sizes: Sequence[Size]) -> Table:
    """Every setting of every family."""
    rows = []
    kinds = {**dict.fromkeys(PLAIN, "plain"), **dict.fromkeys(GRADIENTS, "gradients")}
    kinds |= dict.fromkeys(CONTROLS, "control")
    settings = dict.fromkeys(
        (variant["family"], variant["setting"]) for size in sizes for variant in size["variants"]
    )
    for family, setting in sorted(settings, key=lambda pair: list(LABELS).index(pair[0])):
        cells = []
        for size in sizes:
            found = [
                a for a in size["variants"] if (a["family"], a["setting"]) == (family, setting)
            ]
            if not found:
                cells.append("")
                continue
            middle = median(analysis.values(size, found[0], "steps"))
            mark = " *" if found[0] is analysis.best(size, [family]) else ""
            cells.append(steps_cell(found[0], middle) + mark)
        rows.append((LABELS[family], setting, *cells))
    return Table(
        "All settings: environment steps",
        ("", "setting", *(f"n = {size['n']}" for size in sizes)),
        rows,
        names=2,
        note="Median over seeds, seeds that got there; * marks the setting chosen.",
    )


def references(sizes: Sequence[Size]) -> Table:
    """What the stated return is."""
    rows = []
    for size in sizes:
        low, high = size["nothing"], size["reference"]
        stated = low + size["share"] * (high - low)
        rows.append((str(size["n"]), f"{low:.1f}", f"{high:.1f}", f"{stated:.1f}"))
    controller = sizes[0]["controller"] if sizes else ""
    return Table(
        "The stated return",
        ("n", "doing nothing", "reference controller", "stated return"),
        rows,
        note=f"Undiscounted, means over all evaluation episodes. Reference: {controller}.",
    )


def prices(sizes: Sequence[Size]) -> Table:
    """What a step and an update cost."""
    rows = []
    for size in sizes:
        plain, gradients = size["prices"]["plain"], size["prices"]["gradients"]
        cells = [
            f"{1e3 * price[name]:.3g}"
            for name in ("seconds_per_step", "seconds_per_update")
            for price in (plain, gradients)
        ]
        below = plain["seconds_per_update"]
        # Updates that cost less than the clock tells have no ratio.
        times = f"{gradients['seconds_per_update'] / below:.1f}" if below > 0 else "–"
        rows.append((str(size["n"]), *cells, times))
    return Table(
        "Prices",
        (
            "n",
            "step, plain",
            "step, gradients",
            "update, plain",
            "update, gradients",
            "update, ratio",
        ),
        rows,
        note="Milliseconds of a run, where all seeds run side by side; timed in turn.",
    )


def cell(size: Size, variant: Variant, quantity: str) -> str:
    """Median, interval and how many seeds got there."""
    found = median(analysis.values(size, variant, quantity))
    most = analysis.budget(size, variant, quantity)
    there = sum(steps is not None for steps in variant["steps"])
    interval = f"[{_limit(found.low, most)}, {_limit(found.high, most)}]"
    return f"{_limit(found.middle, most)} {interval} {there}/{len(variant['steps'])}"


def steps_cell(variant: Variant, found: Median) -> str:
    """Median and how many seeds got there."""
    there = sum(steps is not None for steps in variant["steps"])
    return f"{_limit(found.middle, variant['budget'])} {there}/{len(variant['steps'])}"


def named(variant: Variant) -> str:
    """Family and setting."""
    return f"{LABELS[variant['family']]}; {variant['setting']}"


def ratio(advantage: analysis.Advantage) -> str:
    """A ratio, marked where it is a lower bound."""
    return ("> " if advantage.bound else "") + _number(advantage.ratio)


def power(fitted: analysis.Exponent) -> str:
    """An exponent with its interval and how many sizes it rests on."""
    return f"{fitted.value:.2f} [{fitted.low:.2f}, {fitted.high:.2f}], {len(fitted.sizes)} n"


def share(numbers: Sequence[float | None]) -> str:
    """Median and interval of shares; what is not finite is lowest."""
    found = median([-math.inf if number is None else number for number in numbers])
    return f"{_short(found.middle)} [{_short(found.low)}, {_short(found.high)}]"


def _limit(value: float, most: float) -> str:
    return _number(value) if math.isfinite(value) else f"> {_number(most)}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
