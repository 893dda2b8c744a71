"""The table of a sweep: a row for each setting, the best first."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from experiments.launch.configuration import environment_title
from experiments.report.results import RETURN, RETURN_OVER_TRAINING, counted, frozen_members, metric
from experiments.report.table import Table, text, wide_console
from experiments.sweep.summary import Results, sentence, to_best

TABLE = "table.md"
_SHOWN = 30  # rows on the terminal; the file has all


def listing(results: Results, rows: int | None = None) -> Table:
    """The table.

    Args:
        results: What `results.json` holds.
        rows: How many settings to show; None for all.
    """
    order, close = results["order"], set(results["not_told_from_best"])
    anything_lost = any(
        found is not None and found.count < found.total
        for found in (metric(results, name, RETURN) for name in order)
    )
    table = []
    for name in order[:rows]:
        final = metric(results, name, RETURN)
        difference = to_best(results, order, name, RETURN)
        cells = [
            *(f"{float(value):g}" for value in results["settings"][name].values()),
            text(final),
            "best" if name == order[0] else text(difference, signed=True),
            "≈" if name in close else "",
            text(metric(results, name, RETURN_OVER_TRAINING)),
        ]
        if anything_lost:
            cells.append(_lost(results, name))
        table.append(cells)
    headings = [*results["varied"], "return", "− best", "≈ best", "over training"]
    if anything_lost:
        headings.append("lost seeds")
    seeds = results["seeds"]
    over = f"{seeds} paired seeds" if seeds > 1 else "1 seed"
    note = (
        f"{over}, {results['steps']:,} environment steps each; means with 95 % intervals, one by "
        "one. Return: at the last evaluation. − best: paired by seed; ≈: that interval contains 0. "
        "The best is the best of these numbers, which flatters it. Over training: mean of all "
        "evaluations."
    )
    if anything_lost:
        note += (
            " *: over the seeds that are left. Settings that lost seeds, frozen or not finite, "
            "come last."
        )
    return Table(title(results), headings, table, len(results["varied"]), note)


def title(results: Results) -> str:
    """The environment, its parameters and the agent."""
    environment = environment_title(results["environment"], results["environment_arguments"])
    return f"{results['agent']} on {environment}"


def save(folder: Path, results: Results) -> None:
    """Writes the whole table into a folder that holds none."""
    made = listing(results)
    frozen = frozen_members(results)
    after = "\n".join(text for text in (sentence(results), frozen) if text)
    with (folder / TABLE).open("x") as file:
        file.write(f"# {made.title}\n\n{made.markdown()}\n{after}\n")


def show(results: Results, console: Console) -> None:
    """Prints the table; where the output is no terminal, as wide as it needs."""
    console = wide_console(console)
    console.print(listing(results, _SHOWN).rendered())
    hidden = len(results["order"]) - _SHOWN
    if hidden > 0:
        console.print(f"... and {hidden} more in {TABLE}")
    console.print(Text(sentence(results)))
    frozen = sum(
        step is not None
        for variant in results["variants"].values()
        for step in variant["frozen_at"]
    )
    if frozen:
        text = f"{counted(frozen, 'run')} frozen by numbers that are not finite: see {TABLE}"
        console.print(Text(text, style="yellow"))


def _lost(results: Results, name: str) -> str:
    variant = results["variants"][name]
    found = metric(results, name, RETURN)
    lost = found.total - found.count if found else 0
    frozen = sum(step is not None for step in variant["frozen_at"])
    parts = [f"{frozen} frozen" if frozen else "", f"{lost - frozen} not finite"]
    return ", ".join(part for part in parts if part and not part.startswith("0 ")) or ""
