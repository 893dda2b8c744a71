"""Evaluates trained policies on more episodes: `python -m experiments.evaluate RUN`.

Works on complete runs and, from the last checkpoint, on running and killed ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import provenance, run_folder
from experiments.launch.configuration import environment_title
from experiments.launch.exit_status import bad_input, command, leave
from experiments.launch.flags import check_evaluation, read_flags
from experiments.launch.memory import check_episodes
from experiments.launch.policy import TrainedRun, load_run
from experiments.launch.program import call, compile_ahead, keep_compiled_programs
from experiments.report.intervals import Estimate, estimate, paired_difference
from experiments.report.results import counted
from experiments.report.table import Table, show
from sobolax.training.evaluation import Evaluation, evaluate

# Training folds the epoch's number into its evaluation keys; no epoch's number is as large.
_PURPOSE = 2**31


@dataclass(frozen=True)
class Evaluate:
    """Evaluates the policies of a run: complete, still running or killed.

    Attributes:
        run: Folder of the run.
        episodes: Episodes per policy, the same ones for all policies.
        seed: Seed of the episodes' initial states.
        output: A new file; by default evaluation.json, or the next free name, in the run's folder.
        env: The run's environment, needed if it is a class of your own.
    """

    run: tyro.conf.Positional[Path]
    episodes: int = 100
    seed: int = 0
    output: Path | None = None
    env: str | None = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    console = Console()
    try:
        args = read_flags(Evaluate, argv, "python -m experiments.evaluate")
        check_evaluation(args.episodes, args.seed)
        found = load_run(args.run, args.env)
        path = args.output or run_folder.free_path(args.run / "evaluation.json")
        run_folder.check_new_file(path)
        runs = len(found.job.variants) * found.job.seeds
        check_episodes(found.environment, runs, args.episodes)
    except (ValueError, OSError) as error:
        return bad_input(error)
    keep_compiled_programs()
    results = evaluate_run(found, args.episodes, args.seed)
    title = environment_title(found.experiment.env, found.experiment.env_args)
    show([table(results, title)], console)
    run_folder.write_json(path, results)  # after the table: a disk may be full
    text = f"Policies of {found.source}, after {counted(found.epochs, 'epoch')}; all is in {path}"
    console.print(Text(text), soft_wrap=True)
    return 0


def evaluate_run(found: TrainedRun, episodes: int, seed: int) -> dict[str, Any]:
    """Runs all policies on the same episodes.

    Args:
        found: The run.
        episodes: Episodes per policy.
        seed: Seed of the initial states. No episode is one that training evaluated on.

    Returns:
        The content of the file: per variant the mean return with a 95 % interval over seeds (over
        episodes if there is one seed), per seed an interval over episodes, and paired
        differences. Frozen runs are listed, and left out of all but their own.
    """
    job = found.job
    key = jax.random.fold_in(jax.random.key(seed), _PURPOSE)

    def one(policy: Any) -> Evaluation:
        def act(observation: jax.Array) -> jax.Array:
            return job.training.act(policy, observation)

        return evaluate(found.environment, act, key, episodes)

    program, _ = compile_ahead(jax.vmap(one), found.policies)
    result = jax.device_get(call(program, found.policies))
    shape = (len(job.variants), job.seeds)
    returns = np.asarray(result.returns, np.float64).reshape(*shape, episodes)
    lengths = np.asarray(result.lengths, np.float64).reshape(*shape, episodes)
    nonfinite = np.asarray(result.nonfinite).reshape(shape)
    sound, stayed = (np.where(found.frozen[..., None], np.nan, x) for x in (returns, lengths))
    means = sound.mean(axis=2)
    variants = {
        variant.name: {
            "label": variant.label,
            "weights": variant.weights,
            "return": asdict(estimate(means[i] if job.seeds > 1 else sound[i, 0])),
            "standard_deviation": estimate(sound[i].std(axis=1)).mean,
            "length": estimate(stayed[i]).mean,
            "nonfinite": int(nonfinite[i].sum()),
            "frozen": np.flatnonzero(found.frozen[i]).tolist(),
            "per_seed": [asdict(estimate(returns[i, j])) for j in range(job.seeds)],
        }
        for i, variant in enumerate(job.variants)
    }
    pairs = {
        f"{variant.name} - {job.variants[0].name}": asdict(paired_difference(means[i], means[0]))
        for i, variant in enumerate(job.variants)
        if i
    }
    return {
        "episodes": episodes,
        "seed": seed,
        "epochs": found.epochs,
        "source": str(found.source.name),
        "confidence": 0.95,
        "interval": "Student's t over " + ("seeds" if job.seeds > 1 else "episodes"),
        "variants": variants,
        "paired_differences": pairs,
        **provenance.describe(),
    }


def table(results: Mapping[str, Any], title: str) -> Table:
    """The table of an evaluation."""
    rows = []
    for variant in results["variants"].values():
        found, spread = Estimate(**variant["return"]), variant["standard_deviation"]
        rows.append((variant["label"], found, spread, variant["length"], variant["nonfinite"]))
    headings = ("variant", "return [95 %]", "deviation, of episodes", "length", "non-finite")
    over = results["interval"].split()[-1]
    caption = f"{title}, {results['episodes']:,} episodes, mean and 95 % interval over {over}"
    frozen = [
        f"{variant['label']}, seed {seed}"
        for variant in results["variants"].values()
        for seed in variant["frozen"]
    ]
    note = f"Frozen in training, and left out of means: {'; '.join(frozen)}." if frozen else ""
    return Table(caption, headings, rows, note=note)


if __name__ == "__main__":
    leave(main())
