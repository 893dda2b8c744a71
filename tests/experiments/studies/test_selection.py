import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import sobolax
from experiments.launch.configuration import Variant
from experiments.launch.program import keys_and_hypers
from experiments.studies.selection import Hyperparameters, make_training

SIZES = {
    "total_timesteps": 16,
    "num_envs": 2,
    "epochs": 1,
    "gradient_steps": 1,
    "learning_starts": 8,
    "batch_size": 8,
    "replay_capacity": 16,
    "hidden_sizes": (4,),
    "evaluation_episodes": 1,
    "report_states": 0,
    "first_order": "reverse",
}
TARGETS, WEIGHTINGS = ("bellman", "shuffled"), ("constant", "scale_free")
KEY = 3


def static(gradient_target: str, weighting: str) -> dict[str, np.ndarray]:
    config = sobolax.agents.sac.Config(
        **SIZES, gradient_target=gradient_target, weighting=weighting
    )
    training = sobolax.make_training(envs.make("point_mass", dimension=2), config)
    key = jax.random.split(jax.random.key(KEY), 1)[0]
    _, metrics = jax.jit(training.run)(key, sobolax.agents.sac.Hyperparameters())
    return {name: np.asarray(value) for name, value in metrics.items()}


@pytest.mark.slow
def test_members_of_one_program_are_what_their_names_say():
    training = make_training(
        envs.make("point_mass", dimension=2),
        sobolax.agents.sac.Config(**SIZES),
        TARGETS,
        WEIGHTINGS,
    )
    variants = [
        Variant("as the paper", Hyperparameters()),
        Variant("control", Hyperparameters(gradient_target=1, weighting=1)),
    ]
    keys, hypers = keys_and_hypers(variants, 1, KEY)
    _, together = jax.jit(jax.vmap(training.run))(keys, hypers)
    for place, alone in enumerate(
        (static("bellman", "constant"), static("shuffled", "scale_free"))
    ):
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][place], value, rtol=1e-3, err_msg=name)
    assert not np.allclose(together["action_gradient_loss"][0], together["action_gradient_loss"][1])


def test_names_are_checked_before_anything_compiles():
    environment, config = envs.make("lqr", dimension=2), sobolax.agents.sac.Config(**SIZES)
    with pytest.raises(ValueError, match="did you mean 'shuffled'"):
        make_training(environment, config, gradient_targets=("shufled",))
    with pytest.raises(ValueError, match="did you mean 'scale_free'"):
        make_training(environment, config, weightings=("scale-free",))
    with pytest.raises(ValueError, match="at least one"):
        make_training(environment, config, weightings=())


def test_indices_may_be_floats():
    # `keys_and_hypers` stacks all hyperparameters as floats.
    _, hypers = keys_and_hypers([Variant("one", Hyperparameters(gradient_target=1))], 1, 0)
    assert jnp.issubdtype(hypers.gradient_target.dtype, jnp.floating)
