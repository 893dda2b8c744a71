"""Compares critics with a Q* that is known: `python -m experiments.studies.toy --help`."""

from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import study
from experiments.studies.toy.figures import figures
from experiments.studies.toy.measure import measure
from experiments.studies.toy.options import Options, prepare
from experiments.studies.toy.tables import tables

STUDY = study.Study("toy", Options, prepare, measure, tables, figures)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.study.main`."""
    return study.main(STUDY, argv)


if __name__ == "__main__":
    leave(main())
