"""What gradients buy, against dimensions: `python -m experiments.studies.scaling --help`."""

from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.scaling.figures import figures
from experiments.studies.scaling.measure import measure
from experiments.studies.scaling.options import Options, defaults
from experiments.studies.scaling.tables import tables
from experiments.studies.scaling.variants import prepare

STUDY = study.Study(
    "scaling",
    Options,
    prepare,
    measure,
    tables,
    figures,
    # What was measured apart is merged variant by variant.
    identity=("n", "family", "config"),
    fixed=("env", "share", "learning_starts", "num_envs", "steps", "steps_per_dimension"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.command.main`."""
    return command.main(STUDY, argv, default=defaults(argv))


if __name__ == "__main__":
    leave(main())
