"""What the adapters of other people's environments have in common."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from sobolax.checks import suggestion
from sobolax.environment import State

T = TypeVar("T")

# Simulators clip actions at their limits, where a clip has half a derivative and a saturated policy
# sits. This little less is inside in float32 and changes nothing.
_INSIDE = 1.0 - 1e-6


def inside(action: jax.Array) -> jax.Array:
    """An action in [-1, 1], a millionth away from its limits."""
    return _INSIDE * action


def strong(tree: Any, dtype: Any = None) -> Any:
    """A pytree whose leaves are arrays with types that hold.

    Args:
        tree: Numbers and arrays; random keys stay as they are.
        dtype: What floating-point leaves become; None for what they are.
    """

    def convert(leaf: Any) -> jax.Array:
        if jnp.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key):
            return leaf
        array = jnp.asarray(leaf)
        floats = jnp.issubdtype(array.dtype, jnp.floating)
        wanted = dtype if dtype is not None and floats else array.dtype
        return jax.lax.convert_element_type(array, wanted)

    return jax.tree.map(convert, tree)


def known(suite: str, name: str, names: Iterable[str]) -> None:
    """Raises ValueError, with the nearest names, for a name that a suite does not have."""
    names = sorted(names)
    if name in names:
        return
    near = suggestion(name, names, 3)
    raise ValueError(
        f"suite {suite!r} has no environment {name!r}{near}; it has {', '.join(names)}"
    )


def construct(suite: str, name: str, parameters: Mapping[str, Any], make: Callable[[], T]) -> T:
    """What a suite's own constructor makes; its errors name what they are about.

    Args:
        suite: Whose constructor it is.
        name: The environment.
        parameters: What it is given.
        make: Calls it.

    Raises:
        ValueError: If it fails, with the suite, the environment and the parameter.
    """
    try:
        return make()
    except Exception as error:  # of any class: it is other people's code
        text = " ".join(str(error).split())[:300]
        about = [key for key in parameters if re.search(rf"\b{re.escape(key)}\b", text)]
        about = about or [
            key for key, value in parameters.items() if len(str(value)) > 2 and str(value) in text
        ]
        given = ", ".join(f"{key}={parameters[key]!r}" for key in about or parameters)
        beside = f" with {given}" if given else ""
        raise ValueError(
            f"suite {suite!r} cannot make environment {name!r}{beside}: "
            f"{type(error).__name__}: {text}"
        ) from error


def moved_along(stored: Any, before: Any, after: Any, still: jax.Array) -> Any:
    """A state that moves as another one, computed from fewer numbers, does.

    Args:
        stored: The state as it was left by a step.
        before: The same, computed anew from its positions and velocities.
        after: Computed anew after a displacement of these.
        still: Whether the displacement is zero, `()` bool.

    Returns:
        `stored + (after - before)` in all floating-point leaves, and `stored` to the last bit where
        nothing moves. What `stored` has beyond its positions and velocities (a stretched joint, a
        quantity that lags behind) is kept.
    """

    def move(stored: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
        if not jnp.issubdtype(stored.dtype, jnp.floating):
            return stored
        change = (after - before).astype(stored.dtype)
        kept = stored + (change - jax.lax.stop_gradient(change))
        return jnp.where(still, kept, stored + change)

    return jax.tree.map(move, stored, before, after)


def goes_in_reverse(environment: Any) -> bool:
    """Whether reverse mode goes through a step; nothing is compiled."""
    state = jax.eval_shape(environment.reset, jax.eval_shape(lambda: jax.random.key(0)))

    def earned(displacement: jax.Array, action: jax.Array, state: State) -> jax.Array:
        next_state = environment.step(environment.perturb(state, displacement), action)
        return next_state.reward + jnp.sum(next_state.observation)

    dtype = state.observation.dtype
    sizes = environment.state_size, environment.action_size
    shapes = (jax.ShapeDtypeStruct((size,), dtype) for size in sizes)
    try:
        jax.eval_shape(jax.grad(earned, argnums=(0, 1)), *shapes, state)
    except (ValueError, TypeError, NotImplementedError):
        return False
    return True
