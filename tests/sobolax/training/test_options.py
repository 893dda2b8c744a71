"""Options of the gradient loss together: every combination is one program, with the same state."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from sobolax import make_training
from sobolax.agents import q_learning, sac
from sobolax.cart import Cart
from sobolax.tangents import Derivatives
from sobolax.training.n_step import MultiStep
from sobolax.weighting import constant

UNITS = ("raw", "observation_std")
PAIRED = {
    ("raw", "soft", 0.5),
    ("raw", "hard", 1.0),
    ("observation_std", "soft", 1.0),
    ("observation_std", "hard", 0.5),
}
TAUGHT = [
    {"trust": "hard", "gradient_fraction": 0.5, "gradient_units": "state_std"},
    {"first_order": "recomputed", "state_directions": 1, "action_directions": 1},
    {
        "trust": "soft",
        "gradient_units": "observation_std",
        "tangent_dtype": "int8",
        "actor_gradient": "simulator",
    },
]


@pytest.mark.parametrize(
    "options",
    [
        # Every pair of options; all three together, where they are not among these, are slow.
        *(
            pytest.param(
                dict(
                    zip(("gradient_units", "trust", "gradient_fraction"), options, strict=True),
                    critic_norm="layer",
                ),
                marks=() if options in PAIRED else pytest.mark.slow,
            )
            for options in itertools.product(UNITS, ("soft", "hard"), (0.5, 1.0))
        ),
        *({"teacher": "fitted", "report_states": 0, **options} for options in TAUGHT),
    ],
)
def test_options_fit_together(options):
    config = sac.Config(
        total_timesteps=64,
        epochs=2,
        num_envs=4,
        batch_size=4,
        replay_capacity=64,
        learning_starts=8,
        hidden_sizes=(4,),
        **options,
    )
    training, hyper = make_training(Cart(), config), sac.Hyperparameters()
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    after, metrics = jax.eval_shape(training.learn, state, hyper, jnp.int32(0))
    # As shapes and types: what a scan over epochs asks for.
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert metrics["state_gradient_loss"].shape == ()
    if "teacher" in options:
        names = {f"teacher_{name}" for name in ("value_error", "tangent_error", "dropped")}
        assert names <= metrics.keys()


@pytest.mark.parametrize(("size", "points"), [(1, 1), (12, 5)])
def test_a_grid_of_actions_is_neither_a_point_nor_endless(size, points):
    with pytest.raises(ValueError, match=f"grid_points={points} in {size} action dimensions"):
        q_learning.action_grid(size, points)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (q_learning.Config(grid_points=3.0), r"grid_points=3.0 must be a whole number"),
        (
            sac.Config(total_timesteps=1_024, num_envs=16, learning_starts=1_020),
            "learning_starts=1020 leaves nothing of total_timesteps=1024 to learn in, after whole",
        ),
        (
            sac.Config(first_order="reverse", derivatives=Derivatives(max_norm=1.0)),
            r"max_norm=1.0.* would do nothing: first_order='reverse'",
        ),
        (
            sac.Config(first_order="off", derivatives=Derivatives(max_norm=1.0)),
            r"max_norm=1.0.* would do nothing: first_order='off'",
        ),
        (
            sac.Config(first_order="off", action_directions=0),
            r"action_directions=0 would do nothing: first_order='off'",
        ),
        (
            sac.Config(first_order="off", weighting="relative_loss_progress"),
            "weighting='relative_loss_progress' weighs gradients beside values, and first_ord",
        ),
        (
            sac.Config(first_order="off", weighting=lambda base: constant(base)),
            "weighs gradients beside values",
        ),
    ],
    ids=["grid", "start", "reverse", "derivatives", "directions", "weighting", "own"],
)
def test_what_would_learn_nothing_or_do_nothing_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        config.check(Cart())


@pytest.mark.parametrize(
    "options",
    [
        # What studies give plain TD learning as well, and an actor through the simulator.
        {"first_order": "off", "tangent_dtype": "bfloat16"},
        {"first_order": "recomputed", "tangent_dtype": "bfloat16"},
        {
            "first_order": "off",
            "actor_gradient": "simulator",
            "derivatives": Derivatives(max_norm=1.0),
        },
    ],
)
def test_what_is_shared_by_runs_that_are_compared_is_accepted(options):
    sac.Config(**options).check(Cart())


def test_a_check_compiles_nothing(caplog):
    config = sac.Config(weighting="guarded", total_timesteps=65_536)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        config.check(Cart())
    assert not [entry for entry in caplog.messages if entry.startswith("Compiling")]


def test_a_stretch_of_steps_begins_where_the_environment_does():
    stretch = MultiStep(Cart(), 3)
    found = jax.jit(stretch.reset)(jax.random.key(0))
    expected = jax.jit(Cart().reset)(jax.random.key(0))
    assert jnp.array_equal(found.observation, expected.observation)
