"""Trains in a process each: a row for every evaluation."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import experiments
from experiments.bench.peers import installation
from experiments.bench.peers.installation import PeerUnavailable
from experiments.bench.peers.process import CACHE_VARIABLES, Worker, WorkerError
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.baselines.options import PEERS, Job, Options
from experiments.studies.study import Done, Plan

_ROOT = Path(experiments.__file__).parents[1]
_SECONDS = ("seconds", "train_seconds", "cpu_seconds", "compile_seconds")
_EPOCH: Mapping[str, Any] = {
    "environment_steps": int,
    **dict.fromkeys(("evaluation_return", "evaluation_length", *_SECONDS), float),
}


def command(library: str) -> list[str]:
    """Interpreter and module of a worker; the library's environment must be there."""
    python = str(installation.interpreter(library))
    return [python, "-m", "experiments.studies.baselines.worker"]


def measure(
    plan: Plan[Options, Job],
    progress: Progress,
    install: Callable[[str], Any] = installation.install,
    command_of: Callable[[str], Sequence[str]] = command,
) -> Iterator[Done]:
    """Trains one after the other; what was cut short begins anew.

    Args:
        plan: The trainings.
        progress: Shows what is under way.
        install: Makes the environment of a library, or raises PeerUnavailable.
        command_of: `library -> interpreter and script`.
    """
    usable: dict[str, bool] = {}
    for name, job in plan.jobs.items():
        library = PEERS[job.peer].library
        if library not in usable:
            progress.phase(f"the environment of {library}")
            usable[library] = _installed(library, install, progress)
        if not usable[library]:
            continue
        try:
            found = list(_train(name, job, plan, command_of(library), progress))
        except WorkerError as error:
            progress.warn(f"left out: {name}: {error}")
            continue
        yield Done(name, found)


def _installed(library: str, install: Callable[[str], Any], progress: Progress) -> bool:
    try:
        install(library)
    except PeerUnavailable as error:
        progress.warn(f"left out: all that needs {library}: {error}")
        return False
    return True


def _train(
    name: str,
    job: Job,
    plan: Plan[Options, Job],
    command: Sequence[str],
    progress: Progress,
) -> Iterator[Row]:
    log = plan.folder / "logs" / f"{name.replace(' ', '-')}.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)  # of a training that was cut short
    caches = {name: os.environ[name] for name in CACHE_VARIABLES if name in os.environ}
    # Less of XLA's own log, which fills pages for each program that comes from a cache.
    variables = {"PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **caches}
    evaluations = job.config["evaluations"]
    progress.phase(f"{name}: starting and compiling")
    with Worker(name, command, job.config, log, plan.options.timeout, variables) as worker:
        worker.wait_until_ready()
        packages = ", ".join(f"{package} {at}" for package, at in worker.versions.items())
        for epoch in range(evaluations):
            answer = worker.answer("epoch", _EPOCH)
            measured = {column: answer[column] for column in _EPOCH}
            progress.phase(
                f"{name}: {epoch + 1}/{evaluations} · {measured['environment_steps']:,} steps · "
                f"return {measured['evaluation_return']:.4g}"
            )
            yield {
                "task": job.task,
                "regime": job.regime,
                "variant": job.peer,
                "seed": job.seed,
                "epoch": epoch,
                **measured,
                **{column: round(measured[column], 3) for column in _SECONDS},
                "packages": packages,
            }
