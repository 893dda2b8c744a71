"""One audit from beginning to end."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.launch import run_folder
from experiments.studies.derivatives import measures, solver, states
from experiments.studies.derivatives.exposed import is_mujoco
from experiments.studies.derivatives.options import Prepared
from experiments.studies.derivatives.programs import Programs, length, select, take
from experiments.studies.derivatives.states import Kind

Tell = Callable[[str], None]
AUDIT = "audit.json"


def execute(prepared: Prepared, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Measures everything.

    Args:
        prepared: What to measure.
        tell: Is told what is under way.

    Returns:
        What `audit.json` holds.
    """
    audit, start = prepared.audit, time.perf_counter()
    programs = Programs(audit.env, prepared.parameters)
    environment, draw = programs.environment, np.random.default_rng(audit.seed)
    tell("states of the kinds")
    # The programs whose compilation is timed are compiled first, and then serve everything.
    first = programs.reset(audit.batch, audit.seed)
    random = states.random_actions(programs, draw)
    tell("compiling and timing")
    price = measures.price(
        programs, audit.methods, Kind(first, random(first)), audit.batch, audit.repetitions
    )
    tell("states of the kinds")
    kinds, reasons = states.collect(
        programs, prepared.policy, audit.states, audit.batch, audit.seed
    )
    tell("derivatives at the states")
    found = {name: _derive(prepared, programs, kind) for name, kind in kinds.items()}
    tell("rollouts with tangents")
    acts = {states.RANDOM: random}
    if prepared.policy is not None:
        acts[states.TRAINED] = states.trained_actions(programs, prepared.policy)
    rollouts = {
        name: measures.rollout(
            programs,
            audit.methods[0],
            act,
            audit.batch,
            audit.rollout_states,
            audit.chain,
            audit.bound,
            audit.seed + 1,
        )
        for name, act in acts.items()
    }
    tell("comparing with float64 central differences")
    _compare(prepared, kinds, found)
    within, iteration, skipped = _physics_steps(prepared, programs, kinds, first, tell)
    return {
        "audit": {
            **{name: value for name, value in asdict(audit).items() if name != "output"},
            "policy": None if audit.policy is None else audit.policy.name,
            "env_args": dict(prepared.parameters),
        },
        **run_folder.provenance(),
        "sizes": {
            "state_size": environment.state_size,
            "action_size": environment.action_size,
            "observation_size": programs.observation_size,
            "substeps": getattr(environment, "substeps", None),
        },
        "difference_steps": measures.STEPS,
        "left_out": {**reasons, **skipped},
        "kinds": {name: entry["measures"] for name, entry in found.items()},
        "rollouts": rollouts,
        "within_step": within,
        "one_iteration": iteration,
        "price": price,
        "seconds": time.perf_counter() - start,
    }


def _derive(prepared: Prepared, programs: Programs, kind: Kind) -> dict[str, Any]:
    """Everything about one kind but the errors."""
    audit, size = prepared.audit, programs.environment.state_size
    found: dict[str, Any] = {"gradients": {}, "measures": {}}
    for method in audit.methods:
        ends, gradients = measures.derived(programs, method, kind, audit.batch)
        norms = measures.norms(gradients.state[:, :, :size])
        found["gradients"][method], found["ends"] = gradients, ends
        found["measures"][method] = {
            **measures.soundness(gradients, size, kind.states),
            "norm": measures.spread(norms, audit.bound),
            "error": {},
        }
    return found


def _compare(prepared: Prepared, kinds: dict[str, Kind], found: dict[str, Any]) -> None:
    """Adds the errors of every kind and method, in float32 and in float64."""
    audit = prepared.audit
    double = Programs(audit.env, prepared.parameters, double=True)
    for name, kind in kinds.items():
        few = slice(min(audit.compared, length(kind.states)))
        kind = Kind(take(kind.states, few), kind.actions[few])
        reference, floor = measures.references(double, kind, take(found[name]["ends"], few))
        wide = Kind(double.convert(kind.states), kind.actions)
        count = {"none": 0, "first": 1, "all": len(audit.methods)}[audit.in_float64]
        for index, method in enumerate(audit.methods):
            gradients = select(found[name]["gradients"][method], few)
            entry = found[name]["measures"][method]["error"]
            entry["float32"] = measures.spread(measures.errors(gradients, reference))
            entry["floor"] = measures.spread(floor)
            if index < count:
                _, gradients = measures.derived(double, method, wide, audit.compared)
                entry["float64"] = measures.spread(measures.errors(gradients, reference))


def _physics_steps(
    prepared: Prepared, programs: Programs, kinds: dict[str, Kind], first: Any, tell: Tell
) -> tuple[list[dict[str, Any]] | None, dict[str, Any] | None, dict[str, str]]:
    """What is to be had of MuJoCo's physics steps alone, and reasons for what is not."""
    audit, skipped = prepared.audit, {}
    within = iteration = None
    reason = solver.reason_against_steps(programs.environment)
    if reason is None:
        tell("physics steps")
        chosen = np.arange(audit.batch) % length(kinds[states.RANDOM].states)
        kind = kinds[states.RANDOM]
        within = solver.growth_within(
            programs, Kind(take(kind.states, chosen), kind.actions[chosen])
        )
    else:
        skipped["growth within a step"] = reason
    reason = solver.reason_against_iterations(audit.env, prepared.environment)
    if not audit.one_iteration and reason is None and is_mujoco(prepared.environment):
        reason = "not asked for (--no-one-iteration)"
    if reason is None:
        tell("one solver iteration")
        iteration = solver.one_iteration(
            programs, audit.env, prepared.parameters, first, audit.seed + 2
        )
    else:
        skipped["one solver iteration"] = reason
    return within, iteration, skipped
