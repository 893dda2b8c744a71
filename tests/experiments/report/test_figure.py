"""What figures show of intervals that are infinite; looks are not judged."""

import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from experiments.report import figure as kit
from experiments.report.intervals import Median

FINITE = Median(1.0, 0.5, 50.0, 20, 20)
NOTHING = Median(None, None, None, 0, 0)
NO_INTERVAL = Median(1.0, None, None, 5, 5)
INFINITE_END = Median(1.0, 0.5, math.inf, 18, 20)
INFINITE = Median(math.inf, 2.0, math.inf, 9, 20)
ALL_INFINITE = Median(math.inf, math.inf, math.inf, 0, 20)
LOWEST = Median(-math.inf, -math.inf, 2.0, 9, 20)


def rendered(draw):
    with kit.style():
        figure, grid = kit.panels(1, 1, 3, 2)
        axes = grid[0, 0]
        draw(axes)
        axes.set(yscale="log", xlim=(-1, 3), ylim=(0.1, 100.0))  # after it, as figures do
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba()).copy()


def pixels(image):
    return (image[..., :3] != 255).any(-1).sum()


def test_points_show_what_is_infinite():
    kinds = (NOTHING, NO_INTERVAL, FINITE, INFINITE_END, INFINITE, ALL_INFINITE, LOWEST)
    images = [
        rendered(lambda axes, one=one: kit.point(axes, 1.0, one, kit.BLUE, upright=True))
        for one in kinds
    ]
    assert len({image.tobytes() for image in images}) == len(kinds)


@pytest.mark.parametrize("upright", [True, False])
def test_an_arrow_ends_at_the_edge_whatever_the_limits_become(upright):
    figure, grid = kit.panels(1, 1, 3, 2)
    axes = grid[0, 0]
    kit.point(axes, 1.0, INFINITE_END, kit.BLUE, upright)
    axes.set(xlim=(0, 7), ylim=(0, 7))
    figure.canvas.draw()
    [arrow] = axes.texts
    assert arrow.arrow_patch is not None
    tip = arrow.arrow_patch.get_path().vertices.max(0)
    edge = axes.transAxes.transform((1.0, 1.0))
    along = 1 if upright else 0
    head = 15  # pixels
    assert edge[along] - head < tip[along] <= edge[along] + 1


@pytest.mark.parametrize("one", [INFINITE_END, INFINITE], ids=["end", "value"])
def test_bands_show_what_is_infinite(one):
    def draw(found):
        return rendered(lambda axes: kit.band(axes, range(3), found, kit.BLUE))

    with_gap = draw([FINITE, NOTHING, FINITE])
    without = draw([FINITE, NO_INTERVAL, FINITE])
    found = draw([FINITE, one, FINITE])
    assert not np.array_equal(found, without)
    assert pixels(found) > pixels(with_gap)


def test_a_legend_that_is_too_wide_has_fewer_columns():
    figure, _ = kit.panels(1, 1, 4.0, 3.0)
    entries = [Line2D([], [], label=text) for text in ("a" * 30, "b" * 30, "c")]
    kit.legend_below(figure, entries, columns=3)
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert [text.get_text() for text in legend.get_texts()] == ["a" * 30, "b" * 30, "c"]
    # Three short ones stay beside each other.
    kit.legend_below(figure, [Line2D([], [], label=text) for text in "abc"], columns=3)
    assert figure.legends[-1]._ncols == 3
