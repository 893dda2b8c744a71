"""Agents of other people on our environments: `python -m experiments.studies.baselines --help`."""

import functools

from experiments.launch.exit_status import leave
from experiments.studies import command, study
from experiments.studies.baselines.figures import figures
from experiments.studies.baselines.measure import measure
from experiments.studies.baselines.options import PEERS, Options, prepare
from experiments.studies.baselines.tables import tables
from experiments.studies.payoff.chosen_rows import SELECTS, UNIQUE, columns
from experiments.studies.payoff.options import Options as PayoffOptions
from experiments.studies.payoff.variants import CHOICES

STUDY = study.Study(
    "baselines",
    Options,
    prepare,
    measure,
    tables,
    figures,
    identity=("task", "regime", "variant", "seed"),
    fixed=("shrink",),
    merges=dict.fromkeys(("payoff", "first_order_agents", "ant"), PayoffOptions),
    selects={
        **SELECTS,
        "regime": lambda row, options: row.get("regime") == options.regime,
    },
    draws={"until": lambda row, options: row.get("variant") == options.until},
    columns=columns([*CHOICES, *PEERS]),
    unique=UNIQUE,
)


main = functools.partial(command.main, STUDY)

if __name__ == "__main__":
    leave(main())
