"""What is compared: the plain agent, gradients of some kinds, and controls."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

PLAIN, MAIN = "plain", "soft_1"
MORE = ("more_updates", "more_data")  # plain, with as much time as gradients take

#: Other physics than the task's, as arguments of `make_one_iteration`; see `Choice.physics`.
ONE_ITERATION: Mapping[str, Mapping[str, Any]] = {
    "one iteration": {"ls_iterations": 1, "implicit": False},
    "one iteration, line search": {"ls_iterations": 8, "implicit": False},
    "one iteration, implicit": {"ls_iterations": 1, "implicit": True},
}


@dataclass(frozen=True)
class Choice:
    """One way to train the critic, everything else the same.

    Attributes:
        label: For tables and figures.
        kind: "baseline", "gradients", or "control": what must not gain if gradients do.
        config: Fields of the agent's `Config`.
        hyper: Fields of its `Hyperparameters`.
        updates: Factor of the updates of a step.
        steps: Factor of the environment's steps.
        agent: Name of the agent.
        physics: What it learns in, evaluated in the converged physics:
            "converged": the task's, with exact derivatives;
            "one iteration": `mjx.step` with one iteration of solver and line search, and their
            derivatives;
            "one iteration, line search": the same with 8 iterations of the line search;
            "one iteration, implicit": the physics of the second with implicit derivatives.
    """

    label: str
    kind: Literal["baseline", "gradients", "control"]
    config: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    updates: float = 1.0
    steps: float = 1.0
    agent: str = "sac"
    physics: str = "converged"


def _weights(value: float) -> Mapping[str, float]:
    return {"state_weight": value, "action_weight": value}


def _rates(value: float) -> Mapping[str, float]:
    names = ("critic_learning_rate", "actor_learning_rate", "temperature_learning_rate")
    return dict.fromkeys(names, value)


_TENTH, _ONE, _THREE, _TEN = (_weights(w) for w in (0.1, 1.0, 3.0, 10.0))
_STD = {"gradient_units": "observation_std"}
_SVG = {"actor_gradient": "simulator"}
_SHAC = {"num_envs": 64, "horizon": 16}
# Of a small grid on hopper, two seeds each. Without an entropy bonus policies stood still.
_SHAC_RATES = {"actor_learning_rate": 5e-4, "initial_temperature": 0.1}
_SHAC_FAST = {**_SHAC_RATES, "actor_learning_rate": 5e-3}
_SHAC_TENTH = {**_SHAC_RATES, "state_weight": 0.1}
# Four times the updates from as many steps. Of a small grid on walker2d, half_cheetah and pusher.
_SHAC_16 = {**_SHAC, "num_envs": 16, "critic_epochs": 4}
_SHAC_16_RATES = {**_SHAC_RATES, "actor_learning_rate": 3e-3, "growth_bound": 10.0}
_SHAC_16_TENTH = {**_SHAC_16_RATES, "state_weight": 0.1}
_SOFT, _LAYER = {**_STD, "trust": "soft"}, {"critic_norm": "layer"}
_FAST, _SLOW = _rates(1e-3), _rates(1e-4)
_THREE_STEPS = {"n_step": 3}
_TEACHER = {"teacher": "fitted"}


def _shac_16(label: str, config: Mapping[str, Any] | None = None, **rates: float) -> Choice:
    """SHAC with 16 environments and without gradients in its critic, but for what is given."""
    config = {**_SHAC_16, "first_order": "off", **(config or {})}
    return Choice(label, "baseline", config, {**_SHAC_16_RATES, **rates}, agent="shac")


def _one_iteration(how: str, physics: str = "one iteration", **rates: float) -> Choice:
    """The same, trained in the physics of one solver iteration."""
    trained = _shac_16(f"SHAC, 16 environments, trained {how}", None, **rates)
    return replace(trained, physics=physics)


def _short(horizon: int, target: str = "") -> Choice:
    """The same with shorter windows of as many states, so with as many updates."""
    label = f"SHAC, windows of {horizon} steps"
    config = {"num_envs": 256 // horizon, "horizon": horizon}
    if not target:
        return _shac_16(label, config)
    kind, words = ("gradients", "") if target == "bellman" else ("control", f"{target} ")
    return Choice(
        f"{label}, {words}gradients per standard deviation, λ = 0.1",
        kind,
        {**_SHAC_16, **config, **_STD, "gradient_target": target},
        _SHAC_16_TENTH,
        agent="shac",
    )


CHOICES: dict[str, Choice] = {
    PLAIN: Choice("plain", "baseline", {"first_order": "off"}),
    "raw": Choice("gradients as in the paper, λ = 0.1", "gradients", hyper=_TENTH),
    "raw_001": Choice("gradients as in the paper, λ = 0.001", "gradients", hyper=_weights(1e-3)),
    "raw_1": Choice("gradients as in the paper, λ = 1", "gradients", hyper=_ONE),
    "std": Choice("per standard deviation, λ = 0.1", "gradients", _STD, _TENTH),
    "std_1": Choice("per standard deviation, λ = 1", "gradients", _STD, _ONE),
    "soft": Choice("soft trust, λ = 0.1", "gradients", _SOFT, _TENTH),
    "soft_1": Choice("soft trust, λ = 1", "gradients", _SOFT, _ONE),
    "soft_3": Choice("soft trust, λ = 3", "gradients", _SOFT, _THREE),
    "soft_10": Choice("soft trust, λ = 10", "gradients", _SOFT, _TEN),
    "soft_action": Choice(
        "soft trust, along the action alone, λₐ = 1",
        "gradients",
        _SOFT,
        {**_ONE, "state_weight": 0.0},
    ),
    "soft_state": Choice(
        "soft trust, along the state alone, λₛ = 1",
        "gradients",
        _SOFT,
        {**_ONE, "action_weight": 0.0},
    ),
    "hard": Choice("hard trust, λ = 0.1", "gradients", {**_STD, "trust": "hard"}, _TENTH),
    "quarter": Choice(
        "soft trust, a quarter, λ = 1", "gradients", {**_SOFT, "gradient_fraction": 0.25}, _ONE
    ),
    "guarded": Choice(
        "soft trust, guarded, λ = 1", "gradients", {**_SOFT, "weighting": "guarded"}, _ONE
    ),
    "n_step": Choice("plain, three steps", "baseline", {"first_order": "off", **_THREE_STEPS}),
    "n_step_soft_1": Choice(
        "soft trust, λ = 1, three steps", "gradients", {**_SOFT, **_THREE_STEPS}, _ONE
    ),
    "layer": Choice("plain, LayerNorm", "baseline", {"first_order": "off", **_LAYER}),
    "layer_soft_1": Choice("soft trust, λ = 1, LayerNorm", "gradients", {**_SOFT, **_LAYER}, _ONE),
    "soft_shuffled": Choice(
        "soft trust, λ = 1, shuffled", "control", {**_SOFT, "gradient_target": "shuffled"}, _ONE
    ),
    "soft_zero": Choice(
        "soft trust, λ = 1, towards 0",
        "control",
        {**_SOFT, "gradient_target": "zero"},
        _ONE,
    ),
    "layer_soft_zero": Choice(
        "soft trust, λ = 1, LayerNorm, towards 0",
        "control",
        {**_SOFT, **_LAYER, "gradient_target": "zero"},
        _ONE,
    ),
    "layer_soft_shuffled": Choice(
        "soft trust, λ = 1, LayerNorm, shuffled",
        "control",
        {**_SOFT, **_LAYER, "gradient_target": "shuffled"},
        _ONE,
    ),
    "shuffled": Choice("shuffled gradients", "control", {"gradient_target": "shuffled"}, _TENTH),
    "zero": Choice("gradients towards 0", "control", {"gradient_target": "zero"}, _TENTH),
    "unit_norm": Choice(
        "gradients towards norm 1", "control", {"gradient_target": "unit_norm"}, _TENTH
    ),
    "svg": Choice(
        "plain critic, actor through the simulator", "gradients", {"first_order": "off", **_SVG}
    ),
    "svg_mixed": Choice(
        "plain critic, mixed actor",
        "gradients",
        {"first_order": "off", "actor_gradient": "mixed"},
    ),
    "svg_soft_1": Choice(
        "soft trust, λ = 1, actor through the simulator", "gradients", {**_SOFT, **_SVG}, _ONE
    ),
    "soft_1_policy": Choice(
        "soft trust, λ = 1, at the policy's action",
        "gradients",
        {**_SOFT, "first_order": "recomputed", "gradients_at": "policy"},
        _ONE,
    ),
    "pave": Choice(
        "plain, smoothed (PAVE)", "control", {"first_order": "off", "critic_smoothness": "pave"}
    ),
    "differences": Choice(
        "gradients by differences", "gradients", {"derivatives": {"method": "differences"}}, _TENTH
    ),
    "fast": Choice("plain, rates of 1e-3", "baseline", {"first_order": "off"}, _FAST),
    "slow": Choice("plain, rates of 1e-4", "baseline", {"first_order": "off"}, _SLOW),
    "fast_soft_1": Choice(
        "soft trust, λ = 1, rates of 1e-3", "gradients", _SOFT, {**_ONE, **_FAST}
    ),
    "slow_soft_1": Choice(
        "soft trust, λ = 1, rates of 1e-4", "gradients", _SOFT, {**_ONE, **_SLOW}
    ),
    "more_updates": Choice(
        "plain, twice the updates", "control", {"first_order": "off"}, updates=2.0
    ),
    "layer_more_updates": Choice(
        "plain, LayerNorm, twice the updates",
        "control",
        {"first_order": "off", **_LAYER},
        updates=2.0,
    ),
    "half_updates": Choice(
        "plain, half the updates", "control", {"first_order": "off"}, updates=0.5
    ),
    "quarter_updates": Choice(
        "plain, a quarter of the updates", "control", {"first_order": "off"}, updates=0.25
    ),
    "more_data": Choice(
        "plain, twice the transitions", "control", {"first_order": "off"}, steps=2.0
    ),
    "shac": Choice("SHAC", "baseline", {**_SHAC, "first_order": "off"}, _SHAC_RATES, agent="shac"),
    "shac_cut": Choice(
        "SHAC, chains cut at growth 10",
        "baseline",
        {**_SHAC, "first_order": "off"},
        {**_SHAC_RATES, "growth_bound": 10.0},
        agent="shac",
    ),
    "shac_fast": Choice(
        "SHAC, ten times the learning rate",
        "baseline",
        {**_SHAC, "first_order": "off"},
        _SHAC_FAST,
        agent="shac",
    ),
    "shac_fast_bounded": Choice(
        "SHAC, ten times the learning rate, no gradient longer than 3 medians",
        "baseline",
        {**_SHAC, "first_order": "off"},
        {**_SHAC_FAST, "outlier_bound": 3.0},
        agent="shac",
    ),
    "shac_fast_cut": Choice(
        "SHAC, ten times the learning rate, chains cut at growth 10",
        "baseline",
        {**_SHAC, "first_order": "off"},
        {**_SHAC_FAST, "growth_bound": 10.0},
        agent="shac",
    ),
    "shac_gradients": Choice(
        "SHAC, gradients, λ = 0.1", "gradients", _SHAC, _SHAC_TENTH, agent="shac"
    ),
    "shac_gradients_std": Choice(
        "SHAC, per standard deviation, λ = 0.1",
        "gradients",
        {**_SHAC, **_STD},
        _SHAC_TENTH,
        agent="shac",
    ),
    "shac_shuffled": Choice(
        "SHAC, shuffled gradients",
        "control",
        {**_SHAC, "gradient_target": "shuffled"},
        _SHAC_TENTH,
        agent="shac",
    ),
    "shac_16": _shac_16("SHAC, 16 environments"),
    "shac_16_gradients_std": Choice(
        "SHAC, 16 environments, gradients per standard deviation, λ = 0.1",
        "gradients",
        {**_SHAC_16, **_STD},
        _SHAC_16_TENTH,
        agent="shac",
    ),
    "shac_16_shuffled": Choice(
        "SHAC, 16 environments, shuffled gradients per standard deviation",
        "control",
        {**_SHAC_16, **_STD, "gradient_target": "shuffled"},
        _SHAC_16_TENTH,
        agent="shac",
    ),
    "shac_16_whole": _shac_16("SHAC, 16 environments, chains whole", growth_bound=float("inf")),
    "shac_16_slow": _shac_16(
        "SHAC, 16 environments, a sixth of the learning rate", actor_learning_rate=5e-4
    ),
    "shac_16_passes": _shac_16(
        "SHAC, 16 environments, 16 passes of the critic", {"critic_epochs": 16}
    ),
    "shac_16_wide": _shac_16("SHAC as with 16 environments, but 64", {"num_envs": 64}),
    "shac_16_one_iteration": _one_iteration("with one iteration"),
    "shac_16_one_iteration_whole": _one_iteration(
        "with one iteration, chains whole", growth_bound=float("inf")
    ),
    "shac_16_one_iteration_slow": _one_iteration(
        "with one iteration, a third of the learning rate", actor_learning_rate=1e-3
    ),
    "shac_16_one_iteration_search": _one_iteration(
        "with one iteration and 8 of the line search", "one iteration, line search"
    ),
    "shac_16_one_iteration_implicit": _one_iteration(
        "with one iteration and implicit derivatives", "one iteration, implicit"
    ),
    **{f"shac_{horizon}": _short(horizon) for horizon in (2, 4, 8)},
    **{f"shac_{horizon}_gradients_std": _short(horizon, "bellman") for horizon in (2, 4, 8)},
    "shac_4_shuffled": _short(4, "shuffled"),
    "teacher": Choice("fitted teacher, λ = 0.1", "gradients", _TEACHER, _TENTH),
    "teacher_soft_1": Choice(
        "fitted teacher, soft trust, λ = 1", "gradients", {**_SOFT, **_TEACHER}, _ONE
    ),
}
