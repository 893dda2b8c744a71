"""What the toy varies, and the fits that this comes to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from envs.analytic.scalar import KINDS
from experiments.launch.flags import check_seed
from experiments.studies.study import Plan, check_flags, check_names, check_rising
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.fit import CHUNK, Sizes
from experiments.studies.toy.variants import PAIR, TUNED, VARIANTS, Variant

LARGEST = 100_000
RATES = (0.003, 0.01, 0.03, 0.1)
# Variants in a call of a program: few, so that calls are short and fit into a processor's cache.
_VARIANTS_PER_CALL = 2


@dataclass(frozen=True)
class Options:
    """Fitted Q iteration on systems with one state, one action and a known Q*.

    Plain learning beside Sobolev learning and the controls.

    The defaults take two to six minutes on 2 cores. For a trial: `--systems smooth --critics swish
    --seeds 2 --sizes 8 16`.

    Attributes:
        study: "main" for the table of docs/results/toy.md; "tuning" for what its learning rates and
            weights were chosen by, which is no part of the table and takes longer.
        systems: Which systems, of "linear", "smooth", "steep" and "contact".
        critics: Which critics beside the main one, swish.
        transitions: How many transitions the controls and the critics are compared at.
        sizes: How many transitions plain and Sobolev learning are compared at.
        seeds: Networks and data sets; every variant and critic gets the same.
        iterations: Of fitted Q iteration.
        updates: Steps of Adam per iteration.
        seed: Where random numbers start.
    """

    study: Literal["main", "tuning"] = "main"
    systems: tuple[str, ...] = ("linear", "smooth", "contact")
    critics: tuple[str, ...] = tuple(CRITICS)
    transitions: int = 16
    sizes: tuple[int, ...] = (8, 16, 32, 64, 256, 1024)
    seeds: int = 20
    iterations: int = 60
    updates: int = 50
    seed: int = 0

    @property
    def shape(self) -> Sizes:
        """Static configuration of the programs."""
        most = max(*self.sizes, 3 * self.transitions)
        capacity = -(-most // CHUNK) * CHUNK
        return Sizes(self.iterations, self.updates, capacity=capacity)


@dataclass(frozen=True)
class Job:
    """One call of a program.

    Attributes:
        critic: Name of the critic.
        system: Name of the system.
        transitions: How many.
        variants: As many for all jobs.
        gradient_targets: Of the program.
        learning_rate: Adam's at first.
    """

    critic: str
    system: str
    transitions: int
    variants: tuple[Variant, ...]
    gradient_targets: tuple[str, ...]
    learning_rate: float

    @property
    def name(self) -> str:
        """Says all that it differs from other jobs in."""
        variants = " and ".join(dict.fromkeys(variant.name for variant in self.variants))
        rate = f"{self.learning_rate:g}"
        return f"{self.system}, {self.critic} at {rate}, {self.transitions}: {variants}"


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    counts = ("seeds", "iterations", "updates", "transitions")
    check_flags(options, counts, lambda x: 1 <= x <= LARGEST, f"from 1 to {LARGEST}")
    check_rising(options, "sizes", LARGEST)
    check_seed(options.seed, bits=31)
    options = replace(options, systems=check_names("systems", options.systems, KINDS))
    if options.critics:
        options = replace(options, critics=check_names("critics", options.critics, tuple(CRITICS)))
    jobs = _tuning(options) if options.study == "tuning" else _main(options)
    return Plan(options, {job.name: job for job in jobs}, label=options.study)


def _main(options: Options) -> Iterator[Job]:
    for system in options.systems:
        yield from _jobs(MAIN, system, options.transitions, VARIANTS)
        for critic in options.critics:
            yield from _jobs(critic, system, options.transitions, PAIR)
        for count in options.sizes:
            yield from _jobs(MAIN, system, count, PAIR)


def _tuning(options: Options) -> Iterator[Job]:
    for system in options.systems:
        yield from _jobs(MAIN, system, options.transitions, TUNED)
        for critic in options.critics:
            for rate in RATES:
                yield from _jobs(critic, system, options.transitions, PAIR, rate)
        for rate in RATES:
            yield from _jobs(MAIN, system, options.sizes[-1], PAIR, rate)


def _jobs(
    critic: str, system: str, count: int, variants: Sequence[Variant], rate: float | None = None
) -> Iterator[Job]:
    """Variants by twos, those with other gradients than Bellman's apart: these cost more."""
    rate = CRITICS[critic].learning_rate if rate is None else rate
    bellman = [variant for variant in variants if variant.gradient_target == "bellman"]
    controls = [variant for variant in variants if variant.gradient_target != "bellman"]
    for group in (bellman, controls):
        names = tuple(sorted({variant.gradient_target for variant in group}))
        for start in range(0, len(group), _VARIANTS_PER_CALL):
            chosen = group[start : start + _VARIANTS_PER_CALL]
            # One more of the same where one is missing, so that the program is the same.
            chosen = (chosen * _VARIANTS_PER_CALL)[:_VARIANTS_PER_CALL]
            yield Job(critic, system, count, tuple(chosen), names, rate)
