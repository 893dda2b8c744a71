"""The tanh-Gaussian: a normal distribution squashed into (-1, 1)."""

import jax
import jax.numpy as jnp


def sample_tanh_gaussian(
    mean: jax.Array, log_deviation: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A reparameterised sample and its log-probability (SAC, arXiv 1812.05905, appendix C).

    The log-probability is computed from the pre-image, with
    `log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u))`: exact, with exact gradients, also where
    `tanh` rounds to one and `arctanh` or `log(1 - a^2 + epsilon)` would not be.

    Args:
        mean: Of the normal distribution, `(action_size,)`.
        log_deviation: Logarithm of its standard deviation, `(action_size,)`.
        noise: A standard normal draw, `(action_size,)`.

    Returns:
        The action `(action_size,)` and its log-probability `()`.

    Example:
        >>> action, log_probability = sample_tanh_gaussian(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
        >>> action.tolist(), round(float(log_probability), 3)
        ([0.0], -0.919)
    """
    pre_image = mean + jnp.exp(log_deviation) * noise
    normal = -0.5 * jnp.square(noise) - log_deviation - 0.5 * jnp.log(2.0 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - pre_image - jax.nn.softplus(-2.0 * pre_image))
    return jnp.tanh(pre_image), jnp.sum(normal - squash)
