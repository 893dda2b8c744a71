"""First-order Sobolev reinforcement learning: critics trained on values and on slopes.

Importing this package imports nothing else: each module below loads when it is first named, so
that somebody who wants one loss gets no agent, no training loop and no simulator.

- `transition`, `environment`: what a transition, its tangents and a differentiable environment are.
- `tangents`: derivatives of a transition through an environment.
- `derivatives`: how they are computed, by name, and what makes them reliable.
- `losses`: the Sobolev temporal-difference loss; `loss_input` says what it takes.
- `sources`, `tangent_storage`: when slopes are computed, and how tangents are kept.
- `slope_targets`: what slopes are matched to: Bellman's, or a control's.
- `weighting`: how its terms are weighted, adaptively or not.
- `sac`, `td3`, `ddpg`, `q_learning`: agents, ready to train (`sobolax.sac.make_train`).
- `critic_report`: how right a critic's values and slopes are.
- `cart`: the smallest environment there is, for first tries and examples.
- `testing`: whether an environment of your own keeps the protocol.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sobolax import (
        agent_config,
        agents,
        cart,
        critic_report,
        ddpg,
        derivatives,
        differences,
        distributions,
        environment,
        evaluation,
        loss_input,
        losses,
        multi_step,
        networks,
        normalization,
        q_learning,
        reliability,
        replay,
        sac,
        slope_targets,
        sources,
        tangent_storage,
        tangents,
        td3,
        testing,
        training,
        transition,
        validation,
        weighting,
    )

__version__ = "0.1.0"

__all__ = [
    "agent_config",
    "agents",
    "cart",
    "critic_report",
    "ddpg",
    "derivatives",
    "differences",
    "distributions",
    "environment",
    "evaluation",
    "loss_input",
    "losses",
    "multi_step",
    "networks",
    "normalization",
    "q_learning",
    "reliability",
    "replay",
    "sac",
    "slope_targets",
    "sources",
    "tangent_storage",
    "tangents",
    "td3",
    "testing",
    "training",
    "transition",
    "validation",
    "weighting",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"sobolax.{name}")
    raise AttributeError(f"module 'sobolax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
