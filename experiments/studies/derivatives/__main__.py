"""The derivatives of an environment: `python -m experiments.studies.derivatives --env hopper`."""

import functools

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.derivatives.figures import figures
from experiments.studies.derivatives.measure import measure, prepare
from experiments.studies.derivatives.options import Options
from experiments.studies.derivatives.tables import tables

STUDY = study.Study(
    "derivatives",
    Options,
    prepare,
    measure,
    tables,
    figures,
    identity=("env", "job"),
    fixed=("bound", "discount"),
)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
