"""The paper's experiment, SAC on Ant (arXiv 2511.19165): `python -m experiments.studies.ant`.

The study `payoff` on Ant alone, with 204,800 steps.
"""

import dataclasses
from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import command
from experiments.studies.payoff.__main__ import STUDY
from experiments.studies.payoff.options import Options

# A paragraph for every sentence: tyro does not wrap them.
ABOUT = """The paper's experiment: SAC on Ant, 204,800 steps, with gradients and without.

The same study as payoff, with other defaults: rows of both merge with --report.

The defaults take some ten hours on 2 cores; --resume continues them.

For a trial of minutes: --variants plain soft_1 --seeds 1 --shrink 100.

"""
DEFAULTS = Options(
    tasks=("ant",),
    regimes=("long",),
    variants=("plain", "raw", "soft_1", "soft_shuffled"),
    seeds=6,
    seeds_per_program=3,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.command.main`."""
    return command.main(dataclasses.replace(STUDY, name="ant", about=ABOUT), argv, DEFAULTS)


if __name__ == "__main__":
    leave(main())
