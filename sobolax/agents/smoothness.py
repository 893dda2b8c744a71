"""A smoother of critics that knows no simulator: PAVE (arXiv 2601.22970), as a control.

What a critic that is smooth for its own sake achieves as well as one with Bellman's gradients does,
Bellman's gradients did not achieve.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.losses import all_finite, masked_mean, zero_unless
from sobolax.transition import Transition

#: Names of smoothers, for a configuration.
SMOOTHNESS = ("none", "pave")

# As published: weights of the three terms, standard deviation of the noise, least curvature.
MIXED, ALONG, CURVED = 0.1, 0.1, 0.01
NOISE, CURVATURE = 0.01, 1.0


def pave(
    value: Callable[[jax.Array, jax.Array], jax.Array],
    observation: jax.Array,
    action: jax.Array,
    next_observation: jax.Array,
    unit: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Policy-Aware Value-field Equalization of one transition (equations 11 to 13), `()`.

    The gradient along the action shall change little with the observation, under noise and from one
    observation to the next, and the value shall be concave along the action:
    `0.1 |g(o + e) - g(o)|^2 / n + 0.1 |g(o') - g(o)|^2 / n + 0.01 max(0, v H v + 1)`, with the
    gradient `g` and the Hessian `H` along the action of size `n`, and random signs `v`.

    Args:
        value: `(observation, action) -> ()`.
        observation: `(observation_size,)`.
        action: `(action_size,)`.
        next_observation: `(observation_size,)`.
        unit: The noise's standard deviation is a hundredth of it, `(observation_size,)` or `()`:
            that of the observation, where the value normalises it.
        key: Random key.

    Raises:
        ValueError: If `next_observation` or `unit` are of another shape, which would be broadcast.

    Example:
        >>> value = lambda o, a: a[0] * o[0] - 2.0 * a[0] ** 2  # concave enough: v H v = -4
        >>> where = jnp.zeros(1), jnp.zeros(1), jnp.full(1, 3.0)
        >>> found = pave(value, *where, jnp.zeros(1), jax.random.key(0))
        >>> round(float(found), 6)  # 0.1 * 3^2
        0.9
    """
    shape = jnp.shape(observation)
    for name, other, allowed in (
        ("next_observation", next_observation, (shape,)),
        ("unit", unit, (shape, ())),
    ):
        if jnp.shape(other) not in allowed:
            raise ValueError(
                f"{name} has the shape {jnp.shape(other)} where the observation has {shape}: "
                f"hand over one of {' or '.join(map(str, allowed))}"
            )
    noise_key, sign_key = jax.random.split(key)
    noise = NOISE * unit * jax.random.normal(noise_key, observation.shape, observation.dtype)
    signs = jax.random.rademacher(sign_key, action.shape, action.dtype)
    gradient = jax.grad(value, argnums=1)
    here, bent = jax.jvp(lambda action: gradient(observation, action), (action,), (signs,))
    mixed = jnp.mean(jnp.square(gradient(observation + noise, action) - here))
    along = jnp.mean(jnp.square(gradient(next_observation, action) - here))
    curved = jnp.maximum(jnp.sum(signs * bent) + CURVATURE, 0.0)
    return MIXED * mixed + ALONG * along + CURVED * curved


def mean_pave(
    parameters: Any,
    value: Callable[[Any, jax.Array, jax.Array], jax.Array],
    transitions: Transition,
    unit: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """`pave` of several critics, the mean over a batch, added up over critics, `()`.

    Transitions that are not finite are left out, as they are of the other terms.

    Args:
        parameters: Of all critics, with a leading axis.
        value: `(parameters of one, observation, action) -> ()`.
        transitions: A batch, with a leading axis.
        unit: See `pave`.
        key: Random key; all critics see the same noise.

    Example:
        >>> value = lambda w, o, a: w * a[0] * o[0] - 2.0 * a[0] ** 2
        >>> zero = jnp.zeros((2, 1))
        >>> batch = Transition(zero, zero, zero[:, 0], zero[:, 0], jnp.full((2, 1), 3.0))
        >>> found = mean_pave(jnp.array([0.0, 1.0]), value, batch, jnp.zeros(1), jax.random.key(0))
        >>> round(float(found), 6)  # of the second alone
        0.9
    """
    keys = jax.random.split(key, transitions.observation.shape[0])

    def one(parameters: Any, transition: Transition, key: jax.Array) -> jax.Array:
        where = transition.observation, transition.action, transition.next_observation
        return pave(partial(value, parameters), *where, unit, key)

    finite = jax.vmap(all_finite)(transitions)
    transitions = jax.vmap(zero_unless)(finite, transitions)
    over_batch = jax.vmap(one, in_axes=(None, 0, 0))
    each = jax.vmap(over_batch, in_axes=(0, None, None))(parameters, transitions, keys)
    return jnp.sum(masked_mean(each.T, finite[:, None]))
