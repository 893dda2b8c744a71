"""Gradients of windows: the statistics by hand, what is differentiated, and a whole small run."""

import json
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.launch import run_folder
from experiments.report import rows
from experiments.report.rows import Rows
from experiments.studies import merging
from experiments.studies.horizon import statistics
from experiments.studies.horizon.__main__ import STUDY, Options, main
from experiments.studies.horizon.measure import compared, returns
from sobolax.cart import Cart
from sobolax.environment import State
from sobolax.training.backward import differentiate
from sobolax.training.rollouts import Rollout


@pytest.mark.parametrize("name", ["distance", "noises", "directions", "discount", "hidden"])
def test_runs_that_the_note_would_confuse_are_not_merged(name, tmp_path):
    folders = [tmp_path / "hopper", tmp_path / "half_cheetah"]
    for folder in folders:
        options = asdict(Options(tasks=(folder.name,)))
        options[name] += folder.name == "hopper"
        folder.mkdir()
        saved = {"study": "horizon", "options": options}
        run_folder.write_json(folder / run_folder.CONFIGURATION, saved)
        rows.write(folder, [{"job": f"{folder.name}, state 0", "task": folder.name}])
    with pytest.raises(ValueError, match=f"differ in {name}: "):
        merging.merge(STUDY, folders)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "hopper_"], "'hopper_'"),
        (["--horizons", "4", "2"], "--horizons 4 2 must be rising numbers from 1 on"),
        (
            ["--tasks", "pendulum", "--horizons", "1", "9999"],
            "is longer than an episode of pendulum",
        ),
        (["--noises", "2"], "--noises 2 must be at least 3"),
        (["--distance", "0"], "--distance 0.0 must be between 0 and 1"),
    ],
)
def test_bad_input(arguments, message, assert_refused):
    assert_refused(main, arguments, message)


def test_products_of_means_without_the_noise_s_share():
    """Of three samples, over the six ordered pairs of different ones."""
    found = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    reference = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    of = statistics.sums(found, reference)
    assert of["squared_length"] == pytest.approx((2 + 3 + 6) * 2 / 6)
    assert of["squared_reference"] == pytest.approx(2.0)
    assert of["product"] == pytest.approx(2.0)  # exact: the reference has no noise
    # Differences (0, -1), (1, -1), (2, -1).
    assert of["squared_difference"] == pytest.approx((1 + 1 + 3) * 2 / 6)
    assert (of["variance"], of["directions"]) == pytest.approx((1.0, 2))
    # Leaving one out: 6, 3, 2 of mean 11/3, and two thirds of their squared deviations.
    assert of["length_variance"] == pytest.approx(
        2 / 3 * np.sum((np.array([6, 3, 2]) - 11 / 3) ** 2)
    )
    assert of["reference_variance"] == pytest.approx(0)


def test_estimates_are_those_of_the_distribution():
    """Many noises: means (3, 4) and (4, 3), samples of variance 1 and 0 in each direction."""
    draw = np.random.default_rng(0).normal(size=(400, 2))
    row = compared(np.array([3.0, 4.0]) + draw, np.full((400, 2), [4.0, 3.0]))
    # Four standard errors of the mean of 400.
    assert row["cosine"] == pytest.approx(24 / 25, abs=4 / np.sqrt(400) / 5)
    assert row["norm"] == pytest.approx(5 / np.sqrt(2), rel=0.04)
    assert row["noise"] == pytest.approx(2 / 25, rel=0.1)
    assert row["error"] == pytest.approx(np.sqrt(2) / 5, rel=0.1)
    # The mean turns across itself by 1 / sqrt(400) over its length of 5, which the cosine sees
    # by the sine of the angle to the reference, 7 / 25.
    assert row["cosine_error"] == pytest.approx(7 / 25 / 5 / np.sqrt(400), rel=0.2)


def test_a_gradient_that_drowns_in_noise_has_no_cosine():
    draw = np.random.default_rng(1).normal(size=(16, 4))
    row = compared(draw, np.ones((16, 4)))
    assert all(np.isnan(row[name]) for name in ("norm", "noise", "cosine"))
    assert row["deviation"] == pytest.approx(1.0, rel=0.3)
    assert compared(np.full((4, 2), np.inf), np.ones((4, 2))) == {"noises": 4, "finite": 0.0}


def test_noises_that_are_not_finite_leave_both_sides():
    found = np.array([[1.0], [np.nan], [1.1], [1.2]])
    row = compared(found, np.array([[1.0], [9.0], [1.1], [1.2]]))
    assert row["finite"] == 0.75
    assert row["error"] == 0


def test_states_are_one_long_vector():
    sides = [(np.full((4, 2), a), np.full((4, 2), b)) for a, b in ((1.0, 1.0), (2.0, -1.0))]
    rows = Rows([compared(*pair) for pair in sides])
    found = statistics.over_states(rows, statistics.cosine, "cosine")
    assert found.mean == pytest.approx((2 - 4) / np.sqrt((2 + 8) * (2 + 2)))
    assert (found.low, found.high) == (-1.0, 1.0)  # without one of them: 1 and -1
    error = statistics.over_states(rows, statistics.squared_error, "square")
    assert error.mean == pytest.approx(np.sqrt((0 + 2 * 9) / (2 + 2)))
    assert error.low == 0  # without one of them: 0 and 9, to 12.7 errors of 4.5
    norm = statistics.over_states(rows, statistics.norm)
    assert norm.mean == pytest.approx(np.sqrt(10 / 4))
    assert norm.low is not None
    assert norm.mean is not None
    assert 0 < norm.low < norm.mean


def test_what_is_differentiated_is_what_shac_follows():
    """The derivative of the return along the gain of a policy, beside the pass back."""
    noise = jnp.asarray([[0.3], [-0.5], [0.2]])

    def act(gain, observation, noise):
        return jnp.tanh(-gain * jnp.sum(observation, keepdims=True) + noise)

    @jax.jit
    def both(gain, state):
        def run(gain):
            return returns(Cart(), lambda *seen: act(gain, *seen), state, noise, 0.9)[0]

        totals, forward = jax.jvp(run, (gain,), (1.0,))
        states = [state]
        for one in noise:
            states.append(Cart().step(states[-1], act(gain, states[-1].observation, one)))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        before = jax.tree.map(lambda leaf: leaf[:-1], stacked)
        flags = jnp.ones(3), jnp.zeros(3, bool), jnp.ones(3, bool)
        rollout = Rollout(before, noise, stacked.observation[1:], *flags)
        back = differentiate(
            Cart(), lambda *seen: (act(gain, *seen), jnp.zeros(())), lambda o: 0.0 * o[0], rollout,
            discount=0.9,
        )  # fmt: skip
        moved = jax.vmap(jax.jacfwd(act), (None, 0, 0))(gain, before.observation, noise)
        return totals, back.objective, forward, back.weights @ (back.actions * moved)[:, 0]

    totals, objective, forward, backward = both(0.7, Cart().at(1.0, -0.5))
    np.testing.assert_allclose(totals[-1], objective[0], rtol=1e-5)
    np.testing.assert_allclose(forward[-1], backward, rtol=1e-5)  # of float32


class Ends:
    """Earns its action, and its second step is the last."""

    def step(self, state, action):
        age = state.physics + 1
        gain = jnp.where(age > 2, jnp.nan, 1.0) * action[0]
        return State(age, state.observation, gain, jnp.where(age == 2, 0.0, 1.0), {})


def test_nothing_is_earned_after_a_termination():
    start = State(jnp.zeros(()), jnp.zeros(1), jnp.zeros(()), jnp.ones(()), {})

    ends: Any = Ends()

    def run(gain):
        return returns(ends, lambda o, n: gain + n, start, jnp.zeros((4, 1)), 0.5)

    totals, along, ended = jax.jvp(jax.jit(run), (3.0,), (1.0,), has_aux=True)
    np.testing.assert_allclose(totals, [3.0, 4.5, 4.5, 4.5])
    np.testing.assert_allclose(along, [1.0, 1.5, 1.5, 1.5])
    assert ended.tolist() == [False, True, True, True]


def test_a_whole_run(tmp_path, capsys):
    """Of a linear system: differences are exact up to the policy's curvature."""
    sizes = "--horizons 1 3 --states 2 --noises 4 --directions 2 --hidden 4 --steps 3"
    folder = tmp_path / "run"
    assert main(["--tasks", "sobolax.cart:Cart", *sizes.split(), "--output", str(folder)]) == 0
    capsys.readouterr()
    saved = json.loads((folder / "results.json").read_text())
    [table] = saved["tables"]
    assert saved["rows"] == 2 * 2 * 2  # states, horizons, methods
    assert len(table["rows"]) == 4
    assert (folder / "horizon.png").exists()
    assert main(["--resume", str(folder)]) == 0  # nothing is left to measure
