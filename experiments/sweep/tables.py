"""The table of a sweep: a row for each configuration, the best first."""

from rich.console import Console
from rich.text import Text

from experiments.launch.configuration import environment_title
from experiments.report import table
from experiments.report.results import RETURN, RETURN_OVER_TRAINING, counted, frozen_runs, metric
from experiments.report.table import Table
from experiments.sweep.summary import Results, lost_seeds, sentence, to_best

TABLE = "table.md"
_SHOWN = 30  # rows on the terminal; the file has all


def make_table(results: Results) -> Table:
    """The table of a sweep's `results.json`."""
    order, close = results["order"], set(results["close_to_best"])
    lost = any(lost_seeds(results, name) for name in order)
    rows = [
        [
            *(f"{float(value):g}" for value in results["configs"][name].values()),
            metric(results, name, RETURN),
            "best" if name == order[0] else to_best(results, order, name, RETURN),
            "≈" if name in close else "",
            metric(results, name, RETURN_OVER_TRAINING),
            *([_lost(results, name)] if lost else []),
        ]
        for name in order
    ]
    headings = [*results["varied"], "return", "− best", "≈ best", "over training"]
    seeds = results["seeds"]
    over = f"{seeds} paired seeds" if seeds > 1 else "1 seed"
    note = (
        f"{over}, {results['steps']:,} environment steps each; means with 95 % intervals, one by "
        "one. Return: at the last evaluation. − best: paired by seed; ≈: that interval contains 0. "
        "The best is the best of these numbers, which flatters it. Over training: mean of all "
        "evaluations."
    )
    if lost:
        headings.append("lost seeds")
        note += (
            " *: over the seeds that are left. Configurations that lost seeds, frozen or not "
            "finite, come last."
        )
    texts = (note, sentence(results), frozen_runs(results))
    names = len(results["varied"])
    return Table(title(results), headings, rows, names, " ".join(filter(None, texts)), ["− best"])


def title(results: Results) -> str:
    """The environment, its parameters and the agent."""
    environment = environment_title(results["environment"], results["environment_arguments"])
    return f"{results['agent']} on {environment}"


def show(results: Results, console: Console) -> None:
    """Prints the best rows, at their full width unless the output is a terminal."""
    whole = make_table(results)
    table.show([Table(**{**vars(whole), "rows": whole.rows[:_SHOWN]})], console)
    if len(whole.rows) > _SHOWN:
        console.print(f"... and {len(whole.rows) - _SHOWN} more in {TABLE}")
    frozen = sum(
        step is not None
        for variant in results["variants"].values()
        for step in variant["frozen_at"]
    )
    if frozen:
        text = f"{counted(frozen, 'run')} frozen by numbers that are not finite: see {TABLE}"
        console.print(Text(text, style="yellow"))


def _lost(results: Results, name: str) -> str:
    lost = lost_seeds(results, name)
    frozen = sum(step is not None for step in results["variants"][name]["frozen_at"])
    parts = {"frozen": frozen, "not finite": lost - frozen}
    return ", ".join(f"{count} {what}" for what, count in parts.items() if count > 0)
