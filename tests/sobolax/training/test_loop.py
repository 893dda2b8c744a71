"""The training loop: resets, clocks, counting, vmap, and what it refuses."""

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax import make_training
from sobolax.agents import ddpg, q_learning, sac, shac, td3
from sobolax.agents.critics import CriticOptions
from sobolax.cart import Cart
from sobolax.environment import State
from sobolax.tangents import Derivatives
from sobolax.training import replay
from sobolax.training.config import LoopConfig
from sobolax.training.evaluation import evaluate

SMALL = sac.Config(
    total_timesteps=64,
    num_envs=4,
    epochs=2,
    gradient_steps=2,
    learning_starts=16,
    batch_size=8,
    replay_capacity=64,
    hidden_sizes=(8,),
    evaluation_episodes=3,
    report_states=3,
    report_horizon=5,
    report_draws=1,
)


SHAC = shac.Config(critics=1, horizon=8)


class Counter:
    """Counts its own steps; ends for good at `end`, and is no longer finite at `broken`."""

    name = "counter"
    observation_size = action_size = state_size = 1
    reverse_mode = True

    def __init__(self, episode_length=5, end=1000, broken=1000):
        self.episode_length, self.end, self.broken = episode_length, end, broken

    def _state(self, count, reward):
        discount = jnp.where(count >= self.end, 0.0, jnp.ones(()))
        observation = jnp.where(count >= self.broken, jnp.nan, count)[None]
        return State(count, observation, reward, discount, {})

    def reset(self, key):
        return self._state(jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        return self._state(state.physics + 1.0, jnp.ones(()))

    def perturb(self, state, displacement):
        moved = state.physics + displacement[0]
        return replace(state, physics=moved, observation=state.observation + displacement)


def trained(env, config=SMALL, hyper=None, seed=0):
    train = jax.jit(make_training(env, config).run)
    return train(jax.random.key(seed), hyper or sac.Hyperparameters())


@pytest.fixture(scope="module")
def quiet():
    """Only collection: no updates are compiled."""
    return replace(SMALL, first_order="off", gradient_steps=0, report_states=0)


def test_truncation_bootstraps_from_the_true_last_observation(quiet):
    state, metrics = trained(Counter(episode_length=5), quiet)
    t = replay.read_all(state.replay).transition
    # Counters run 0, 1, 2, 3, 4 and are then cut off: the transition 4 -> 5 is there, not 4 -> 0,
    # and it is not the end.
    np.testing.assert_array_equal(t.next_observation - t.observation, 1.0)
    assert t.observation.max() == 4.0
    assert t.next_observation.max() == 5.0
    assert (t.discount == 1.0).all()
    np.testing.assert_array_equal(metrics["evaluation_return"], 5.0)


def test_termination_is_final(quiet):
    state, metrics = trained(Counter(episode_length=50, end=3), quiet)
    t = replay.read_all(state.replay).transition
    np.testing.assert_array_equal(t.discount[:, None] == 0.0, t.next_observation == 3.0)
    assert t.observation.max() == 2.0
    np.testing.assert_array_equal(metrics["evaluation_return"], 3.0)
    np.testing.assert_array_equal(metrics["evaluation_length"], 3.0)


def test_physics_that_breaks_is_counted_reset_and_learned_around():
    state, metrics = trained(Counter(episode_length=50, broken=3), replace(SMALL, report_states=0))
    t = replay.read_all(state.replay).transition
    broken = np.isnan(t.next_observation)
    assert broken.any()
    assert broken.sum() == metrics["transitions_nonfinite"].sum()
    assert np.isfinite(t.observation).all()
    for leaf in jax.tree.leaves((state.agent, state.normalizer)):
        assert np.isfinite(leaf).all()
    # Evaluation keeps what came before, and says so.
    np.testing.assert_array_equal(metrics["evaluation_return"], 2.0)
    np.testing.assert_array_equal(metrics["evaluation_nonfinite"], SMALL.evaluation_episodes)


def test_episodes_of_an_evaluation_end_by_themselves():
    result = jax.jit(
        lambda key: evaluate(Counter(episode_length=7, end=4), lambda o: jnp.zeros(1), key, 3)
    )(jax.random.key(0))
    np.testing.assert_array_equal(result.returns, 4.0)
    np.testing.assert_array_equal(result.lengths, 4)
    assert result.nonfinite == 0


@pytest.fixture(scope="module")
def pendulum_training():
    return make_training(envs.make("pendulum"), replace(SMALL, report_states=0))


@pytest.fixture(scope="module")
def run_alone(pendulum_training):
    """Compiled once: every call has hyperparameters that are Python's numbers."""
    return jax.jit(pendulum_training.run)


def test_counts_of_steps_and_updates(run_alone):
    _, metrics = run_alone(jax.random.key(0), sac.Hyperparameters())
    np.testing.assert_array_equal(metrics["environment_steps"], [32, 64])
    # 16 of 64 environment steps fill the buffer; 12 steps of 4 environments are left.
    np.testing.assert_array_equal(metrics["updates"], [8, 24])


def hypers(count):
    """Every hyperparameter differs from run to run."""
    values = {
        name: jnp.asarray(value) * jnp.linspace(1.0, 0.8, count)
        for name, value in vars(sac.Hyperparameters()).items()
    }
    return sac.Hyperparameters(**values)


def assert_close(one, other):
    def compare(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        # Sums are ordered differently in a batched program; 24 updates of Adam amplify that.
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)

    jax.tree.map(compare, one, other)


@pytest.mark.slow  # a training of its own
def test_vmap_over_seeds_and_all_hyperparameters_equals_one_run_at_a_time(
    pendulum_training, run_alone
):
    keys, stacked = jax.random.split(jax.random.key(3), 2), hypers(2)
    state, metrics = jax.jit(jax.vmap(pendulum_training.run))(keys, stacked)
    for index in range(2):
        alone = run_alone(keys[index], jax.tree.map(lambda leaf, i=index: float(leaf[i]), stacked))
        picked = jax.tree.map(lambda leaf, i=index: leaf[i], (state.agent, metrics))
        assert_close(picked, (alone[0].agent, alone[1]))


def test_a_second_call_compiles_nothing(run_alone):
    run_alone(jax.random.key(0), sac.Hyperparameters())
    before = run_alone._cache_size()
    run_alone(jax.random.key(1), sac.Hyperparameters(state_weight=3.0))
    assert run_alone._cache_size() == before


def test_epoch_by_epoch_equals_the_whole_run_and_compiles_once(pendulum_training, run_alone):
    hyper, key = sac.Hyperparameters(), jax.random.key(7)
    whole, whole_metrics = run_alone(key, hyper)
    epoch = jax.jit(pendulum_training.epoch, donate_argnums=0)
    state = jax.jit(pendulum_training.init)(key, hyper)
    for index in range(SMALL.epochs):
        state, metrics = epoch(state, hyper, jnp.int32(index))
        assert_close(metrics, jax.tree.map(lambda leaf, i=index: leaf[i], whole_metrics))
    assert_close(state.agent, whole.agent)
    assert epoch._cache_size() == 1


# The fast tests of the buffer look at what `add` alone copies.
@pytest.mark.slow
@pytest.mark.parametrize("batched", [False, True])
def test_the_replay_buffer_is_not_copied(batched):
    hyper = jax.tree.map(jnp.asarray, sac.Hyperparameters())
    config = replace(SMALL, replay_capacity=1 << 16, report_states=0)
    training = make_training(envs.make("pendulum"), config)
    init, epoch, key, given = training.init, training.epoch, jax.random.key(0), hyper
    if batched:
        init, epoch = jax.vmap(init), jax.vmap(epoch, in_axes=(0, 0, None))
        key = jax.random.split(key, 2)
        given = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), hyper)
    state = jax.eval_shape(init, key, given)
    memory = (
        jax.jit(epoch, donate_argnums=0)
        .lower(state, given, jnp.int32(0))
        .compile()
        .memory_analysis()
    )
    size = state.replay.rows.size * state.replay.rows.dtype.itemsize
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < 0.5 * size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 128}, "batch_size=128 is larger than replay_capacity=64"),
        ({"total_timesteps": 60}, "total_timesteps=60 must be a multiple of .* 56 or 64"),
        ({"replay_capacity": 66}, "replay_capacity=66 must be a multiple of num_envs=4"),
        ({"num_envs": 0}, "num_envs=0 must be a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs=1.5 must be a whole number"),
        ({"learning_starts": 64}, "learning_starts=64 leaves nothing"),
        ({"gradient_steps": -1}, "gradient_steps=-1"),
        ({"first_order": "on"}, "choose one of off, cached, recomputed, reverse"),
        ({"state_directions": 3}, "state_directions=3 does not fit environment 'pendulum'"),
        ({"tangent_dtype": "int2"}, "tangent_dtype='int2' is unknown.*choose one of float32"),
        ({"hidden_sizes": ()}, "hidden_sizes=.* must be one or more whole numbers"),
        ({"activation": "relu"}, "its gradient jumps"),
        ({"activation": "swisch"}, "choose one of"),
        ({"report_states": 1}, "report_states=1 has no spread.* choose 2 or more .* or 0"),
        ({"report_states": 4}, "report_states=4 is more than evaluation_episodes=3"),
        (
            {"replay_capacity": 2**40},
            r"replay_capacity=1099511627776 must be at most 2,147,483,647",
        ),
        ({"num_envs": 2**31}, "num_envs=2147483648 must be at most 2,147,483,647"),
        (
            {"total_timesteps": 2**30, "gradient_steps": 64},
            r"gradient_steps=64 makes [\d,]+ updates, but there can be at most 2,147,483,647",
        ),
        ({"report_horizon": 1}, "report_horizon=1 must be a whole number of at least 2"),
        ({"hidden_sizes": (True,)}, "hidden_sizes=.* must be one or more whole numbers"),
        ({"hidden_sizes": 8}, "hidden_sizes=8 must be one or more whole numbers"),
        ({"hidden_sizes": "88"}, "hidden_sizes='88' must be"),
        ({"normalize_observations": "no"}, "normalize_observations='no' must be True or False"),
        ({"check_tangents": 1}, "check_tangents=1 must be True or False"),
        ({"line_search": None}, "line_search=None must be True or False"),
        ({"derivatives": None}, "derivatives=None must be a sobolax.tangents.Derivatives"),
        ({"derivatives": "forward"}, "derivatives='forward' must be"),
        ({"derivatives": Derivatives(max_norm="1")}, "max_norm='1' must be finite and above 0"),
        ({"derivatives": Derivatives(smoothing_samples=True)}, "smoothing_samples=True must be"),
        ({"state_directions": True}, "state_directions=True does not fit"),
        ({"action_directions": "1"}, "action_directions='1' does not fit"),
        ({"weighting": None}, "weighting=None must be one of constant"),
        (
            {"weighting": lambda base: None},
            "weighting=.* gives a NoneType, but must be .* gives a sobolax.weighting.Weighting",
        ),
        ({"epochs": np.int64(2)}, "must be a whole number of at least 1, an int: give 2"),
        ({"replay_capacity": 0}, "replay_capacity=0 must be"),
        ({"gradient_fraction": True}, "gradient_fraction=True must be above 0"),
        ({"gradient_fraction": "1"}, "gradient_fraction='1' must be above 0"),
    ],
)
def test_configurations_that_cannot_work_are_refused_before_anything_compiles(changes, message):
    with pytest.raises(ValueError, match=message):
        make_training(envs.make("pendulum"), replace(SMALL, **changes))


def test_a_class_in_place_of_an_environment_is_named():
    with pytest.raises(ValueError, match=r"environment is the class Cart: .* Cart\(\)"):
        make_training(Cart, SMALL)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("config", "agent", "message"),
    [
        (td3.Config(), sac.make_agent(3, 1), "td3.Config was handed an agent with sac.Hyper"),
        (sac.Config(), ddpg.make_agent(3, 1), "sac.Config was handed an agent with ddpg.Hyper"),
        (sac.Config, None, "config is the class .*sac.Config, but must be the Config of an agent"),
        (sac.Hyperparameters(), None, "must be the Config of an agent"),
        (td3.Config(trust="soft"), td3.make_agent(3, 1), "td3.Config: trust='soft' does not reach"),
        (
            td3.Config(actor_delay=3),
            td3.Config().make_agent(Cart()),
            "actor_delay=3 does not reach",
        ),
        (
            LoopConfig(),
            ddpg.make_agent(3, 1, CriticOptions(gradient_units="state_std")),
            "LoopConfig was handed an agent with gradient_units='state_std', but counts no coordi",
        ),
        (
            ddpg.Config(gradient_units="state_std"),
            ddpg.make_agent(3, 1),
            "ddpg.Config: gradient_units='state_std' would scale tangents for an agent that was",
        ),
        (
            LoopConfig(),
            SHAC.make_agent(Cart()),
            "LoopConfig has a replay buffer, but .* agent that learns from windows.* shac.Config",
        ),
        (
            SHAC,
            replace(sac.make_agent(3, 1), hyperparameters=None),
            "shac.Config has windows of steps and no replay buffer, .* or a LoopConfig",
        ),
    ],
    ids=range(10),
)
def test_agents_go_with_their_configuration(config, agent, message):
    with pytest.raises(ValueError, match=message):
        make_training(envs.make("pendulum"), config, agent)


@pytest.mark.parametrize(
    "config",
    [td3.Config(trust="soft", actor_delay=3), sac.Config(gradient_units="state_std"), SHAC],
    ids=["td3", "sac", "shac"],
)
def test_the_agent_of_a_configuration_goes_with_it_and_with_other_sizes(config):
    agent = config.make_agent(Cart())
    make_training(Cart(), replace(config, num_envs=32), agent)


@pytest.mark.parametrize(
    ("module", "hyper", "message"),
    [
        (sac, td3.Hyperparameters(), "takes sac.Hyperparameters, but was handed td3.Hyperp"),
        (td3, ddpg.Hyperparameters(), "takes td3.Hyperparameters, but was handed ddpg.Hyperp"),
        (ddpg, td3.Hyperparameters(), "takes ddpg.Hyperparameters, but was handed td3.Hyperp"),
        (q_learning, sac.Hyperparameters(), "takes q_learning.Hyperparameters, but was handed sac"),
        (sac, {"discount": 0.9}, "but was handed builtins.dict|but was handed dict|handed .*dict"),
        (sac, None, "was handed .*NoneType"),
        (sac, sac.Config(), "was handed sac.Config"),
    ],
    ids=range(7),
)
def test_hyperparameters_of_another_agent_are_refused(module, hyper, message):
    training = make_training(envs.make("pendulum"), module.Config())
    for function in (training.init, training.run):
        with pytest.raises(ValueError, match=message):
            function(jax.random.key(0), hyper)


def test_actions_of_another_shape_are_refused_where_they_would_broadcast():
    for action, found in ((jnp.zeros(()), r"\(\)"), (jnp.zeros(2), r"\(2,\)")):
        with pytest.raises(ValueError, match=rf"action of shape {found} .* 'counter' takes \(1,\)"):
            evaluate(Counter(), lambda o, action=action: action, jax.random.key(0), 3)


@dataclass(frozen=True)
class Focused(sac.Hyperparameters):
    """Numbers of one's own, without a word to JAX about them."""

    focus: Any = 0.5


def test_hyperparameters_may_be_extended_by_numbers_of_one_s_own():
    training, hyper = make_training(Counter(), SMALL), Focused(focus=jnp.ones(2), tau=0.1)
    assert jax.tree.leaves(hyper)[-1].shape == (2,)
    state = jax.eval_shape(jax.jit(training.init), jax.random.key(0), replace(hyper, focus=1.0))
    assert state.clocks.shape == (4,)
    assert jax.tree.map(str, replace(hyper, focus=3.0)).focus == "3.0"


@pytest.mark.parametrize("name", ["huber_delta", "tangent_bound", "policy_response", "tau"])
def test_arrays_of_hyperparameters_are_refused_without_a_vmap(name):
    training = make_training(Counter(), SMALL)
    hyper = sac.Hyperparameters()
    hyper = replace(hyper, **{name: jnp.full(2, getattr(hyper, name))})
    for call in (training.init, training.run):
        with pytest.raises(ValueError, match=rf"{name} has shape \(2,\), .*vmap .*sweeps\.md"):
            call(jax.random.key(0), hyper)
    several = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, 2), hyper)
    keys = jax.random.split(jax.random.key(0))
    assert jax.eval_shape(jax.vmap(training.init), keys, several).clocks.shape[0] == 2


class Measured(Counter):
    """A counter with metrics that are not finite, an infinity in its physics, and a random key."""

    def _state(self, count, reward, key=None):
        state = super()._state(count, reward)
        metrics = {"best": -jnp.ones(()) * jnp.inf, "ratio": jnp.ones(()) * jnp.nan}
        return replace(
            state, physics=(count, jnp.full(2, jnp.inf, jnp.float32), key), metrics=metrics
        )

    def reset(self, key):
        return self._state(jnp.zeros(()), jnp.zeros(()), key)

    def step(self, state, action):
        count, _, key = state.physics
        return self._state(count + 1.0, jnp.ones(()), jax.random.split(key)[0])

    def perturb(self, state, displacement):
        count, *others = state.physics
        moved = state.observation + displacement
        return replace(state, physics=(count + displacement[0], *others), observation=moved)


def test_metrics_and_infinities_by_design_decide_nothing(quiet):
    state, metrics = trained(Measured(episode_length=5), quiet)
    np.testing.assert_array_equal(metrics["transitions_nonfinite"], 0)
    np.testing.assert_array_equal(metrics["evaluation_nonfinite"], 0)
    np.testing.assert_array_equal(metrics["evaluation_return"], 5.0)
    assert replay.read_all(state.replay).transition.observation.max() == 4.0


@pytest.mark.parametrize("first_order", ["recomputed", "reverse"])
def test_states_with_random_keys_lie_in_the_buffer(first_order):
    config = replace(SMALL, first_order=first_order, report_states=0)
    run = make_training(Measured(episode_length=5), config).run
    state, _ = jax.eval_shape(run, jax.random.key(0), sac.Hyperparameters())
    assert state.replay.layout.structure.num_leaves > 5


def small_config(module, **changes):
    """`SMALL` of another agent, without what is SAC's own."""
    known = {entry.name for entry in fields(module.Config)}
    shared = {name: value for name, value in vars(SMALL).items() if name in known}
    return module.Config(**shared | changes)


def test_double_precision_is_traced_through(float64):
    """Networks are float64 where that is enabled; environments keep their own precision."""
    for module, environment in ((td3, Cart()), (q_learning, Single()), (sac, Single())):
        config = small_config(module, report_states=0, n_step=2)
        run = make_training(environment, replace(config, line_search=True)).run
        state, _ = jax.eval_shape(run, jax.random.key(0), module.Hyperparameters())
        assert jax.tree.leaves(state.agent.critics.parameters)[0].dtype == jnp.float64
        assert state.environments.observation.dtype == environment.at(0.0, 0.0).observation.dtype


@pytest.mark.slow
@pytest.mark.parametrize("module", [sac, td3, ddpg, q_learning])
def test_agents_train_in_double_precision(module, float64):
    config = small_config(module, report_states=0, n_step=2)
    train = jax.jit(make_training(Single(), config).run)
    state, metrics = train(jax.random.key(0), module.Hyperparameters())
    assert metrics["updates"].tolist() == [8, 24]
    assert np.isfinite(metrics["critic_loss"]).all()
    assert replay.read_all(state.replay).transition.observation.dtype == jnp.float32


class Single(Cart):
    """A cart in float32 whatever is enabled."""

    def at(self, position, speed):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), super().at(position, speed))


class Misshapen(Counter):
    """An environment with one thing wrong."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        if wrong == "state_size":
            self.state_size = 3
        if wrong == "observation_size":
            self.observation_size = 2

    def step(self, state, action):
        state = super().step(state, action)
        if self.wrong == "weak":
            state = replace(state, reward=jnp.asarray(1.0) * 0 + jax.lax.full((), 1.0))
        if self.wrong == "structure":
            state = replace(state, metrics={"more": jnp.zeros(())})
        return state

    def perturb(self, state, displacement):
        if self.wrong == "perturb":
            return replace(state, observation=jnp.concatenate([state.observation, displacement]))
        if self.wrong == "state_size":
            return replace(state, observation=state.observation + displacement @ jnp.ones((1, 1)))
        if self.wrong == "result":
            return state.observation
        return super().perturb(state, displacement)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("perturb", r"perturb\(state, .*\) gives state\.observation of shape \(2,\)"),
        ("state_size", r"perturb\(state, displacement of shape \(3,\)\) failed"),
        ("observation_size", r"observation of shape \(1,\), but observation_size says \(2,\)"),
        ("structure", "another structure than reset"),
        ("result", "must give a sobolax.environment.State"),
    ],
)
def test_environments_that_do_not_keep_the_protocol_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_training(Misshapen(wrong), SMALL)
