"""Draws the pictures of `docs/guides/idea.md`: python docs/pictures.py."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PLAIN, SOBOLEV, GREY = "#D55E00", "#0072B2", "#777777"  # as in experiments/report/curves.py
FEATURES = 24


def true_value(action: np.ndarray) -> np.ndarray:
    """What is fitted: one hill with a ripple."""
    return -((action - 0.2) ** 2) + 0.3 * np.sin(5.0 * action)


def true_gradient(action: np.ndarray) -> np.ndarray:
    """Its derivative."""
    return -2.0 * (action - 0.2) + 1.5 * np.cos(5.0 * action)


def features(action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random Fourier features of an action and their gradients, `(points, FEATURES)` each."""
    generator = np.random.default_rng(0)
    frequency = generator.normal(0.0, 7.0, FEATURES)
    phase = generator.uniform(0.0, 2.0 * np.pi, FEATURES)
    angle = action[:, None] * frequency + phase
    return np.cos(angle), -frequency * np.sin(angle)


def fit(samples: np.ndarray, with_gradients: bool) -> np.ndarray:
    """The smallest weights that fit the samples' values, and optionally their gradients."""
    values, gradients = features(samples)
    if not with_gradients:
        return np.linalg.lstsq(values, true_value(samples), rcond=1e-6)[0]
    rows, targets = (values, gradients), (true_value(samples), true_gradient(samples))
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=1e-6)[0]


def draw_gradients(path: Path) -> None:
    """A critic along one action, fitted to values, and to values and gradients."""
    samples, actions = np.linspace(-0.9, 0.9, 5), np.linspace(-1.0, 1.0, 401)
    values, gradients = features(actions)
    figure = Figure(figsize=(9.0, 3.3), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for panel, rows, true, title in (
        (left, values, true_value, r"value $Q$"),
        (right, gradients, true_gradient, r"gradient $\nabla_a Q$, which the actor climbs"),
    ):
        panel.plot(actions, true(actions), color="black", lw=1.0, label="true")
        for with_gradients, color, style, label in (
            (False, PLAIN, "--", "fitted to values"),
            (True, SOBOLEV, "-", "fitted to values and gradients"),
        ):
            panel.plot(
                actions, rows @ fit(samples, with_gradients), style, color=color, label=label
            )
        panel.plot(samples, true(samples), "o", color="black", ms=4)
        panel.set(title=title, xlabel="action", ylim=_room(true(actions)))
    for sample in samples:
        ends = sample + np.array([-0.08, 0.08])
        left.plot(
            ends, true_value(sample) + true_gradient(sample) * (ends - sample), color=GREY, lw=3
        )
    right.axhline(0.0, color=GREY, lw=0.5)
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def draw_flow(path: Path) -> None:
    """What is computed when: at collection, and at every update."""
    figure = Figure(figsize=(9.0, 3.0), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, 9), ylim=(0, 3.2))
    axes.set_axis_off()
    _box(axes, 0.1, 1.1, "environment\nstep, perturb", GREY)
    _box(axes, 2.3, 2.0, "transition T\n(o, a, r, d, o')", GREY)
    _box(axes, 2.3, 0.2, "tangents dT·v\none jax.jvp, once", SOBOLEV)
    _box(axes, 4.5, 1.1, "replay\nbuffer", GREY)
    _box(axes, 6.9, 2.0, "your TD error δ(T)\nits gradient ∇δ", PLAIN)
    _box(axes, 6.9, 0.2, "gradient errors\n⟨∇δ, dT·v⟩", SOBOLEV)
    for start, end in (
        ((1.7, 1.7), (2.3, 2.2)),
        ((1.7, 1.3), (2.3, 0.8)),
        ((3.9, 2.2), (4.5, 1.7)),
        ((3.9, 0.8), (4.5, 1.3)),
        ((6.1, 1.7), (6.9, 2.2)),
        ((6.1, 1.3), (6.9, 0.8)),
        ((7.7, 2.0), (7.7, 1.0)),
    ):
        axes.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color="black")
        )
    axes.text(2.0, 3.12, "at collection: physics alone", ha="center", va="top", fontsize=8)
    axes.text(7.7, 3.12, "at every update: networks alone", ha="center", va="top", fontsize=8)
    axes.axvline(6.5, color=GREY, lw=0.8, ls=":")
    figure.savefig(path)


def _box(axes: Axes, left: float, bottom: float, text: str, color: str) -> None:
    """A box of 1.6 by 0.8."""
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom), 1.6, 0.8, "round,pad=0,rounding_size=0.1", fc="white", ec=color, lw=2
        )
    )
    axes.text(left + 0.8, bottom + 0.4, text, ha="center", va="center", fontsize=9)


def _room(values: np.ndarray) -> tuple[float, float]:
    room = 0.5 * np.ptp(values)
    return values.min() - room, values.max() + room


def main() -> None:
    """Writes both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "images")
    folder = parser.parse_args().folder
    draw_gradients(folder / "idea_slopes.png")
    draw_flow(folder / "idea_flow.png")


if __name__ == "__main__":
    main()
