"""Small smooth networks: gradients are trained, so every activation is C1 or better."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sobolax.checks import check_choice
from sobolax.environment import seen_indices

#: By name; each is smooth.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "swish": nn.swish,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "softplus": nn.softplus,
}


#: Normalisation of a critic's hidden layers, by name: each looks at one sample alone.
NORMS = ("none", "layer", "rms")


def check_norm(owner: str, name: str, field: str = "critic_norm") -> None:
    """Raises ValueError, with the reason, for a normalisation that there is not, in that field.

    Example:
        >>> check_norm("mine", "batch")
        Traceback (most recent call last):
        ValueError: mine: critic_norm='batch' couples the samples of a batch: ...
    """
    if str(name).lower().replace("_", "").removesuffix("norm") == "batch":
        raise ValueError(
            f"{owner}: {field}={name!r} couples the samples of a batch: a critic's gradient at "
            "one transition would depend on all others, and the loss needs that of each. Choose "
            "'layer' or 'rms', which look at one sample alone"
        )
    check_choice(f"{owner}: {field}=", name, NORMS)


def check_networks(
    owner: str, hidden_sizes: Any, activation: Any, norm: Any, norm_field: str = "critic_norm"
) -> None:
    """Raises ValueError, saying what to do instead, for networks that there are not.

    Example:
        >>> check_networks("mine", (64, 64), "relu", "none")
        Traceback (most recent call last):
        ValueError: mine: activation='relu' is not smooth: its gradient jumps, and ...
    """
    if not (isinstance(hidden_sizes, Sequence) and hidden_sizes) or any(
        isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in hidden_sizes
    ):
        raise ValueError(
            f"{owner}: hidden_sizes={hidden_sizes!r} must be one or more whole numbers of at least "
            "1, say (128, 128)"
        )
    if activation == "relu":
        raise ValueError(
            f"{owner}: activation='relu' is not smooth: its gradient jumps, and gradients are "
            f"trained. Choose one of {', '.join(ACTIVATIONS)}"
        )
    check_choice(f"{owner}: activation=", activation, ACTIVATIONS)
    check_norm(owner, norm, norm_field)


def _normalized(x: jax.Array, norm: str) -> jax.Array:
    """A hidden layer before its activation; to be called inside a module."""
    # Larger than usual, as gradients are trained: a layer of equal numbers is a steep place. And
    # no difference of squares, whose gradient is rounding where they are near each other.
    dtype = jnp.result_type(float)
    if norm == "layer":
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, param_dtype=dtype)(x)
    return nn.RMSNorm(epsilon=1e-5, param_dtype=dtype)(x) if norm == "rms" else x


class MLP(nn.Module):
    """A multilayer perceptron with a linear last layer.

    Attributes:
        hidden_sizes: Widths of the hidden layers.
        output_size: Numbers that it gives.
        activation: A name in `ACTIVATIONS`.
        norm: A name in `NORMS`, of the hidden layers.
        inputs: Indices of the numbers that it looks at; None for all.

    Example:
        >>> network = MLP(hidden_sizes=(4,), output_size=2)
        >>> jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros(3))[0].shape
        (2,)
    """

    hidden_sizes: Sequence[int]
    output_size: int
    activation: str = "swish"
    norm: str = "none"
    inputs: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(..., input size)` to `(..., output_size)`."""
        if self.inputs is not None:
            chosen = seen_indices("the network's inputs", self.inputs, x.shape[-1])
            x = x[..., np.asarray(chosen)]
        for size in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](_normalized(_dense(size)(x), self.norm))
        return _dense(self.output_size)(x)


def _dense(size: int) -> nn.Dense:
    # float64 where that is enabled: flax would stay at float32, and the training would mix both.
    return nn.Dense(size, param_dtype=jnp.result_type(float))


class Critic(nn.Module):
    """The value of an observation and an action.

    Example:
        >>> critic = Critic(hidden_sizes=(4,))
        >>> parameters = critic.init(jax.random.key(0), jnp.zeros(2), jnp.zeros(1))
        >>> critic.apply(parameters, jnp.zeros(2), jnp.zeros(1)).shape
        ()
    """

    hidden_sizes: Sequence[int]
    activation: str = "swish"
    norm: str = "none"

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Maps `(observation_size,)` and `(action_size,)` to `()`."""
        x = jnp.concatenate([observation, action])
        return MLP(self.hidden_sizes, 1, self.activation, self.norm)(x)[0]


class GaussianActor(nn.Module):
    """Mean and log standard deviation of a policy's normal distribution, before `tanh`.

    Attributes:
        hidden_sizes: Widths of the hidden layers.
        action_size: Numbers in an action.
        activation: A name in `ACTIVATIONS`.
        log_deviation_range: Between which numbers the log deviation is.
        inputs: Indices of the numbers of an observation that it looks at; None for all.

    Example:
        >>> actor = GaussianActor(hidden_sizes=(4,), action_size=1)
        >>> output, _ = jax.eval_shape(actor.init_with_output, jax.random.key(0), jnp.zeros(2))
        >>> [part.shape for part in output]  # mean and log deviation
        [(1,), (1,)]
    """

    hidden_sizes: Sequence[int]
    action_size: int
    activation: str = "swish"
    log_deviation_range: tuple[float, float] = (-5.0, 2.0)
    inputs: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps `(..., observation_size)` to two `(..., action_size)`."""
        size = 2 * self.action_size
        network = MLP(self.hidden_sizes, size, self.activation, inputs=self.inputs)
        output = network(observation)
        mean, raw = jnp.split(output, 2, axis=-1)
        low, high = self.log_deviation_range
        # Squashed, not clipped: a clipped deviation would have no gradient.
        return mean, low + 0.5 * (high - low) * (nn.tanh(raw) + 1.0)
