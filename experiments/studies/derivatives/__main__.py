"""The derivatives of an environment: `python -m experiments.studies.derivatives --env hopper`."""

from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import study
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
    fixed=("bound", "discount", "batch"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.study.main`."""
    return study.main(STUDY, argv)


if __name__ == "__main__":
    leave(main())
