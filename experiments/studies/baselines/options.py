"""Which agents of other people train on what, and their sizes."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.launch.configuration import make_environment
from experiments.launch.flags import check_seed
from experiments.studies.payoff.options import configure
from experiments.studies.payoff.tasks import REGIMES, TASKS
from experiments.studies.payoff.variants import PLAIN
from experiments.studies.study import Plan, check_flags, check_names
from sobolax.checks import check_choice


@dataclass(frozen=True)
class Peer:
    """An agent that is not ours.

    Attributes:
        label: For tables and figures.
        library: Whose environment of packages it runs in, see `experiments.bench.peers`.
    """

    label: str
    library: str


PEERS = {"brax_ppo": Peer("Brax's PPO", "brax"), "brax_sac": Peer("Brax's SAC", "brax")}

# Between two rounds of updates 64 environments make 16 steps each. What Brax's notebooks have for
# MuJoCo tasks, for 64 environments in place of thousands.
_PPO: Mapping[str, Any] = {
    "num_envs": 64,
    "unroll_length": 16,
    "batch_size": 8,
    "num_minibatches": 8,
    "num_updates_per_batch": 8,
    "learning_rate": 3e-4,
    "entropy_cost": 1e-2,
}
PPO_ROUND = 1024  # steps of all environments


@dataclass(frozen=True)
class Options:
    """Brax's PPO and SAC on our environments, beside SAC and SHAC of `payoff` by `--report`.

    Each training is a process in an environment with Brax's own pinned packages, made below
    .cache/peers on first use. One that fails is left out, with its reason, and left for `--resume`.

    The defaults take hours to a day on 2 cores, and `--resume` goes on with what was stopped. For a
    trial of minutes: `--tasks chain --peers brax_ppo --seeds 1 --shrink 50`.

    Attributes:
        tasks: Which, of those of `payoff`.
        peers: Which, of brax_ppo and brax_sac.
        regime: Steps and updates of SAC, as in `payoff`: few, few_1, few_16, many, long, long_64.
        seeds: How many seeds each gets.
        first_seed: The first of them.
        ppo_timesteps: Steps of PPO's environments, all together.
        ppo_evaluations: How often PPO is evaluated.
        sac_timesteps: Steps of SAC's environments; None for those of the regime.
        timeout: Seconds that a training may take to compile, or between two evaluations.
        shrink: Divides steps and evaluations, for a trial.
        variants: For --report: which agents it shows, of ours and theirs; none for all.
        until: For --report: the agent whose end sets the time at which returns are compared; '' for
            the fastest of each task.
    """

    tasks: tuple[str, ...] = ("hopper", "walker2d", "half_cheetah", "ant", "pusher", "chain")
    peers: tuple[str, ...] = tuple(PEERS)
    regime: str = "many"
    seeds: int = 5
    first_seed: int = 0
    ppo_timesteps: int = 1_024_000
    ppo_evaluations: int = 50
    sac_timesteps: int | None = None
    timeout: float = 3600.0
    shrink: int = 1
    variants: tuple[str, ...] = ()
    until: str = ""


@dataclass(frozen=True)
class Job:
    """One training, which is one process.

    Attributes:
        task: Name of the task.
        regime: Name of the regime.
        peer: Name of the agent.
        seed: Which.
        config: What the worker gets.
    """

    task: str
    regime: str
    peer: str
    seed: int
    config: Mapping[str, Any]


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    tasks = check_names("tasks", options.tasks, tuple(TASKS))
    peers = check_names("peers", options.peers, tuple(PEERS))
    check_choice("--regime ", options.regime, tuple(REGIMES))
    counts = ("seeds", "ppo_timesteps", "ppo_evaluations", "shrink")
    check_flags(options, counts, lambda x: x >= 1, "at least 1")
    check_seed(options.first_seed, "--first-seed", bits=31)
    check_flags(options, ["timeout"], lambda x: x > 0, "above 0")
    if options.variants or options.until:
        raise ValueError(
            "--variants and --until choose what --report shows, and nothing is reported here: "
            "leave them out, or name folders or files of rows with --report"
        )
    configs = {
        (task, peer): configure_peer(options, task, peer)
        for task, peer in itertools.product(tasks, peers)
    }
    for task in tasks:
        make_environment(TASKS[task].env)  # a package that is missing is named here
    jobs: dict[str, Job] = {}
    # Seeds outermost: what is cut short has all agents.
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for (task, peer), config in configs.items():
            name = f"{task} {options.regime} {peer} {seed}"
            jobs[name] = Job(task, options.regime, peer, seed, {**config, "seed": seed})
    return Plan(options, jobs, "-".join(tasks))


def configure_peer(options: Options, task: str, peer: str) -> dict[str, Any]:
    """What a worker gets, but for its seed.

    Raises:
        ValueError: If the steps do not fit the evaluations.
    """
    plain: Any  # SAC's
    plain, hyper = configure(task, options.regime, PLAIN)
    shared = {
        "agent": peer,
        "environment": TASKS[task].env,
        "hidden_sizes": list(plain.hidden_sizes),
        "evaluation_episodes": plain.evaluation_episodes,
        "discounting": float(hyper.discount),
    }
    if peer == "brax_ppo":
        return shared | _ppo_sizes(options)
    steps = plain.total_timesteps if options.sac_timesteps is None else options.sac_timesteps
    steps, starts = steps // options.shrink, plain.learning_starts // options.shrink
    evaluations = max(2, plain.epochs // options.shrink)
    least = starts + evaluations * plain.num_envs
    if steps < least:
        raise ValueError(
            f"--sac-timesteps {steps} must be at least {least}: {starts} steps before the first "
            f"update, and one of {plain.num_envs} environments before each of {evaluations} "
            "evaluations (after --shrink)"
        )
    sizes = {
        "num_envs": plain.num_envs,
        "batch_size": plain.batch_size,
        "grad_updates_per_step": plain.gradient_steps,
        "min_replay_size": starts,
        # Brax rounds epochs up, and a full buffer is moved as a whole at every step.
        "max_replay_size": steps + (evaluations + 1) * plain.num_envs,
        "learning_rate": 3e-4,
    }
    return shared | {"timesteps": steps, "evaluations": evaluations, "sizes": sizes}


def _ppo_sizes(options: Options) -> dict[str, Any]:
    whole = PPO_ROUND * options.ppo_evaluations
    if options.ppo_timesteps % whole:
        nearest = max(1, round(options.ppo_timesteps / whole)) * whole
        raise ValueError(
            f"--ppo-timesteps {options.ppo_timesteps} must be a multiple of {whole}, "
            f"{options.ppo_evaluations} evaluations of {PPO_ROUND} steps: take {nearest}, or other "
            "--ppo-evaluations"
        )
    evaluations = max(1, options.ppo_evaluations // options.shrink)
    rounds = max(1, options.ppo_timesteps // (options.shrink * evaluations * PPO_ROUND))
    steps = rounds * evaluations * PPO_ROUND
    return {"timesteps": steps, "evaluations": evaluations, "sizes": dict(_PPO)}
