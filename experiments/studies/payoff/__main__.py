"""Where the first-order term pays on MuJoCo: `python -m experiments.studies.payoff --help`."""

from collections.abc import Sequence

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.payoff.figures import figures
from experiments.studies.payoff.measure import measure
from experiments.studies.payoff.options import Options, prepare
from experiments.studies.payoff.tables import tables

STUDY = study.Study(
    "payoff",
    Options,
    prepare,
    measure,
    tables,
    figures,
    fixed=("regimes", "shrink"),
    # The same rows, by other defaults.
    merges=dict.fromkeys(("payoff", "ant", "first_order_agents"), Options),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see `experiments.studies.command.main`."""
    return command.main(STUDY, argv)


if __name__ == "__main__":
    leave(main())
