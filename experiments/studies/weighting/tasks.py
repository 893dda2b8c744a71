"""What the rules are tried on: sizes for two CPU cores, one update per environment step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sobolax
from experiments.report.results import RETURN
from experiments.studies import selection
from experiments.studies.weighting import fitting
from experiments.studies.weighting.rules import Rule
from sobolax.environment import Environment


@dataclass(frozen=True)
class Task:
    """An environment, an agent, and what counts as success.

    Attributes:
        name: What the command line and files call it.
        environment: A name that `envs.make` knows.
        config: Static configuration of the program.
        steps: The field of `config` that says how long training is.
        unit: What that field counts, for people.
        hyper: Fields of `hyperparameters` that all rules share.
        hyperparameters: What is traced.
        make_training: `(environment, config, weightings) -> ` a program with `init` and `epoch`.
        score: The metric that says how good a rule is; more is better.
        score_label: Its display name.
        parameters: Of the environment.
    """

    name: str
    environment: str
    config: Any
    steps: str
    unit: str
    hyper: Mapping[str, float]
    hyperparameters: Callable[..., Any]
    make_training: Callable[[Any, Any, Sequence[str]], Any]
    score: str
    score_label: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def sized(self, steps: int | None) -> Any:
        """What shapes a program of so many steps; None for the task's own number."""
        return self.config if steps is None else replace(self.config, **{self.steps: steps})

    def amount(self, steps: int | None) -> str:
        """The same for people."""
        return f"{getattr(self.sized(steps), self.steps):,} {self.unit}"

    def make_hyper(self, rule: Rule, weightings: Sequence[str]) -> Any:
        """The hyperparameters of a rule in a program that chooses from these weightings."""
        return self.hyperparameters(
            **self.hyper,
            state_weight=rule.weight,
            action_weight=rule.weight,
            huber_delta=rule.huber_delta,
            weighting=weightings.index(rule.weighting),
        )


def _train_sac(
    environment: Environment, config: sobolax.agents.sac.Config, weightings: Sequence[str]
):
    return selection.make_training(environment, config, weightings=weightings)


def _sac(name: str, steps: int, **sizes: Any) -> Task:
    config = sobolax.agents.sac.Config(
        hidden_sizes=(64, 64),
        total_timesteps=steps,
        num_envs=8,
        replay_capacity=steps,
        epochs=8,
        learning_starts=512,
        batch_size=64,
        # All policies, of all rules and seeds, on the same episodes.
        evaluation_episodes=32,
        report_horizon=60,
        **sizes,
    )
    rates = {"critic_learning_rate": 1e-3, "actor_learning_rate": 1e-3}
    return Task(
        name=name,
        environment=name,
        config=config,
        steps="total_timesteps",
        unit="environment steps of SAC",
        hyper={**rates, "discount": 0.95},
        hyperparameters=selection.Hyperparameters,
        make_training=_train_sac,
        score=RETURN,
        score_label="return",
    )


_TOY = Task(
    name="toy",
    environment="scalar",
    parameters={"kind": "smooth", "discount": 0.9},
    config=fitting.Config(),
    steps="updates",
    unit="updates of Q-learning on 32 transitions",
    hyper={"critic_learning_rate": 1e-3, "discount": 0.9, "tau": 0.02},
    hyperparameters=fitting.Hyperparameters,
    make_training=fitting.make_fitting,
    score=fitting.DIGITS,
    score_label="digits of Q*",
)

TASKS = {
    task.name: task
    for task in (
        _TOY,
        _sac("pendulum", 6_144, report_states=16),
        # A report's rollouts with tangents would cost more than all of the training here.
        _sac("reacher", 4_096, report_states=0),
    )
}
