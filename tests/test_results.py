"""The first table of the results page says what the raw rows beside it say."""

import re
from pathlib import Path

import numpy as np
import pytest

from experiments.report.rows import Rows, read_file
from experiments.studies.payoff.summary import OVER_TRAINING, gain, paired

LAYER = "walker2d, LayerNorm in both"
RESULTS = Path(__file__).parents[1] / "docs" / "results"
FILES = {
    "reacher": "payoff_confirmation_rows.csv",
    "pusher": "payoff_pusher_rows.csv",
    "walker2d": "payoff_walker2d_rows.csv",
    "hopper": "payoff_hopper_rows.csv",
    "half_cheetah": "payoff_half_cheetah_rows.csv",
    LAYER: "payoff_walker2d_rows.csv",
}
REGIMES = {"10,240, 4": "few", "102,400, ½": "many"}
# Percentages are rounded to half a percent; resamples are drawn anew by another SciPy.
ROUNDED, DRAWN = 0.51, 1.0


def stated() -> list:
    """Task, regime, and what the page says of pairs, gain and pairs above, of each row."""
    text = (RESULTS / "payoff.md").read_text(encoding="utf-8").replace("−", "-")
    table = text.split("\n## ")[0]
    rows = re.findall(
        r"^\| (\w+(?:, LayerNorm in both)?) \| ([^|]+) \| (\d+) \| ([^|]+) \| (\d+) \|", table, re.M
    )
    found = []
    for task, regime, pairs, said, above in rows:
        numbers = re.match(r"\**([+-][\d.]+) % \[(-?[\d.]+), (-?[\d.]+)\]", said)
        if task in FILES and numbers is not None:
            values = [float(number) for number in numbers.groups()]
            found.append((task, REGIMES[regime], int(pairs), values, int(above)))
    return found


def test_the_table_is_found():
    assert {task for task, *_ in stated()} == set(FILES)


@pytest.mark.parametrize("row", stated(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_first_table_is_what_the_rows_say(row):
    task, regime, pairs, (middle, low, high), above = row
    names = [FILES[task]]
    if regime == "many":  # plain's rows are those of SHAC's baseline
        names.append({"hopper": "payoff_shac_rows.csv"}.get(task, f"payoff_shac_{task}_rows.csv"))
    variant, other = ("layer_soft_1", "layer") if task == LAYER else ("soft_1", "plain")
    rows = Rows([row for name in names for row in read_file(RESULTS / name)])
    own = rows.where(task=task.split(",")[0], regime=regime)
    values, plain = paired(confirmed(own, variant, pairs), variant, OVER_TRAINING, other)
    assert len(values) == pairs
    assert np.sum(values > plain) == above
    found = gain(values, plain)
    assert 100 * found.value == pytest.approx(middle, abs=ROUNDED)
    assert [100 * found.low, 100 * found.high] == pytest.approx([low, high], abs=DRAWN)


def confirmed(rows: Rows, variant: str, pairs: int) -> Rows:
    """Without seeds of a screen, where there are more pairs than were planned."""
    seeds = sorted(rows.where(variant=variant).distinct("seed"))
    return rows.among("seed", seeds[-pairs:])
