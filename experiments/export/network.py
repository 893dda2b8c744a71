"""A trained policy as plain arrays: normalisation, layers, `tanh`."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from sobolax.training import normalization

#: Agents whose policy is a network; Q-learning's is a search over actions.
AGENTS = ("sac", "td3", "ddpg", "shac")


@dataclass(frozen=True)
class Network:
    """`tanh(layers((observation - mean) / deviation))`, with an activation between layers.

    Attributes:
        mean: Of what the policy sees, `(inputs,)`.
        deviation: `(inputs,)`.
        layers: Kernels `(inputs, outputs)` and biases `(outputs,)`; the last gives the action,
            `(action_size,)`, in -1 to 1 after `tanh`.
        activation: A name of `sobolax.agents.networks.ACTIVATIONS`.
    """

    mean: np.ndarray
    deviation: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    activation: str


def read_network(
    parameters: Any,
    agent: str,
    activation: str,
    action_size: int,
    inputs: tuple[int, ...] | None = None,
) -> Network:
    """The network of a trained policy.

    Args:
        parameters: A `sobolax.training.state.Policy`, of one run.
        agent: The agent's name.
        activation: Of the hidden layers.
        action_size: Numbers in an action; a stochastic policy's deviations are left out.
        inputs: Indices of the numbers of an observation that the policy sees, which are all that
            the network takes; None for all.

    Raises:
        ValueError: If the policy is no network.
    """
    check_agent(agent)
    tree = jax.device_get(parameters.agent.actor)["params"]
    tree = tree.get("MLP_0", tree)  # a Gaussian actor holds a perceptron, TD3's is one
    names = sorted(tree, key=lambda name: int(name.rpartition("_")[2]))
    layers = [(np.asarray(tree[name]["kernel"]), np.asarray(tree[name]["bias"])) for name in names]
    kernel, bias = layers[-1]
    layers[-1] = kernel[:, :action_size], bias[:action_size]
    seen = slice(None) if inputs is None else np.asarray(inputs)
    return Network(
        np.asarray(parameters.normalizer.mean)[seen],
        np.asarray(normalization.deviation(parameters.normalizer))[seen],
        tuple(layers),
        activation,
    )


def check_agent(agent: str) -> None:
    """Raises ValueError for an agent whose policy is no network."""
    if agent not in AGENTS:
        raise ValueError(
            f"a policy of {agent} cannot be exported: it is no network. These are: "
            f"{', '.join(AGENTS)}"
        )
