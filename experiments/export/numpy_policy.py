"""Runs an exported policy with NumPy alone; copy this file to where it is needed.

policy = load("policy.npz")
action = policy(observation)  # of numbers in -1 to 1
"""

import numpy as np

ACTIVATIONS = {
    "swish": lambda x: x * 0.5 * (1.0 + np.tanh(0.5 * x)),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.logaddexp(x, 0.0),
}


def load(path):
    """The policy of a file: `(..., observation_size) -> (..., action_size)`."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    activation = ACTIVATIONS[str(arrays["activation"])]
    layers = [(arrays[f"kernel_{n}"], arrays[f"bias_{n}"]) for n in range(int(arrays["layers"]))]

    def policy(observation):
        x = (np.asarray(observation, arrays["mean"].dtype) - arrays["mean"]) / arrays["deviation"]
        for kernel, bias in layers[:-1]:
            x = activation(x @ kernel + bias)
        return np.tanh(x @ layers[-1][0] + layers[-1][1])

    return policy
