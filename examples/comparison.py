"""Runs an example with and without its marked lines, and shows both.

The agent without the Sobolev loss is the example's own source with the lines between
`# Sobolev: begin` and `# Sobolev: end` taken out: what these lines add is all that differs.
"""

import os
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np

BEGIN, END = "# Sobolev: begin", "# Sobolev: end"


def without_sobolev(source: str) -> tuple[str, int]:
    """Takes the marked lines out.

    Args:
        source: Text of an example.

    Returns:
        The text without them, and how many they were (blank ones and the marks not counted).

    Raises:
        ValueError: If a mark has no partner.
    """
    kept, taken, inside = [], [], False
    for number, line in enumerate(source.splitlines(), start=1):
        if line.strip() in (BEGIN, END):
            if inside == (line.strip() == BEGIN):
                raise ValueError(
                    f"line {number}, {line.strip()!r}, has no partner: marks alternate"
                )
            inside = not inside
        else:
            (taken if inside else kept).append(line)
    if inside:
        raise ValueError(f"the last {BEGIN!r} has no partner: add {END!r}")
    return "\n".join(kept) + "\n", sum(bool(line.strip()) for line in taken)


def load(path: str | Path, plain: bool) -> ModuleType:
    """The example as a module, with or without its marked lines."""
    source = Path(path).read_text()
    module = ModuleType(f"{Path(path).stem}_{'plain' if plain else 'sobolev'}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    text = without_sobolev(source)[0] if plain else source
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def parameter_distance(one: tuple, other: tuple, at: int) -> float:
    """The largest difference of two runs' parameters after a round.

    Args:
        one: What `train` gave.
        other: The same of another run.
        at: Which round.

    Returns:
        The largest over all arrays of a pytree, each relative to the array's largest number.
    """
    import jax

    def relative(a, b) -> float:
        a, b = np.asarray(a)[at], np.asarray(b)[at]
        return float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-30))

    # The leaves alone: a class of the example is another one in its version without the lines.
    return max(
        relative(a, b)
        for a, b in zip(jax.tree.leaves(one[2]), jax.tree.leaves(other[2]), strict=True)
    )


def show(
    path: str | Path,
    title: str,
    weight: float = 1.0,
    seeds: int = 2,
    rounds: int = 10,
    check_rounds: int | None = None,
    tolerance: float = 1e-4,
    unit: str = "steps",
) -> None:
    """Trains both, prints a table of returns, saves a plot, and checks lambda = 0.

    Args:
        path: The example; its `train(seed, state_weight, action_weight, rounds)` gives steps,
            returns and parameters after each round.
        title: Says agent and task.
        weight: lambda_s and lambda_a.
        seeds: Of each; the curves are their means.
        rounds: How long to train, in the example's rounds.
        check_rounds: How long to train at lambda = 0; as long as the others by default, which
            saves a compiled program.
        tolerance: How far, relative to an array's largest number, the parameters may be from the
            plain agent's after one round at lambda = 0. Not 0: what is added is exactly zero, but
            these are two programs, and the compiler orders sums as it likes (1.5e-6 was seen
            after 200 updates of DDPG, which carry a rounding error on and on).
        unit: What the curves run over.

    Raises:
        SystemExit: If they are further away.
    """
    start = time.monotonic()
    plain, sobolev = load(path, plain=True), load(path, plain=False)
    lines = without_sobolev(Path(path).read_text())[1]
    print(f"{title}: lines that differ: {lines}", flush=True)
    before = [plain.train(seed, 0.0, 0.0, rounds) for seed in range(seeds)]
    after = [sobolev.train(seed, weight, weight, rounds) for seed in range(seeds)]
    steps = np.asarray(before[0][0])
    curves = {
        "plain": np.mean([run[1] for run in before], axis=0),
        f"Sobolev, λ = {weight:g}": np.mean([run[1] for run in after], axis=0),
    }
    print(f"return; seeds: {seeds}")
    print(f"{unit:>8}" + "".join(f"{name:>20}" for name in curves))
    for index, step in enumerate(steps):
        print(f"{step:>8}" + "".join(f"{curve[index]:>20.1f}" for curve in curves.values()))
    _plot(Path(path).stem, title, unit, steps, curves)
    zero = sobolev.train(0, 0.0, 0.0, check_rounds or rounds)
    distances = [parameter_distance(before[0], zero, at) for at in range(len(zero[0]))]
    print(
        f"λ = 0: parameters differ by {distances[0]:.1e} after {steps[0]} {unit} "
        f"and by {distances[-1]:.1e} after {zero[0][-1]}, relative"
    )
    print(f"{time.monotonic() - start:.0f} s")
    if not distances[0] <= tolerance:
        raise SystemExit(
            f"λ = 0 changes the host agent: {distances[0]:.1e} is more than {tolerance:.1e}; "
            "look at the marked lines of the example"
        )


def _plot(
    name: str, title: str, unit: str, steps: np.ndarray, curves: dict[str, np.ndarray]
) -> None:
    """Saves the curves where matplotlib is there."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for label, curve in curves.items():
        axes.plot(steps, curve, label=label)
    axes.set(title=title, xlabel=unit, ylabel="return")
    axes.title.set_fontsize("medium")
    axes.legend()
    folder = Path("runs") / "examples"
    os.makedirs(folder, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=120)
    pyplot.close(figure)
    print(f"plot: {folder / name}.png")
