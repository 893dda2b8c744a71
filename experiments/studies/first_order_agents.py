"""Actors through the simulator beside SAC: `python -m experiments.studies.first_order_agents`.

The study `payoff` with variants of SHAC, at equal steps; tables have the time as well.
"""

import dataclasses
from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import command
from experiments.studies.payoff.__main__ import STUDY
from experiments.studies.payoff.options import Options

# A paragraph for every sentence: tyro does not wrap them.
ABOUT = """SHAC, whose actor follows gradients through the simulator, beside SAC.

The same study as payoff, with other defaults: rows of both merge with --report.

The defaults take some three hours on 2 cores; --resume continues them.

For a trial of minutes: --tasks chain --seeds 1 --shrink 100.

"""
DEFAULTS = Options(
    tasks=("pusher", "walker2d", "half_cheetah", "hopper", "chain"),
    regimes=("many",),
    variants=("plain", "shac", "shac_16", "shac_16_gradients_std"),
    seeds=5,
    seeds_per_program=5,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.command.main`."""
    study = dataclasses.replace(STUDY, name="first_order_agents", about=ABOUT)
    return command.main(study, argv, DEFAULTS)


if __name__ == "__main__":
    leave(main())
