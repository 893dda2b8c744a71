"""The table of environments: on the console, and as a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.table import Table
from experiments.studies.suites import trial

HEADINGS = ("environment", "verdict", "tangents' error", "judged", "in", "reverse mode", "why")
NOTE = (
    "Each was held to the protocol by `sobolax.testing.check_environment`. *Error*: the "
    "largest difference between a tangent and its central difference, relative to the largest "
    "entry of its part of the transition; *judged*: the share of entries that could be judged, for "
    "differences at two distances agree there."
)
_LONGEST = 160


def listing(trials: Sequence[Mapping[str, Any]], short: bool = False) -> Table:
    """A row for each environment.

    Args:
        trials: Of `trial.run`.
        short: Whether reasons are cut, for the console.
    """
    rows = []
    for one in trials:
        said, why = trial.verdict(one)
        report = one["report"] or {}
        error = report.get("tangent_error")
        why = " ".join(why.replace("|", "/").split())
        rows.append(
            (
                f"`{one['label']}`",
                said,
                "–" if error is None or error != error else f"{error:.1e}",
                f"{report['judged']:.0%}" if report.get("judged") else "–",
                report.get("precision") or "–",
                {True: "yes", False: "no", None: "–"}[one["reverse_mode"]],
                why[:60] if short else why[:_LONGEST] + ("..." if len(why) > _LONGEST else ""),
            )
        )
    return Table("Environments", HEADINGS, rows, names=2, note="" if short else NOTE)


def page(trials: Sequence[Mapping[str, Any]], command: str) -> str:
    """The whole page.

    Args:
        trials: Of `trial.run`.
        command: Which made it.
    """
    counts = Counter(trial.verdict(one)[0] for one in trials)
    counted = ", ".join(f"{count} {said}" for said, count in counts.most_common())
    versions = sorted({pair for one in trials for pair in one["versions"].items()})
    packages = ", ".join(f"{name} {version}" for name, version in versions)
    lengths = {one["report"]["steps"] for one in trials if one["report"]} - {0}
    went = f" Rollouts of random actions went {_span(lengths)} steps." if lengths else ""
    return (
        "# Which environments work\n\n"
        f"Written by `{command}`; not by hand.\n\n"
        f"{counted}. Versions: {packages}.{went}\n\n{listing(trials).markdown()}"
    )


def _span(numbers: set[int]) -> str:
    return f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def merged(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], order: Sequence[str]
) -> list[Mapping[str, Any]]:
    """The trials of earlier runs and of this one: a later trial replaces an earlier one.

    One that could not be made replaces nothing.
    """
    found = {one["label"]: one for one in old}
    for one in new:
        if trial.verdict(one)[0] != trial.NOT_TRIED or one["label"] not in found:
            found[one["label"]] = one
    place = {label: index for index, label in enumerate(order)}
    return sorted(found.values(), key=lambda one: place.get(one["label"], len(place)))
