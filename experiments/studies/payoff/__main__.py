"""Where the first-order term pays on MuJoCo: `python -m experiments.studies.payoff --help`."""

import functools

from experiments.launch.exit_status import leave
from experiments.report.results import RETURN
from experiments.studies import command, study
from experiments.studies.payoff.figures import figures
from experiments.studies.payoff.measure import measure
from experiments.studies.payoff.options import Options, prepare
from experiments.studies.payoff.tables import tables
from experiments.studies.payoff.tasks import REGIMES, TASKS
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
        "tasks": lambda row, options: row.get("task") in options.tasks,
        "regimes": lambda row, options: row.get("regime") in options.regimes,
        "variants": lambda row, options: row.get("variant") in options.variants,
        "first_seed": lambda row, options: row["seed"] >= options.first_seed,
        "seeds": lambda row, options: row["seed"] < options.first_seed + options.seeds,
    },
    draws={"baseline": lambda row, options: row.get("variant") == options.baseline},
    columns={
        "job": None,
        "task": TASKS,
        "regime": REGIMES,
        "variant": CHOICES,
        **dict.fromkeys(("seed", "epoch", "seconds", "environment_steps", RETURN)),
    },
)


main = functools.partial(command.main, STUDY)

if __name__ == "__main__":
    leave(main())
