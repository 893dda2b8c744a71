"""Agents, one file each: `Config`, `Hyperparameters`, `make_agent` and the TD error.

`sobolax.make_training(environment, sac.Config()).run` makes one ready to train.
"""

from sobolax.agents import ddpg, q_learning, sac, shac, td3

__all__ = ["ddpg", "q_learning", "sac", "shac", "td3"]
