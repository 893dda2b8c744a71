"""A history as a run would leave it, without any run."""

import numpy as np

import sobolax
from experiments.launch.configuration import Variant, merge
from experiments.launch.history import History
from experiments.report.results import Timing

TIMING = Timing(12.0, 1.0, 40.0, 5000.0, 60.0)


def two_variants() -> tuple[Variant, Variant]:
    sobolev = sobolax.agents.sac.Hyperparameters(state_weight=0.5, action_weight=2.0)
    plain = merge(sobolev, {"state_weight": 0.0, "action_weight": 0.0})
    return Variant("plain", plain), Variant("sobolev", sobolev)


def history(epochs: int = 20, seeds: int = 4) -> History:
    rng = np.random.default_rng(0)
    made = History(two_variants(), seeds)
    for epoch in range(epochs):
        done = (epoch + 1) / epochs
        variant = np.repeat([0.0, 1.0], seeds)

        def noisy(values, scale):
            return values + scale * rng.normal(size=2 * seeds)

        made.add(
            {
                "environment_steps": np.full(2 * seeds, 1000 * (epoch + 1)),
                "evaluation_return": noisy(-60 + 50 * done ** (1 - 0.6 * variant), 2.0),
                "value_error": np.exp(noisy(-2 * done - variant * done, 0.2)),
                "state_gradient_error": np.exp(noisy(-done - 2 * variant * done, 0.2)),
                "action_gradient_error": np.exp(noisy(-0.3 * done - 2 * variant * done, 0.2)),
                "state_gradient_cosine": np.tanh(noisy(done * (1 + 2 * variant), 0.1)),
                "action_gradient_cosine": np.tanh(noisy(done * (0.4 + 2 * variant), 0.1)),
                "gradients_dropped": np.full(2 * seeds, 0.001),
                "transitions_nonfinite": np.zeros(2 * seeds),
                "tail": np.full(2 * seeds, 0.05),
            },
            2.0 * (epoch + 1),
        )
    return made
