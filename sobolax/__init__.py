"""First-order Sobolev reinforcement learning: critics trained on values and on gradients.

Importing this package imports nothing else: each name below loads when it is first used, so that
somebody who wants one loss gets no agent, no training loop and no simulator.

- `losses`: the Sobolev temporal-difference loss, of any TD error.
- `transition`, `environment`, `cart`: transitions, the protocol of environments, the smallest one.
- `tangents`: derivatives of a transition through an environment: how, when, and how they are kept.
- `controls`: what gradients are matched to: Bellman's, or a control's.
- `weighting`: how the terms of the loss are weighted, adaptively or not.
- `agents`: SAC, TD3, DDPG, Q-learning and SHAC, a file each.
- `training`: collection, replay, updates and evaluation as one compiled program.
- `testing`: whether an environment of your own keeps the protocol.
- `mjx`: MuJoCo physics on MJX, differentiable (the extra `mjx`).
- `make_training`: an agent ready to train.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sobolax import (
        agents,
        cart,
        checks,
        controls,
        environment,
        losses,
        mjx,
        tangents,
        testing,
        training,
        transition,
        weighting,
    )
    from sobolax.training.loop import make_training

__version__ = "0.1.0"

__all__ = [
    "agents",
    "cart",
    "checks",
    "controls",
    "environment",
    "losses",
    "make_training",
    "mjx",
    "tangents",
    "testing",
    "training",
    "transition",
    "weighting",
]


def __getattr__(name: str) -> Any:
    if name == "make_training":
        return getattr(importlib.import_module("sobolax.training.loop"), name)
    if name in __all__:
        return importlib.import_module(f"sobolax.{name}")
    raise AttributeError(f"module 'sobolax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
