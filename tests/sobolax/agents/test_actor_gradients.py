"""What an actor climbs: closed forms, an update written down once more, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.agents import sac
from sobolax.agents.actor_gradients import climb, differentiate_target
from sobolax.agents.critics import CriticOptions, make_critics
from sobolax.agents.networks import GaussianActor
from sobolax.cart import Cart
from sobolax.tangents.fresh import make_fresh_step
from sobolax.tangents.methods import Derivatives
from sobolax.tangents.sources import SOURCES, make_source
from sobolax.training import normalization
from sobolax.training.backward import differentiate
from sobolax.training.rollouts import Rollout

GAMMA = 0.9
# Both sides are one derivative in float64, summed in another order, of numbers up to 100.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def zero(observation, action):
    return jnp.zeros_like(observation[0])


def target_of(value, policy=lambda o: (o[:1] * 0, o[0] * 0), **options):
    """A TD error whose critic is nothing and whose target bootstraps from a value by hand."""
    return sac.make_td_error(
        zero, lambda o, a: value(o), policy, temperature=0.3, discount=GAMMA, **options
    )


def through(step, delta, state, action, **options):
    found = step(jax.random.key(0), state, action, jnp.inf)
    return differentiate_target(delta, *found, **options)


@pytest.mark.parametrize("reverse", [False, True])
def test_with_a_quadratic_value_it_is_the_closed_form(float64, reverse):
    """A push moves position by 1/4 and speed by 1/2; V = -2 x^2 + x v, and log pi = v."""
    delta = target_of(
        lambda o: -2 * o[0] ** 2 + o[0] * o[1], lambda o: (o[:1], o[1]), reward_scale=3.0
    )
    step, cart = make_fresh_step(Cart(), reverse=reverse), Cart()

    @jax.jit
    @jax.vmap
    def found(position, speed, push):
        return through(step, delta, cart.at(position, speed), push[None])

    where = jnp.array([[1.0, 0.5, -0.3], [-2.0, 1.0, 0.8], [7.9, 1.0, 1.0]])
    x, v, a = where.T
    speed = v + a / 2
    position = x + speed / 2
    value = (-4 * position + speed) / 4 + position / 2 - 0.3 / 2
    # The last leaves the track: it ends there, and nothing of a new episode is in its gradient.
    inside = np.array([1, 1, 0])
    expected = 3.0 * -2 * position / 4 + GAMMA * inside * value
    gradient = found(*where.T)
    np.testing.assert_allclose(gradient.along_action[:, 0], expected, **EXACT)
    assert gradient.valid.all()


@pytest.mark.parametrize("reverse", [False, True])
def test_where_q_is_its_own_target_both_gradients_are_one(float64, reverse):
    env = envs.make("lqr", dimension=3, actions=2, discount=GAMMA)
    step, delta = make_fresh_step(env, reverse=reverse), target_of(env.optimal_value)

    @jax.jit
    def gradients(key):
        state, action = env.reset(key), jax.random.normal(key, (2,))
        found = through(step, delta, state, action)
        return [
            jax.grad(
                lambda a, weight=weight: climb(
                    lambda a: env.optimal_q(state.observation, a), a, replace(found, weight=weight)
                )
            )(action)
            for weight in (jnp.zeros(2), jnp.array([0.3, 1.0]), jnp.ones(2))
        ]

    critic, mixed, simulator = gradients(jax.random.key(0))
    np.testing.assert_allclose(simulator, critic, **EXACT)
    np.testing.assert_allclose(mixed, critic, **EXACT)


def test_it_is_that_of_a_window_of_one_step(float64):
    """SHAC with a horizon of one, at the same state with the same noise."""
    env, noise = envs.make("pendulum"), jnp.full((1, 1), 0.3)

    def policy(observation, noise):
        return jnp.tanh(jnp.sum(observation) + 0.3 * noise), 0.0 * observation[0]

    def value(observation):
        return jnp.sum(jnp.sin(observation)) - 0.3 * observation[0] ** 2

    @jax.jit
    def both(key):
        state = env.reset(key)
        action, _ = policy(state.observation, noise[0])
        after = env.step(state, action)
        alone = jax.tree.map(lambda leaf: leaf[None], (state, after))
        flags = alone[1].discount, jnp.zeros(1, bool), jnp.ones(1, bool)
        rollout = Rollout(alone[0], noise, alone[1].observation, *flags)
        window = differentiate(env, policy, value, rollout, discount=GAMMA)
        return window.actions[0], through(make_fresh_step(env), target_of(value), state, action)

    window, found = both(jax.random.key(4))
    np.testing.assert_allclose(found.along_action, window, **EXACT)


BATCH, HIDDEN = 6, (4,)
HYPER = {"discount": GAMMA, "reward_scale": 2.0, "initial_temperature": 0.3}
BROKEN = 1
AT_POLICY = {"actor_gradient": "simulator", "gradients_at": "policy"}
CONFIGS = {
    "simulator": {"actor_gradient": "simulator"},
    "mixed": {"actor_gradient": "mixed"},
    "recomputed": {"first_order": "recomputed", **AT_POLICY},
    "reverse": {"first_order": "reverse", **AT_POLICY},
}


@pytest.fixture(scope="module")
def updates():
    """An update for each actor's gradient: of one agent, and of several at once."""
    cart, seen = Cart(), normalization.init(2)
    hyper = sac.Hyperparameters(**HYPER)
    positions = jnp.array([0.5, jnp.nan, -1.0, 7.9, 2.0, 0.0])
    states = jax.jit(jax.vmap(cart.at))(positions, jnp.array([0.0, 0.0, 1.0, 1.5, -1.0, 0.3]))
    # What is replayed is sound; from one state the simulator gives no number any more.
    sound = jnp.nan_to_num(states.observation)
    states = replace(states, observation=sound)
    source = make_source("off", cart, keep_states=True)
    action = jnp.full((BATCH, 1), 0.1)
    collect = jax.jit(jax.vmap(source.collect, (None, 0, 0)))
    batch, _ = collect(jax.random.key(0), states, action)
    transition = jax.tree.map(jnp.nan_to_num, batch.transition)
    batch = replace(batch, transition=transition)
    seen = normalization.update(seen, jnp.array([[0.0, 1.0], [4.0, -1.0], [1.0, 3.0]]))
    keys, made, start = jax.random.split(jax.random.key(2), 2), {}, None
    for name, changes in CONFIGS.items():
        config = sac.Config(hidden_sizes=HIDDEN, **{"first_order": "off", **changes})
        agent = config.make_agent(cart)
        start = start or jax.jit(agent.init)(jax.random.key(1), hyper)

        def run(state, key, agent=agent):
            return agent.update(state, seen, batch, source.tangents, key, hyper)

        made[name] = SimpleNamespace(start=start, run=run, each=jax.jit(run))
        made[name].one = made[name].each(start, keys[0])
    return SimpleNamespace(states=states, seen=seen, keys=keys, made=made)


POLICY = sac.make_policy(GaussianActor(HIDDEN, 1))
CRITICS = make_critics(2, 1, CriticOptions(hidden_sizes=HIDDEN))


def actor_gradient(state):
    """Adam's first moment after one step from zero is a tenth of the gradient."""
    return jax.tree.map(lambda leaf: leaf / 0.1, state.actor_optimizer[0].mu)


def written_down(updates, name):
    """The same gradient once more: the step differentiated as it is, weights by hand."""
    made, seen, cart = updates.made[name], updates.seen, Cart()
    start, (after_update, _) = made.start, made.one
    # A push moves the observation by (1/4, 1/2).
    growth = jnp.sum(jnp.square(jnp.array([0.25, 0.5]) / normalization.deviation(seen)))
    actor_key = jax.random.split(updates.keys[0], 3)[1]
    noises, next_noises = (
        jax.random.normal(key, (BATCH, 1)) for key in (actor_key, jax.random.fold_in(actor_key, 1))
    )
    alpha = HYPER["initial_temperature"]

    def one(parameters, state, noise, next_noise, broken):
        action, log_probability = POLICY(parameters, seen, state.observation, noise)
        after = cart.step(state, action)
        there, log_there = POLICY(start.actor, seen, after.observation, next_noise)
        value = CRITICS.min_q(start.critics.target, seen, after.observation, there)
        onward = GAMMA * after.discount
        target = HYPER["reward_scale"] * after.reward + onward * (value - alpha * log_there)
        own = CRITICS.min_q(after_update.critics.parameters, seen, state.observation, action)
        mixed = jnp.where(broken, 0.0, 1 / (1 + jax.lax.stop_gradient(onward) ** 2 * growth))
        share = mixed if name == "mixed" else 1.0
        return alpha * log_probability - share * target - (1 - share) * own

    def loss(parameters):
        broken = jnp.arange(BATCH) == BROKEN
        # Anywhere else, as the number from there is left out.
        states = jax.tree.map(jnp.nan_to_num, updates.states)
        losses = jax.vmap(one, (None, 0, 0, 0, 0))(parameters, states, noises, next_noises, broken)
        return jnp.mean(losses, where=None if name == "mixed" else ~broken)

    return jax.jit(jax.grad(loss))(start.actor)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_update_follows_the_gradient_written_down_once_more(updates, name):
    """With a state that leaves the track, and one from which nothing finite follows."""
    state, metrics = updates.made[name].one
    jax.tree.map(
        # Two programs in float32: sums of six numbers of order 10, ordered differently.
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        actor_gradient(state),
        written_down(updates, name),
    )
    np.testing.assert_allclose(metrics["actor_gradients_dropped"], 1 / BATCH, rtol=1e-6)


def test_gradients_of_the_critic_are_matched_at_the_policys_action_and_values_where_they_were(
    updates,
):
    """Both sources, beside the derivatives of the step as it is."""
    start, seen, cart = updates.made["recomputed"].start, updates.seen, Cart()
    target_key, actor_key, _ = jax.random.split(updates.keys[0], 3)
    noises, actor_noises = (jax.random.normal(key, (BATCH, 1)) for key in (target_key, actor_key))

    def delta(displacement, action, state, noise, critic):
        here = cart.perturb(state, displacement)
        after = cart.step(here, action)
        o, alpha = after.observation, HYPER["initial_temperature"]
        there, log_there = POLICY(start.actor, seen, o, noise)
        value = CRITICS.min_q(start.critics.target, seen, o, there) - alpha * log_there
        target = HYPER["reward_scale"] * after.reward + GAMMA * after.discount * value
        one = jax.tree.map(lambda leaf: leaf[critic : critic + 1], start.critics.parameters)
        return CRITICS.first_q(one, seen, here.observation, action) - target

    @jax.jit
    @jax.vmap
    def squared_gradients(state, noise, actor_noise):
        action, _ = POLICY(start.actor, seen, state.observation, actor_noise)
        gradients = [
            jax.grad(delta, (0, 1))(jnp.zeros(2), action, state, noise, critic) for critic in (0, 1)
        ]
        return [sum(jnp.sum(jnp.square(g)) for g in each) for each in zip(*gradients, strict=True)]

    states = jax.tree.map(jnp.nan_to_num, updates.states)
    squares = squared_gradients(states, noises, actor_noises)
    expected = [np.mean(np.delete(each, BROKEN)) for each in squares]
    values = updates.made["simulator"].one[1]["value_loss"]
    for name in ("recomputed", "reverse"):
        _, metrics = updates.made[name].one
        found = metrics["state_gradient_loss"], metrics["action_gradient_loss"]
        # Squares of float32 gradients of order 10.
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        np.testing.assert_allclose(metrics["value_loss"], values, rtol=1e-5)
        np.testing.assert_allclose(metrics["gradients_dropped"], 1 / BATCH, rtol=1e-6)


def test_actor_and_critic_share_one_step():
    class Counting(Cart):
        steps = 0

        def step(self, state, action):
            self.steps += 1
            return super().step(state, action)

    found = []
    for gradients_at in ("replayed", "policy"):
        cart = Counting()
        changes = {**AT_POLICY, "gradients_at": gradients_at}
        config = sac.Config(first_order="recomputed", hidden_sizes=HIDDEN, **changes)
        agent, source, hyper = (
            config.make_agent(cart),
            config.make_source(cart),
            sac.Hyperparameters(),
        )

        def update(key, agent=agent, source=source, cart=cart, hyper=hyper):
            state = agent.init(key, hyper)
            one, _ = source.collect(key, cart.at(1.0, 0.0), jnp.ones(1))
            batch = jax.tree.map(lambda leaf: leaf[None], one)
            cart.steps = 0
            return agent.update(state, normalization.init(2), batch, source.tangents, key, hyper)

        jax.eval_shape(update, jax.random.key(0))
        found.append(cart.steps)
    assert found == [2, 1]


def test_the_shares_are_those_of_the_weights(updates):
    share = updates.made["simulator"].one[1]["actor_simulator_share"]
    np.testing.assert_allclose(share, 1 - 1 / BATCH, rtol=1e-6)
    assert 0.1 < updates.made["mixed"].one[1]["actor_simulator_share"] < share


def test_several_seeds_at_once_are_each_as_if_alone(updates):
    made = updates.made["mixed"]
    alone = made.one, made.each(made.start, updates.keys[1])
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    both = jax.jit(jax.vmap(made.run, (None, 0)))(made.start, updates.keys)
    # Products of matrices are ordered differently; Adam's first step turns rounding in a gradient
    # near zero into a change of up to the learning rate, 3e-4.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), both, together
    )


def test_states_are_kept_beside_what_a_source_keeps():
    key, state = jax.random.key(0), Cart().at(1.0, 0.0)
    for name in SOURCES:
        with_state, without = (
            make_source(name, Cart(), keep_states=keep).collect(key, state, jnp.ones(1))[0]
            for keep in (True, False)
        )
        assert with_state.state is state
        assert (without.state is None) == (name in ("off", "cached"))
        assert jax.tree.structure(with_state.tangents) == jax.tree.structure(without.tangents)


def test_a_fresh_step_needs_no_direction_of_the_state():
    """However tangents are computed and made reliable."""
    for options in (
        {"method": "forward"},
        {"method": "differences", "max_norm": 10.0, "difference_step": 0.25},
        {"max_disagreement": 0.5, "smoothing_samples": 2, "smoothing_scale": 1e-6},
    ):
        step = make_fresh_step(Cart(), Derivatives(**options))
        where = jax.random.key(0), Cart().at(1.0, 0.0), jnp.ones(1), 1e3
        _, tangents, _ = jax.jit(step)(*where)
        assert tangents.state.reward.shape == (0,)
        np.testing.assert_allclose(tangents.action.reward, [-0.625], rtol=1e-3)


RECOMPUTED = {"gradients_at": "policy", "first_order": "recomputed"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor_gradient": "simulater"}, "did you mean 'simulator'"),
        ({"gradients_at": "polices"}, "did you mean 'policy'"),
        ({"gradients_at": "policy"}, "first_order='cached' has none: choose 'recomputed' or"),
        ({"gradients_at": "policy", "first_order": "off"}, "first_order='off' has none"),
        ({**RECOMPUTED, "gradient_units": "state_std"}, "choose 'observation_std' or 'raw'"),
        ({**RECOMPUTED, "action_directions": 1}, "share one step"),
        ({**RECOMPUTED, "actor_gradient": "critic", "n_step": 2}, "gradients_at='policy' goes"),
        ({"n_step": 3}, "goes through one step, but n_step=3"),
        ({"gradient_fraction": 0.5}, "keeps those of a part"),
        ({"actor_gradient": "mixed", "first_order": "reverse"}, "never computes: choose 'cached'"),
        (
            {**RECOMPUTED, "actor_gradient": "mixed", "first_order": "reverse"},
            "never computes: choose 'recomputed', or actor_gradient",
        ),
        ({"derivatives": Derivatives(method="analytic"), "first_order": "off"}, "offers none"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changes, message):
    config = sac.Config(**{"actor_gradient": "simulator", **changes})
    with pytest.raises(ValueError, match=message):
        config.check(Cart())


def test_an_agent_by_hand_needs_a_step_or_takes_none():
    with pytest.raises(ValueError, match="need a step"):
        sac.make_agent(2, 1, actor_gradient="mixed")
    with pytest.raises(ValueError, match="with 'replayed' takes none"):
        sac.make_agent(2, 1, fresh_step=make_fresh_step(Cart()))
