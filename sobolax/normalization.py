"""Running mean and variance of observations; applied where an observation is used."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normalizer:
    """Statistics of the observations seen so far.

    Attributes:
        count: How many, `()`.
        mean: `(observation_size,)`.
        sum_of_squares: Sum of squared deviations from the mean, `(observation_size,)`.
    """

    count: jax.Array
    mean: jax.Array
    sum_of_squares: jax.Array


def create(size: int) -> Normalizer:
    """Statistics of nothing: `normalize` is then the identity."""
    return Normalizer(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))


def update(normalizer: Normalizer, observations: jax.Array) -> Normalizer:
    """Takes in a batch `(n, observation_size)` of finite observations.

    Chan, Golub and LeVeque (1983): merging the batch's own moments loses no digits.
    """
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
    """The same mean and variance, as if of `count` observations; `count` is `()`."""
    share = count / jnp.maximum(normalizer.count, 1.0)
    return Normalizer(count, normalizer.mean, normalizer.sum_of_squares * share)


def normalize(
    normalizer: Normalizer, observation: jax.Array, smallest_deviation: float = 1e-2
) -> jax.Array:
    """Centres and scales an observation `(..., observation_size)`; affine, hence smooth.

    A number that hardly varies is scaled as if its standard deviation were `smallest_deviation`:
    rounding noise would otherwise be blown up to the size of a signal. Nothing is clipped: a
    clipped observation has no slope.
    """
    variance = normalizer.sum_of_squares / jnp.maximum(normalizer.count, 1.0)
    deviation = jnp.maximum(jnp.sqrt(variance + 1e-12), smallest_deviation)
    deviation = jnp.where(normalizer.count > 0, deviation, 1.0)
    return (observation - normalizer.mean) / deviation
