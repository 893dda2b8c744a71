"""Checks of constructor parameters: one clear error, before anything compiles."""

import math
import operator

import numpy as np


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Returns `value` as an int, or says what is allowed."""
    wanted = f"{name} must be an integer " + (
        f"of at least {low}" if high is None else f"from {low} to {high}"
    )
    try:
        number = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise ValueError(f"{wanted}, not {value!r}") from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{wanted}, not {value!r}")
    return number


def real(name: str, value: object, low: float, high: float = math.inf) -> float:
    """Returns `value` as a float strictly between `low` and `high`, or says what is allowed."""
    wanted = f"{name} must be a finite number " + (
        f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g} (both excluded)"
    )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{wanted}, not {value!r}")
    if not (math.isfinite(value) and low < value < high):
        raise ValueError(f"{wanted}, not {value!r}")
    return float(value)


def at_least(name: str, value: object, low: float) -> float:
    """Returns `value` as a float of at least `low`, or says what is allowed."""
    wanted = f"{name} must be a finite number of at least {low:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{wanted}, not {value!r}")
    if not (math.isfinite(value) and value >= low):
        raise ValueError(f"{wanted}, not {value!r}")
    return float(value)


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Returns `value`, or says what is allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return str(value)
