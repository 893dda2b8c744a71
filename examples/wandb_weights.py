"""A W&B sweep chooses the gradients' weights: `python -m examples.wandb_weights --env pendulum`.

W&B's server draws them, so it needs an account. With SWEEP_ID=... it joins a sweep.
"""

import os
from dataclasses import replace
from pathlib import Path

import wandb

from experiments import train
from experiments.launch import command_line, history, program, progress

WEIGHT = {"distribution": "log_uniform_values", "min": 1e-3, "max": 10.0}
SWEEP = {
    "method": "bayes",
    "metric": {"name": "evaluation_return", "goal": "maximize"},
    "parameters": {"state_weight": WEIGHT, "action_weight": WEIGHT},
}


def trial(flags, folder):
    """A run of the sweep, with `experiments.train`'s flags (None: sys.argv's)."""
    with wandb.init() as run:

        class Reporting(progress.Silent):
            def epoch(self, done, epochs):
                run.log({"evaluation_return": float(done.last(history.RETURN).mean())})

        base, output = command_line.parse(flags), Path(folder) / f"trial_{run.id}"
        hyper = replace(base.hyper, **{name: run.config[name] for name in SWEEP["parameters"]})
        prepared = train.prepare(replace(base, hyper=hyper, compare=False, output=output))
        return train.execute(prepared, Reporting())


if __name__ == "__main__":
    program.keep_compiled_programs()
    sweep = os.environ.get("SWEEP_ID") or wandb.sweep(SWEEP, project="sobolax")
    wandb.agent(sweep, lambda: trial(None, "runs/wandb"), project="sobolax", count=20)
