"""The jobs of an audit: each measures one thing of one environment."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from experiments.launch.configuration import environment_title, parse_environment_arguments
from experiments.launch.policy import TrainedPolicy
from experiments.launch.program import call
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.derivatives import quantities, solver, states
from experiments.studies.derivatives.options import Options, check
from experiments.studies.derivatives.programs import Programs, length, take
from experiments.studies.derivatives.states import Kind
from experiments.studies.study import Done, Plan
from sobolax.environment import Environment

Job = Callable[[], Iterable[Row]]
LEFT_OUT = "left out"


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options and plans the jobs; see `experiments.studies.study.Study.prepare`."""
    environment, parameters, methods, policy = check(options)
    audit = _Audit(options, environment, parameters, methods, policy)
    jobs: dict[str, Job] = {"cost": audit.costs}  # first: it times what it compiles
    for name in (states.RESET, states.RANDOM, states.AIRBORNE, states.RESTING, states.TRAINED):
        jobs[name] = partial(audit.derivatives, name)
    jobs["rollouts"] = audit.rollouts
    jobs["physics steps"] = audit.physics_steps
    jobs["one solver iteration"] = audit.one_iteration
    return Plan(options, jobs, options.env)


def measure(plan: Plan[Options, Job], progress: Progress) -> Iterator[Done]:
    """Runs the jobs; see `experiments.studies.study.Study.measure`."""
    given = parse_environment_arguments(plan.options.env_args)
    title = environment_title(plan.options.env, given)
    for name, job in plan.jobs.items():
        progress.phase(f"{title}: {name}")
        rows = call(lambda job=job: list(job()))
        yield Done(name, [{"env": title, **row} for row in rows])


@dataclass(frozen=True)
class _Audit:
    options: Options
    environment: Environment
    parameters: Mapping[str, Any]
    methods: tuple[str, ...]
    policy: TrainedPolicy | None

    @cached_property
    def programs(self) -> Programs:
        return Programs(self.options.env, self.parameters, self.options.batch)

    @cached_property
    def double(self) -> Programs:
        return Programs(self.options.env, self.parameters, self.options.compared, double=True)

    @cached_property
    def kinds(self) -> tuple[dict[str, Kind], dict[str, str]]:
        return states.collect(self.programs, self.policy, self.options.states, self.options.seed)

    def random_actions(self, seed: int) -> states.Act:
        return states.random_actions(self.programs, np.random.default_rng(self.options.seed + seed))

    def costs(self) -> Iterator[Row]:
        options = self.options
        first = self.programs.reset(options.batch, options.seed)
        kind = Kind(first, self.random_actions(2)(first))
        return quantities.costs(self.programs, self.methods, kind, options.repetitions)

    def derivatives(self, name: str) -> Iterator[Row]:
        """A row for every state and method."""
        kinds, reasons = self.kinds
        if name in reasons:
            yield _left_out(name, reasons[name])
        if name not in kinds:
            return
        kind, size = kinds[name], self.environment.state_size
        found = {
            method: self.programs.derivatives(method, kind.states, kind.actions)
            for method in self.methods
        }
        few = slice(self.options.compared)
        some, double = take(kind, few), self.double
        wide = Kind(double.convert(some.states), some.actions.astype(np.float64))
        ends = double.convert(take(found[self.methods[0]][0], few))
        reference, other = double.differences(*wide, ends, quantities.STEPS)
        for index, (method, (_, derivatives)) in enumerate(found.items()):
            columns = quantities.soundness(derivatives, size, kind.states)
            columns["error_float32"] = quantities.errors(take(derivatives, few), reference)
            if index == 0:  # in float64 too, which is one more program
                _, exact = double.derivatives(method, *wide)
                columns["error_float64"] = quantities.errors(exact, reference)
            columns["uncertainty"] = quantities.errors(other, reference)
            for state in range(length(kind.states)):
                names = {"measure": "derivatives", "kind": name, "method": method, "state": state}
                yield names | {
                    key: values[state] for key, values in columns.items() if state < len(values)
                }

    def rollouts(self) -> Iterator[Row]:
        acts = {states.RANDOM: self.random_actions(3)}
        if self.policy is not None:
            acts[states.TRAINED] = states.trained_actions(self.programs, self.policy)
        for kind, act in acts.items():
            for row in quantities.rollout(self.programs, self.methods[0], act, self.options):
                yield {"kind": kind, **row}

    def physics_steps(self) -> Iterator[Row]:
        reason = solver.reason_against_steps(self.environment)
        if reason is None:
            yield from solver.growth_within(self.programs, self.kinds[0][states.RANDOM])
        else:
            yield _left_out("growth within a step", reason)

    def one_iteration(self) -> Iterator[Row]:
        reason = solver.reason_against_iterations(self.environment)
        if reason is None and not self.options.one_iteration:
            reason = "--no-one-iteration"
        if reason is None:
            first = self.programs.reset(self.options.batch, self.options.seed)
            yield from solver.one_iteration(
                self.programs, self.options.env, self.parameters, first, self.options.seed + 4
            )
        else:
            yield _left_out("one solver iteration", reason)


def _left_out(what: str, reason: str) -> Row:
    return {"measure": LEFT_OUT, "kind": what, "reason": reason}
