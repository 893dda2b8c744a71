"""Agents of other people on our environments: `python -m experiments.studies.baselines --help`."""

import functools

from experiments.launch.exit_status import leave
from experiments.report.results import RETURN
from experiments.studies import command, study
from experiments.studies.baselines.figures import figures
from experiments.studies.baselines.measure import measure
from experiments.studies.baselines.options import PEERS, Options, prepare
from experiments.studies.baselines.tables import tables
from experiments.studies.payoff.options import Options as PayoffOptions
from experiments.studies.payoff.tasks import REGIMES, TASKS
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
        "tasks": lambda row, options: row.get("task") in options.tasks,
        "regime": lambda row, options: row.get("regime") == options.regime,
        "variants": lambda row, options: row.get("variant") in options.variants,
        "first_seed": lambda row, options: row["seed"] >= options.first_seed,
        "seeds": lambda row, options: row["seed"] < options.first_seed + options.seeds,
    },
    draws={"until": lambda row, options: row.get("variant") == options.until},
    columns={
        "job": None,
        "task": TASKS,
        "regime": REGIMES,
        "variant": {**CHOICES, **PEERS},
        **dict.fromkeys(("seed", "epoch", "seconds", "environment_steps", RETURN)),
    },
)


main = functools.partial(command.main, STUDY)

if __name__ == "__main__":
    leave(main())
