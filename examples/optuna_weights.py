"""Optuna chooses the gradients' weights: `python -m examples.optuna_weights --env pendulum`."""

from dataclasses import replace
from pathlib import Path

import optuna

from experiments import train
from experiments.launch import command_line, history, program, progress


def search(flags, trials, folder, track=()):
    """A search with `experiments.train`'s flags (None: sys.argv's); each trial leaves a run."""
    base = replace(command_line.parse(flags), compare=False)

    def objective(trial):
        class Reporting(progress.Silent):
            def epoch(self, done, epochs):
                trial.report(float(done.last(history.RETURN).mean()), len(done.epochs))
                if trial.should_prune():
                    raise KeyboardInterrupt  # ends the run with its results on disk

        names = "state_weight", "action_weight"  # traced: trials share a program, from the cache
        hyper = {name: trial.suggest_float(name, 1e-3, 10.0, log=True) for name in names}
        output = Path(folder) / f"trial_{trial.number:03d}"
        prepared = train.prepare(replace(base, hyper=replace(base.hyper, **hyper), output=output))
        with train.tracked(prepared, Reporting(), track) as shown:
            results = train.execute(prepared, shown)
        if results["interrupted"]:
            raise optuna.TrialPruned
        return results["variants"]["sobolev"]["metrics"][history.RETURN]["mean"]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, trials)
    return study


if __name__ == "__main__":
    program.keep_compiled_programs()
    print(search(None, 20, "runs/optuna").best_params)
