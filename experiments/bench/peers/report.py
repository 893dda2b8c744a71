"""What a measurement leaves for people: tables on the console and in Markdown, and JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.report.table import Table, wide_console

TABLE = "table.md"
# Steps/s over the peer's: what issue 5 asks for, and what it hopes for.
GOALS = {"brax": (1.2, 2.0), "rejax": (1.0, 5.0), "sbx": (1.0, 5.0)}


def summary(results: Mapping[str, Any]) -> Table:
    """A row for each comparison."""
    rows = []
    for one in results["comparisons"]:
        found, (reach, hope) = one["ratio"], GOALS[one["peer"]]
        goal = "gone for" if found["median"] >= hope else "reached"
        rows.append(
            (
                one["name"],
                f"{found['median']:.2f}",
                f"{found['smallest']:.2f} to {found['largest']:.2f}",
                f"{found['processor']:.2f}",
                f"{reach:g} / {hope:g}",
                goal if found["median"] > reach else "missed",
            )
        )
    note = (
        "Environment steps per second over the peer's, the fastest contender of either; and the "
        "same per second of processor time, which what else runs on the machine disturbs less."
    )
    headings = ("comparison", "ratio", "min to max", "processor time", "reach / go for", "")
    return Table("Plain SAC against other libraries", headings, rows, note=note)


def contenders(one: Mapping[str, Any]) -> Table:
    """A row for each contender of a comparison."""
    best = next(r for r in one["contenders"] if r["label"] == one["ratio"]["peer"])
    rows = []
    for row in one["contenders"]:
        update = row["processor_seconds_per_update"]
        rows.append(
            (
                row["label"],
                f"{row['steps_per_second']:,.0f}",
                f"{row['steps_per_second'] / best['steps_per_second']:.2f}",
                f"{row['updates_per_environment_step']:.3g}",
                "–" if update is None else f"{update * 1e3:.3g}",
                f"{row['processor_seconds_per_collected_step'] * 1e6:.3g}",
                f"{row['start_seconds']:.0f}",
            )
        )
    headings = (
        "",
        "steps/s",
        "over peer",
        "updates per step",
        "CPU ms per update",
        "CPU µs per step collected",
        "start s",
    )
    return Table(one["title"], headings, rows, note=one["note"])


def show(results: Mapping[str, Any], console: Console) -> None:
    """Prints all tables; where the output is no terminal, as wide as they need."""
    console = wide_console(console)
    for one in results["comparisons"]:
        console.print(contenders(one).rendered())
    if results["comparisons"]:
        console.print(summary(results).rendered())
    for name, reason in results["left_out"].items():
        console.print(Text(f"left out: {name}: {reason}"), soft_wrap=True)


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json and table.md."""
    run_folder.write_json(folder / run_folder.RESULTS, results)
    parts = ["# Plain SAC against other libraries\n"]
    if results["comparisons"]:
        parts += [summary(results).markdown()]
    for one in results["comparisons"]:
        parts.append(f"## {one['title']}\n\n{contenders(one).markdown()}\n{_versions(one)}")
    if results["left_out"]:
        lines = [f"- {name}: {reason}\n" for name, reason in results["left_out"].items()]
        parts.append(f"## Left out\n\n{''.join(lines)}")
    with (folder / TABLE).open("x") as file:
        file.write("\n".join(parts))


def _versions(one: Mapping[str, Any]) -> str:
    told = {row["worker"]: row["versions"] for row in one["contenders"]}
    lines = [
        f"- {worker}: {', '.join(f'{name} {found}' for name, found in versions.items())}\n"
        for worker, versions in told.items()
    ]
    return "".join(lines)
