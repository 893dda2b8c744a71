"""What an audit leaves for people, and the page that merges many of them."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import envs
from experiments.report.table import wide_console
from experiments.studies.derivatives import plots, tables

AUDIT, TABLE, PAGE = "audit.json", "table.md", "gradient_audit.md"


@dataclass(frozen=True)
class Report:
    """Merges audits into one page with images.

    Attributes:
        runs: Folders of audits.
        output: Folder of the page, gradient_audit.md; its images go to images/ below. Nothing is
            overwritten.
    """

    runs: tuple[Path, ...]
    output: Path


def read(folder: Path) -> dict[str, Any]:
    """The results of an audit.

    Raises:
        ValueError: If the folder holds none.
    """
    path = folder / AUDIT
    if not path.is_file():
        raise ValueError(f"{folder} holds no {AUDIT}: name the folders of audits")
    return json.loads(path.read_text())


def show(results: dict[str, Any], console: Console) -> None:
    """Prints all tables; where the output is no terminal, as wide as they need."""
    console = wide_console(console)
    for listing in tables.listings([results]):
        console.print(listing.rendered())
    for what, reason in results["left_out"].items():
        console.print(Text(f"{what}: {reason}"))


def write_tables(folder: Path, results: dict[str, Any]) -> None:
    """Writes all tables as Markdown."""
    parts = [f"# {results['audit']['env']}: audit of derivatives\n", _circumstances([results])]
    for listing in tables.listings([results]):
        parts.append(f"## {listing.title}\n\n{listing.markdown()}")
    parts.append(_left_out([results]))
    _write(folder / TABLE, "\n".join(parts))


def write(report: Report) -> list[Path]:
    """Writes the page of many audits.

    Returns:
        What was written.

    Raises:
        ValueError: If something is missing or already there.
    """
    many = sorted((read(folder) for folder in report.runs), key=lambda one: one["audit"]["env"])
    if not many:
        raise ValueError("--runs names no audit: name their folders")
    images = report.output / "images"
    drawings = {
        images / "gradient_audit_errors.png": plots.save_errors_of_many,
        images / "gradient_audit_growth.png": plots.save_growth_of_many,
        images / "gradient_audit_price.png": plots.save_price_of_many,
    }
    page = report.output / PAGE
    for path in (page, *drawings):
        if path.exists():
            raise ValueError(f"{path} exists: name another --output, or remove it first")
    images.mkdir(parents=True, exist_ok=True)
    for path, draw in drawings.items():
        draw(path, many)
    shown = {
        "Error": "gradient_audit_errors.png",
        "Growth over environment steps": "gradient_audit_growth.png",
        "Price": "gradient_audit_price.png",
    }
    parts = ["# Audit of derivatives\n", _circumstances(many), _HOW]
    for listing in (tables.summary(many), *tables.listings(many)):
        image = shown.get(listing.title)
        drawn = f"![{listing.title}](images/{image})\n\n" if image else ""
        parts.append(f"## {listing.title}\n\n{drawn}{listing.markdown()}")
    parts.append(_left_out(many))
    _write(page, "\n".join(parts))
    return [page, *drawings]


_HOW = """`python -m experiments.studies.derivatives --env NAME` measures one environment,
`python -m experiments.studies.derivatives report` merges such measurements into this page; both are
written by these commands and not by hand. States are those after a *reset*; along a *random policy*
(uniform actions, 20 to 50 steps after a reset); *airborne* (these, lifted until nothing touches the
ground, and 0.1 m more); *resting* (without control and slowed down for 3 s, zero action); along a
*trained policy*, where one is given. A dash stands for what was not measured or is not finite.
"""


def _circumstances(many: Sequence[dict[str, Any]]) -> str:
    """Date, versions, machine and sizes; nothing that names the machine."""
    dates = sorted({datetime.date.fromisoformat(one["started"][:10]).isoformat() for one in many})
    versions = many[0]["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("jax", "mujoco", "mujoco-mjx"))
    device = many[0]["device"]
    cores = device["processor_cores"]
    machine = f"{cores} CPU cores" if device["platform"] == "cpu" else device["kind"]
    commits = {one["commit"]["hash"][:9] for one in many if one.get("commit")}
    changed = any(one["commit"]["modified"] for one in many if one.get("commit"))
    named_commits = "commit" if len(commits) == 1 else "commits"
    source = f"; {named_commits} {', '.join(sorted(commits))}" if commits else ""
    source += " with changes not committed then" if changed else ""
    seconds = sum(one["seconds"] for one in many)
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"{when}; {named}; {machine}{source}; {seconds / 60:.0f} minutes in all.\n"


def _left_out(many: Sequence[dict[str, Any]]) -> str:
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in many:
        for reason in one["left_out"].items():
            grouped.setdefault(reason, []).append(one["audit"]["env"])
    lines = [f"- {what}, {reason}: {', '.join(names)}" for (what, reason), names in grouped.items()]
    missing = sorted({*envs.names()} - {one["audit"]["env"] for one in many})
    if len(many) > 1 and missing:
        lines.append(f"- not audited yet: {', '.join(missing)}")
    return "## Left out\n\n" + "\n".join(lines) + "\n" if lines else ""


def _write(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
