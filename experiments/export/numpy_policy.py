"""Runs an exported policy with NumPy alone; copy this file to where it is needed.

`load("policy.npz")(observation)` is the action, of numbers in -1 to 1.
"""

import numpy as np

ACTIVATIONS = {
    "swish": lambda x, xp: x * 0.5 * (1.0 + xp.tanh(0.5 * x)),
    "tanh": lambda x, xp: xp.tanh(x),
    "gelu": lambda x, xp: 0.5 * x * (1.0 + xp.tanh((2.0 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "softplus": lambda x, xp: xp.logaddexp(x, 0.0),
}


def load(path, xp=np):
    """The policy of a file: `(..., observation_size) -> (..., action_size)`.

    `xp` may be `jax.numpy`.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    activation, mean = ACTIVATIONS[str(arrays["activation"])], arrays["mean"]
    layers = [(arrays[f"kernel_{n}"], arrays[f"bias_{n}"]) for n in range(int(arrays["layers"]))]

    def policy(observation):
        x = (xp.asarray(observation, mean.dtype) - mean) / arrays["deviation"]
        for kernel, bias in layers[:-1]:
            x = activation(x @ kernel + bias, xp)
        return xp.tanh(x @ layers[-1][0] + layers[-1][1])

    return policy
