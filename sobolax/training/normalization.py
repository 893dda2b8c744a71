"""Running mean and variance of observations; applied where an observation is used."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

_SMALLEST = 1e-2
_SETTLED, _FARTHEST = 1_000, 100.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normalizer:
    """Statistics of the observations seen so far.

    Attributes:
        count: How many, `()`.
        mean: `(observation_size,)`.
        sum_of_squares: Sum of squared deviations from the mean, `(observation_size,)`.

    Example:
        >>> update(init(1), jnp.array([[1.0], [3.0]])).sum_of_squares.tolist()
        [2.0]
    """

    count: jax.Array
    mean: jax.Array
    sum_of_squares: jax.Array


def init(size: int) -> Normalizer:
    """Statistics of nothing: `normalize` is then the identity.

    Example:
        >>> float(normalize(init(1), jnp.array([5.0]))[0])
        5.0
    """
    return Normalizer(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))


def update(normalizer: Normalizer, observations: jax.Array) -> Normalizer:
    """Takes in a batch `(n, observation_size)` of finite observations.

    Chan, Golub and LeVeque (1983): merging the batch's own moments loses no digits. Once 1,000
    observations are known, a number beyond 100 standard deviations counts as if it lay there: one
    state of a simulation that is about to diverge, at 1e6 say, would otherwise make all others look
    the same for a million steps.

    Raises:
        ValueError: If observations are no batch of such ones: another axis would be the batch, and
            an empty one has no mean.

    Example:
        >>> update(init(1), jnp.array([[1.0], [3.0]])).mean.tolist()
        [2.0]
    """
    shape, size = jnp.shape(observations), normalizer.mean.shape
    if not shape or shape[1:] != size or not shape[0]:
        raise ValueError(
            f"normalization.update: observations have shape {shape}, but must be a batch "
            f"(n, {', '.join(map(str, size))}) of at least one: give one as observation[None], and "
            f"several axes as observations.reshape({', '.join(map(str, (-1, *size)))})"
        )
    settled = normalizer.count >= _SETTLED
    bound = jnp.where(settled, _FARTHEST * deviation(normalizer), jnp.inf)
    observations = jnp.clip(observations, normalizer.mean - bound, normalizer.mean + bound)
    count = normalizer.count + observations.shape[0]
    batch_mean = observations.mean(axis=0)
    shift = batch_mean - normalizer.mean
    batch_squares = jnp.sum(jnp.square(observations - batch_mean), axis=0)
    between = jnp.square(shift) * normalizer.count * observations.shape[0] / count
    return Normalizer(
        count,
        normalizer.mean + shift * observations.shape[0] / count,
        normalizer.sum_of_squares + batch_squares + between,
    )


def hold(normalizer: Normalizer, count: jax.Array) -> Normalizer:
    """The same mean and variance, as if of `count` observations; `count` is `()`.

    Example:
        >>> seen = update(init(1), jnp.array([[1.0], [3.0]]))
        >>> held = hold(seen, jnp.asarray(4.0))
        >>> float(held.count), held.mean.tolist(), held.sum_of_squares.tolist()
        (4.0, [2.0], [4.0])
    """
    share = count / jnp.maximum(normalizer.count, 1.0)
    return Normalizer(count, normalizer.mean, normalizer.sum_of_squares * share)


def normalize(normalizer: Normalizer, observation: jax.Array) -> jax.Array:
    """Centres and scales an observation `(..., observation_size)`; affine, hence smooth.

    A number that hardly varies is scaled as if its standard deviation were 0.01: rounding noise
    would otherwise be blown up to the size of a signal. Nothing is clipped: a clipped observation
    has no gradient.

    Example:
        >>> seen = update(init(1), jnp.array([[1.0], [3.0]]))
        >>> normalize(seen, jnp.array([4.0])).tolist()
        [2.0]
    """
    return (observation - normalizer.mean) / deviation(normalizer)


def deviation(normalizer: Normalizer, smallest: float = _SMALLEST) -> jax.Array:
    """What `normalize` divides an observation by, `(observation_size,)`.

    Example:
        >>> print(deviation(update(init(2), jnp.array([[1.0, 0.0], [3.0, 0.0]]))))
        [1.   0.01]
    """
    variance = normalizer.sum_of_squares / jnp.maximum(normalizer.count, 1.0)
    found = jnp.maximum(jnp.sqrt(variance + 1e-12), smallest)
    return jnp.where(normalizer.count > 0, found, 1.0)
