"""Tables of audits: the same rows on the console and in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.table import Table

Results = Mapping[str, Any]


def listings(many: Sequence[Results]) -> list[Table]:
    """All tables of some audits; those that would be empty are left out."""
    makers = (soundness, errors, norms, growth, rollouts, within, price, one_iteration)
    return [listing for listing in (make(many) for make in makers) if listing.rows]


def summary(many: Sequence[Results]) -> Table:
    """One row for each environment."""
    rows = []
    for results in many:
        sizes, found = results["sizes"], next(iter(results["rollouts"].values()))
        entries = [entry for *_, entry in _entries([results])]
        first = results["audit"]["methods"][0]
        errors = [methods[first]["error"] for methods in results["kinds"].values()]
        worst = [
            max((_median(e[precision]) for e in errors if precision in e), default=None)
            for precision in ("float32", "float64")
        ]
        bad = found["nonfinite_gradients"] + sum(
            entry["state_nonfinite_count"] + entry["action_nonfinite_count"] for entry in entries
        )
        whole = found["states"] + sum(entry["states"] for entry in entries)
        prices = {entry["name"]: f"{entry['ratio']:.1f}" for entry in results["price"]}
        limit = math.log(1 / results["audit"]["discount"])
        rows.append(
            (
                _name(results),
                f"{sizes['state_size']} + {sizes['action_size']}",
                f"{bad:,} of {whole:,}",
                *(_number(error) for error in worst),
                *(_number(found["norm"][name]) for name in ("median", "p99", "largest")),
                _signed(found["exponent"]["per_step"]),
                _above(found["exponent"], limit),
                *(prices.get(method, "–") for method in ("analytic", "forward")),
            )
        )
    headings = ("env", "directions", "derivatives, not finite", "error, float32", "error, float64")
    headings += ("norm, median", "norm, 99 %", "norm, largest", "exponent, per step")
    headings += ("above, log 1/γ", "price, analytic", "price, forward")
    note = (
        "Not finite: of all derivatives at states of every kind and along rollouts. Error: the "
        "median over states of the kind where it is largest, of the first method. Norm and "
        "exponent: along rollouts of the random policy. Price: in plain steps, all directions."
    )
    return Table("All of it in short", headings, rows, 1, note)


def soundness(many: Sequence[Results]) -> Table:
    """Finite and not zero, by kind and method."""
    rows = []
    for results, kind, method, found in _entries(many):
        bad = found["state_nonfinite_count"] + found["action_nonfinite_count"]
        rows.append(
            (
                _name(results),
                kind,
                method,
                f"{found['states']}",
                f"{found['nonfinite_states']}",
                *(_share(found[name]) for name in ("state_finite", "state_nonzero")),
                *(_share(found[name]) for name in ("action_finite", "action_nonzero")),
                f"{bad}",
            )
        )
    headings = ("env", "states of", "method", "count", "states, not finite", "∂f/∂s, finite")
    headings += ("∂f/∂s, not zero", "∂f/∂a, finite", "∂f/∂a, not zero", "not finite, in all")
    note = "f is the whole transition: the state that follows, its observation and the reward."
    return Table("Finite and not zero", headings, _merged(rows), 3, note)


def errors(many: Sequence[Results]) -> Table:
    """Against central differences."""
    rows = []
    for results, kind, method, found in _entries(many):
        measured = found["error"]
        cells = [_three(measured.get(name)) for name in ("float32", "float64", "floor")]
        rows.append((_name(results), kind, method, str(measured["float32"]["count"]), *cells))
    headings = ("env", "states of", "method", "count", "error, float32", "error, float64")
    headings += ("differences' own, uncertainty",)
    note = (
        "Median / 90th percentile / worst over the states of the largest entry's error, "
        "relative to the largest entry of its part (state, observation, reward; no less than "
        "0.01), against central differences in float64 with a step of 1e-6. Their own "
        "uncertainty is how far those with a step of 2e-6 are from them: an error of no more "
        "is no error. One as large as the error is a kink within their reach, as at the joint "
        "limits where pusher starts: no derivative is right there."
    )
    return Table("Error", headings, rows, 3, note)


def norms(many: Sequence[Results]) -> Table:
    """Spectral norms of one step."""
    rows = []
    for results, kind, method, found in _entries(many):
        norm = found["norm"]
        four = [_number(norm.get(name)) for name in ("median", "p90", "p99", "largest")]
        rows.append((_name(results), kind, method, *four, _share(norm["extreme_share"])))
    bound = _common(many, "bound")
    headings = ("env", "states of", "method", "median", "90 %", "99 %", "largest")
    headings += (f"above {bound}",)
    return Table(
        "Spectral norm of one step's ∂s'/∂s",
        headings,
        _merged(rows),
        3,
        "In local coordinates (SI units).",
    )


def rollouts(many: Sequence[Results]) -> Table:
    """What is not finite along rollouts."""
    rows = []
    for results in many:
        for kind, found in results["rollouts"].items():
            norm = found["norm"]
            rows.append(
                (
                    _name(results),
                    kind,
                    f"{found['states']:,}",
                    f"{found['nonfinite_states']:,}",
                    f"{found['nonfinite_gradients']:,}",
                    f"{found['episodes_ended']:,}",
                    *(_number(norm[name]) for name in ("median", "p99", "largest")),
                    _share(norm["extreme_share"]),
                )
            )
    headings = ("env", "rollouts of", "states", "states, not finite", "derivatives, not finite")
    headings += ("episodes, ended", "norm, median", "norm, 99 %", "norm, largest")
    return Table("Rollouts", (*headings, f"above {_common(many, 'bound')}"), rows, 2)


def growth(many: Sequence[Results]) -> Table:
    """Chained environment steps and the exponent."""
    steps = sorted({entry["steps"] for r in many for entry in _chains(r)})
    rows = []
    for results in many:
        limit = math.log(1 / results["audit"]["discount"])
        for kind, found in results["rollouts"].items():
            by_steps = {entry["steps"]: entry for entry in found["chain"]}
            cells = [_number(by_steps.get(count, {}).get("median")) for count in steps]
            exponent = found["exponent"]
            rate = exponent["per_step"]
            above = _above(exponent, limit)
            range_of = f"{_signed(exponent['p10'])} to {_signed(exponent['p90'])}"
            rows.append((_name(results), kind, *cells, _signed(rate), range_of, above))
    discount = _common(many, "discount")
    headings = ("env", "rollouts of", *(f"{count}" for count in steps), "exponent, per step")
    headings += ("rollouts', 10 to 90 %", "above, log 1/γ")
    limits = {math.log(1 / results["audit"]["discount"]) for results in many}
    shown = ", ".join(f"{limit:.3f}" for limit in sorted(limits))
    note = (
        "Median spectral norm of the product of so many steps' Jacobians along rollouts, from "
        "the start of an episode, while it lasts; and the leading Lyapunov exponent per step. "
        f"log 1/γ = {shown} (γ = {discount}): above it, chaos rules gradients of long returns. "
        "Of some tens of steps it is an estimate: growth by a power of n counts as a little."
    )
    return Table("Growth over environment steps", headings, rows, 2, note)


def within(many: Sequence[Results]) -> Table:
    """Growth over the physics steps of one environment step."""
    audited = [results for results in many if results["within_step"]]
    most = max((len(results["within_step"]) for results in audited), default=0)
    rows = []
    for results in audited:
        cells = [_number(entry["median"]) for entry in results["within_step"]]
        worst = _number(results["within_step"][-1]["largest"])
        rows.append((_name(results), *cells, *["–"] * (most - len(cells)), worst))
    headings = ("env", *(f"{count + 1}" for count in range(most)), "whole step, largest")
    note = "Median spectral norm of the product of so many physics steps, states of random policy."
    return Table("Growth over the physics steps of one step", headings, rows, 1, note)


def price(many: Sequence[Results]) -> Table:
    """In plain steps."""
    rows = []
    for results in many:
        sizes = results["sizes"]
        directions = f"{sizes['state_size']} + {sizes['action_size']}"
        for entry in results["price"]:
            spread = f"{entry['smallest_ratio']:.2f} to {entry['largest_ratio']:.2f}"
            rows.append(
                (
                    _name(results),
                    entry["name"],
                    directions,
                    _number(entry["seconds"] * 1e6),
                    f"{entry['ratio']:.2f}",
                    spread,
                    f"{entry['compile_seconds']:.1f}",
                )
            )
    headings = ("env", "what", "directions", "µs per state", "in plain steps", "min to max")
    batch = _common(many, "batch")
    note = (
        f"Batches of {batch}, interleaved, the median of ratios. With a few microseconds per "
        "state a call is mostly overhead, and the ratio says little. What else the machine did "
        "shows between the smallest and the largest ratio."
    )
    return Table("Price", (*headings, "compile s"), rows, 2, note)


def one_iteration(many: Sequence[Results]) -> Table:
    """What one solver iteration is worth."""
    rows = []
    for results in many:
        found = results["one_iteration"]
        if not found:
            continue
        for way in ("unrolled", "implicit"):
            cells = []
            for start in ("warm", "cold"):
                distance = found["distance"][f"{way} {start}"]
                cells += [_number(distance.get("median")), _number(distance.get("p90"))]
            counts = f"{found['constrained']} of {found['states']}"
            rows.append((_name(results), way, counts, *cells))
    note = (
        "Relative distance (Frobenius) of a physics step's Jacobian with one solver iteration to "
        "the converged one's at the same states, along rollouts of random actions with one "
        "iteration; where a constraint acts. Unrolled: the derivative of the iteration itself. "
        "Implicit: that of an optimum, taken where the iteration ended."
    )
    headings = ("env", "derivative", "constrained", "warm start, median", "warm start, 90 %")
    headings += ("cold, median", "cold, 90 %")
    return Table("One solver iteration", headings, rows, 2, note)


def _above(exponent: Mapping[str, float | None], limit: float) -> str:
    low, high = exponent["p10"], exponent["p90"]
    if low is None or high is None:
        return "–"
    return "yes" if low > limit else "in some" if high > limit else "no"


def _merged(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Methods whose numbers are the same in one row."""
    merged: dict[tuple[str, ...], list[str]] = {}
    for env, kind, method, *numbers in rows:
        merged.setdefault((env, kind, *numbers), []).append(method)
    return [
        (env, kind, ", ".join(methods), *numbers)
        for (env, kind, *numbers), methods in merged.items()
    ]


def _entries(many: Sequence[Results]):
    for results in many:
        for kind, methods in results["kinds"].items():
            for method, found in methods.items():
                yield results, kind, method, found


def _chains(results: Results):
    for found in results["rollouts"].values():
        yield from found["chain"]


def _name(results: Results) -> str:
    return results["audit"]["env"]


def _common(many: Sequence[Results], option: str) -> str:
    return " or ".join(dict.fromkeys(f"{results['audit'][option]:g}" for results in many))


def _three(found: Mapping[str, Any] | None) -> str:
    if not found or not found["count"]:
        return "–"
    return " / ".join(_number(found[name]) for name in ("median", "p90", "largest"))


def _median(found: Mapping[str, Any]) -> float:
    """JSON has no word for what is not finite."""
    return math.inf if found["median"] is None else found["median"]


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if 1e3 <= size < 1e5:
        return f"{value:,.0f}"
    if size >= 1e5 or size < 1e-2:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.3g}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _share(value: float) -> str:
    return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
