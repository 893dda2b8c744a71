"""Trains the members of one program, epoch by epoch, with everything on disk as it goes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import run_folder
from experiments.checkpoints import CheckpointRule
from experiments.configuration import Arm
from experiments.history import History
from experiments.policy import to_host
from experiments.program import Program, call, compile_program
from experiments.progress import Listener


@dataclass(frozen=True)
class Job:
    """What is trained: the members of one program.

    Attributes:
        training: `init` and `epoch`, and `policy` where members have one, as
            `sobolax.training.Training` has them; not compiled.
        arms: Names and weights of the members; each arm has all seeds.
        seeds: How many each arm has.
        keys: A key per member, `(len(arms) * seeds,)`, seeds innermost.
        hypers: Hyperparameters, the same leading axis.
        epochs: How many there are.
        identity: What the members belong to, as JSON knows it: a checkpoint of anything else is
            refused.
    """

    training: Any
    arms: Sequence[Arm]
    seeds: int
    keys: jax.Array
    hypers: Any
    epochs: int
    identity: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What training left: the history so far and, after the last whole epoch, the policies.

    Attributes:
        history: Metrics of the epochs done.
        policies: Those of all members, stacked, in the host's memory; None before the first
            epoch is done, or where a training has none.
        compile_seconds: Lowering and compiling both entry points.
        initialise_seconds: Networks, buffer, prefill.
        interrupted: Whether Ctrl-C cut it short.
    """

    history: History
    policies: Any = None
    compile_seconds: float = 0.0
    initialise_seconds: float = 0.0
    interrupted: bool = False


def train_members(
    job: Job,
    folder: Path,
    listener: Listener,
    checkpoints: CheckpointRule | None = None,
    program: Program | None = None,
) -> Outcome:
    """Trains all members; metrics are on disk after each epoch, and an interrupt keeps those done.

    Args:
        job: What to train.
        folder: An existing folder, which nothing else trains in.
        listener: Whom to tell.
        checkpoints: When checkpoints are taken; None for none.
        program: The job's, where it is compiled already.

    Returns:
        What came out; after Ctrl-C, what there was until then.
    """
    outcome = Outcome(History(job.arms, job.seeds))
    try:
        if program is None:
            listener.phase("compiling")
            program = call(compile_program, job.training, job.keys, job.hypers)
        outcome.compile_seconds = program.compile_seconds
        start = time.perf_counter()
        state = call(program.initialise, job.keys, job.hypers)
        outcome.initialise_seconds = time.perf_counter() - start
        listener.phase("training")
        start = time.perf_counter()
        for epoch in range(job.epochs):
            state, metrics = call(program.epoch, state, job.hypers, jnp.int32(epoch))
            policies = _policies(job.training, state)
            outcome.history.add(jax.device_get(metrics), time.perf_counter() - start)
            outcome.policies = policies
            run_folder.append_lines(folder / run_folder.METRICS, outcome.history.rows(epoch))
            listener.epoch(outcome.history, job.epochs)
    except KeyboardInterrupt:
        outcome.interrupted = True
    return outcome


def _policies(training: Any, state: Any) -> Any:
    """The members' policies as a copy of their own; None where a training has none."""
    policy = getattr(training, "policy", None)
    return None if policy is None else to_host(policy(state))
