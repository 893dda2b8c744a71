"""Metrics over epochs, some of which another version measured."""

import numpy as np

from experiments.launch.configuration import Variant
from experiments.launch.history import History
from experiments.launch.progress import seconds_left
from sobolax.agents import sac


def history():
    made = History([Variant("plain", sac.Hyperparameters(), "SAC")], 2)
    made.add({"return": [1.0, 2.0], "dropped": [3.0, 4.0]}, 1.0)
    made.add({"return": [5.0, 6.0], "added": [7.0, 8.0]}, 2.0)
    return made


def test_a_checkpoint_keeps_metrics_that_only_some_epochs_have():
    made = history()
    arrays = made.to_arrays()
    again = History(made.variants, made.seeds).from_arrays(arrays)
    assert again.names == made.names == ["return", "dropped", "added"]
    assert again.seconds == [1.0, 2.0]
    nothing = [np.nan, np.nan]
    for name, rows in {
        "return": [[1.0, 2.0], [5.0, 6.0]],
        "dropped": [[3.0, 4.0], nothing],
        "added": [nothing, [7.0, 8.0]],
    }.items():
        for one in (made, again):
            np.testing.assert_array_equal(one.values(name), np.array(rows)[:, None])
    assert made.values("unheard-of") is None


def test_the_last_epoch_has_what_it_measured():
    made = history()
    assert made.last("dropped") is None
    assert made.last("added").tolist() == [[7.0, 8.0]]
    assert History([], 1).last("return") is None


def test_there_is_no_time_left_before_anything_learns():
    made = History([Variant("plain", sac.Hyperparameters(), "SAC")], 1)
    made.add({"updates": [0.0]}, 1.0)
    assert seconds_left(made, 5) is None
    made.add({"updates": [16.0]}, 9.0)
    assert seconds_left(made, 5) == 24.0
    without = History(made.variants, 1)
    without.add({}, 2.0)
    assert seconds_left(without, 5) == 8.0
