"""The critics: a function of one observation number and one action number each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp


class Network(nn.Module):
    """A multilayer perceptron; unlike those of the library it may be of ReLUs, for contrast."""

    sizes: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Maps `(1,)` and `(1,)` to `()`."""
        x = jnp.concatenate([observation, action])
        for size in self.sizes:
            x = self.activation(nn.Dense(size)(x))
        return nn.Dense(1)(x)[0]


class Quadratic(nn.Module):
    """Linear in all monomials up to the second degree."""

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Maps `(1,)` and `(1,)` to `()`."""
        s, a = observation[0], action[0]
        return nn.Dense(1)(jnp.stack([s, a, s * s, s * a, a * a]))[0]


class Fourier(nn.Module):
    """Linear in cosines and sines of random, fixed frequencies (Rahimi and Recht, 2007)."""

    count: int = 32
    scale: float = 0.5  # standard deviation of a frequency, per unit of state or action

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Maps `(1,)` and `(1,)` to `()`."""
        draw = nn.initializers.normal(self.scale)
        frequencies = jax.lax.stop_gradient(self.param("frequencies", draw, (2, self.count)))
        phase = jnp.concatenate([observation, action]) @ frequencies
        waves = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)])
        return nn.Dense(1)(waves)[0]


@dataclass(frozen=True)
class Critic:
    """A critic and how it is trained.

    Attributes:
        label: Its display name.
        module: Maps an observation and an action to a value.
        learning_rate: Adam's at first. The one that served *plain* learning best, of those of
            `--study tuning`; all other variants share it.
    """

    label: str
    module: nn.Module
    learning_rate: float


CRITICS = {
    "quadratic": Critic("quadratic features", Quadratic(), 0.1),
    "tanh": Critic("MLP 32 × 32, tanh", Network((32, 32), nn.tanh), 0.03),
    "swish": Critic("MLP 32 × 32, swish", Network((32, 32), nn.swish), 0.03),
    "relu": Critic("MLP 32 × 32, ReLU", Network((32, 32), nn.relu), 0.03),
    "wide": Critic("wide MLP 256, swish", Network((256,), nn.swish), 0.1),
    "fourier": Critic("64 Fourier features", Fourier(), 0.03),
}
# The critic that all controls are shown on.
MAIN = "swish"
