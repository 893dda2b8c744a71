"""The tanh-Gaussian, a normal distribution squashed into (-1, 1), and clipped normal noise."""

from typing import Any

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
        mean: Of the normal distribution, `(..., action_size)`.
        log_deviation: Logarithm of its standard deviation, `(..., action_size)`.
        noise: A standard normal draw, `(..., action_size)`.

    Returns:
        The action `(..., action_size)` and its log-probability `(...)`.

    Example:
        >>> action, log_probability = sample_tanh_gaussian(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
        >>> action.tolist(), round(float(log_probability), 3)
        ([0.0], -0.919)
    """
    pre_image = mean + jnp.exp(log_deviation) * noise
    normal = -0.5 * jnp.square(noise) - log_deviation - 0.5 * jnp.log(2.0 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - pre_image - jax.nn.softplus(-2.0 * pre_image))
    return jnp.tanh(pre_image), jnp.sum(normal - squash, axis=-1)


def smoothing_noise(key: jax.Array, shape: tuple[int, ...], hyper: Any) -> jax.Array:
    """Clipped normal noise for the target's action (TD3, arXiv 1802.09477, section 5.3).

    A gradient goes through the sum as if the noise were not there, but where an agent clips it.

    Example:
        >>> from sobolax.agents.td3 import Hyperparameters
        >>> hyper = Hyperparameters(target_action_noise=100.0, target_action_noise_bound=0.5)
        >>> float(jnp.abs(smoothing_noise(jax.random.key(0), (8, 1), hyper)).max())
        0.5
    """

    def draw() -> jax.Array:
        noise = hyper.target_action_noise * jax.random.normal(key, shape)
        return jnp.clip(noise, -hyper.target_action_noise_bound, hyper.target_action_noise_bound)

    # Most agents have none, and drawing it is a twentieth of the update of a small network. Under a
    # `vmap` over its deviation it is drawn all the same.
    zeros = jnp.zeros(shape, jax.eval_shape(draw).dtype)
    return jax.lax.cond(jnp.asarray(hyper.target_action_noise) > 0, draw, lambda: zeros)
