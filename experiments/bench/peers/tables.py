"""The tables of a comparison with other libraries."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.table import Table

# Of the table of contenders, and what they are called in `results.json`.
_COLUMNS = {
    "steps/s": "steps_per_second",
    "updates per step": "updates_per_environment_step",
    "CPU ms, per update": "processor_ms_per_update",
    "CPU µs, per step collected": "processor_us_per_collected_step",
    "start s": "start_seconds",
}


def make(done: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]) -> list[Table]:
    """A summary, and a table for each comparison; none where nothing was compared."""
    return [_summary(done, left_out), *map(_contenders, done)] if done else []


def _summary(done: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]) -> Table:
    columns = ("median", "smallest", "largest", "processor")
    rows = [(one["name"], *(one["ratio"][column] for column in columns)) for one in done]
    note = (
        "Environment steps per second over the peer's, the fastest contender of either; and the "
        "same per second of processor time, which what else runs on the machine disturbs less."
    )
    note += "".join(f" Left out: {name}: {reason}" for name, reason in left_out.items())
    headings = ("comparison", "over peer", "min", "max", "processor time, over peer")
    return Table("Plain SAC against other libraries", headings, rows, note=note)


def _contenders(one: Mapping[str, Any]) -> Table:
    """A row for each contender."""
    best = next(row for row in one["contenders"] if row["label"] == one["ratio"]["peer"])
    rows = [
        (
            row["label"],
            row["steps_per_second"] / best["steps_per_second"],
            *(row[name] for name in _COLUMNS.values()),
        )
        for row in one["contenders"]
    ]
    versions = {row["worker"]: row["versions"] for row in one["contenders"]}
    texts = (
        f"{worker}: {', '.join(f'{name} {version}' for name, version in found.items())}"
        for worker, found in versions.items()
    )
    headings = ("", "over peer", *_COLUMNS)
    return Table(one["title"], headings, rows, note=f"{one['note']} Versions: {'; '.join(texts)}.")
