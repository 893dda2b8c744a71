"""Agents: pure functions that act and learn, without a training loop."""

from sobolax.agents.agent import Agent

__all__ = ["Agent"]
