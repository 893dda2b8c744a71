"""Compares rules for weighting gradients: `python -m experiments.studies.weighting --help`."""

from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import study
from experiments.studies.weighting.figures import figures
from experiments.studies.weighting.measure import measure
from experiments.studies.weighting.options import Options, prepare
from experiments.studies.weighting.tables import tables

STUDY = study.Study("weighting", Options, prepare, measure, tables, figures)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.study.main`."""
    return study.main(STUDY, argv)


if __name__ == "__main__":
    leave(main())
