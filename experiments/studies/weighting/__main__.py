"""Compares rules for weighting gradients: `python -m experiments.studies.weighting --help`."""

import functools

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.weighting.figures import figures
from experiments.studies.weighting.measure import measure
from experiments.studies.weighting.options import Options, prepare
from experiments.studies.weighting.tables import tables

STUDY = study.Study(
    "weighting",
    Options,
    prepare,
    measure,
    tables,
    figures,
    fixed=("steps", "gradient_units", "trust"),
)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
