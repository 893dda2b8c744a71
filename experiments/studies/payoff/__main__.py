"""Where the first-order term pays on MuJoCo: `python -m experiments.studies.payoff --help`."""

import functools

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.payoff.chosen_rows import SELECTS, UNIQUE, columns
from experiments.studies.payoff.figures import figures
from experiments.studies.payoff.measure import measure
from experiments.studies.payoff.options import Options, prepare
from experiments.studies.payoff.tables import tables
from experiments.studies.payoff.variants import CHOICES

STUDY = study.Study(
    "payoff",
    Options,
    prepare,
    measure,
    tables,
    figures,
    identity=("task", "regime", "variant", "seed"),
    fixed=("shrink",),
    # The same rows, by other defaults.
    merges=dict.fromkeys(("payoff", "ant", "first_order_agents"), Options),
    selects={
        **SELECTS,
        "regimes": lambda row, options: row.get("regime") in options.regimes,
    },
    draws={"baseline": lambda row, options: row.get("variant") == options.baseline},
    columns=columns(CHOICES),
    unique=UNIQUE,
)


main = functools.partial(command.main, STUDY)

if __name__ == "__main__":
    leave(main())
