"""Compares critics with a Q* that is known: `python -m experiments.studies.toy --help`."""

import functools

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.toy.figures import figures
from experiments.studies.toy.measure import measure
from experiments.studies.toy.options import Options, prepare
from experiments.studies.toy.tables import tables

STUDY = study.Study(
    "toy",
    Options,
    prepare,
    measure,
    tables,
    figures,
    fixed=("study", "transitions", "sizes", "iterations", "updates"),
)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
