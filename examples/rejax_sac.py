"""rejax's SAC on gymnax's Pendulum-v1.

Without the marked lines it is `rejax.SAC` itself. The Sobolev agent leaves every method of it as it
is and adds a gradient to its critics'; a differentiable twin of the pendulum gives the tangents.
`.cache/peers/rejax/bin/python -m examples.rejax_sac` runs both (examples/README.md).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import rejax  # pyright: ignore[reportMissingImports]
import rejax.evaluate  # pyright: ignore[reportMissingImports]

# Sobolev: begin
from flax import struct

from examples.added_gradient import adding
from examples.pendulum_twin import batch_step_and_tangents
from sobolax.losses import Weights, batch_loss, sobolev_terms

# Sobolev: end
ROUND = 2_000  # environment steps


# Sobolev: begin
class SobolevSAC(rejax.SAC):
    """rejax's SAC with the gradient of the first-order term added to its critics'."""

    weights: Any = struct.field(pytree_node=True, default=None)

    def update_critic(self, ts: Any, mb: Any) -> Any:
        """The host's own update, of a gradient with the first-order term in it."""
        at = batch_step_and_tangents(mb.obs, mb.action, largest_action=2.0)

        def td_error(critic, key, t):
            o, a, next_o = t.observation[None], t.action[None], t.next_observation[None]
            act = self.actor.apply(ts.actor_ts.params, next_o, key, method="action_log_prob")
            values = self.vmap_critic(ts.critic_target_params, next_o, act[0])
            value = values.min(axis=0) - jnp.exp(ts.alpha_ts.params["log_alpha"]) * act[1]
            return (self.critic.apply(critic, o, a) - t.reward - self.gamma * value)[0]

        def gradient_loss(critic):
            keys = jax.random.split(jax.random.fold_in(ts.rng, 1), self.batch_size)
            terms = jax.vmap(lambda k, *at: sobolev_terms(partial(td_error, critic, k), *at))
            return 0.5 * batch_loss(terms(keys, *at), self.weights)

        extra, own = jax.vmap(jax.grad(gradient_loss))(ts.critic_ts.params), ts.critic_ts
        ts = super().update_critic(ts.replace(critic_ts=own.replace(tx=adding(own.tx, extra))), mb)
        return ts.replace(critic_ts=ts.critic_ts.replace(tx=own.tx))


# Sobolev: end
@partial(jax.jit, static_argnames="rounds")
def train(seed: int, state_weight: Any = 0.0, action_weight: Any = 0.0, rounds: int = 4):
    """Trains for `rounds` of 2,000 environment steps, two updates after every five.

    Args:
        seed: Of everything random.
        state_weight: lambda_s; without the marked lines it does nothing.
        action_weight: lambda_a; likewise.
        rounds: An evaluation follows each.

    Returns:
        Environment steps and mean returns, `(rounds,)` each, and the parameters after each round,
        with a leading axis of rounds.
    """
    agent = rejax.SAC
    # Sobolev: begin
    agent = SobolevSAC
    # Sobolev: end
    algorithm = agent.create(
        env="Pendulum-v1",
        num_envs=5,
        num_epochs=2,
        batch_size=64,
        buffer_size=8_000,
        fill_buffer=500,
        agent_kwargs={"activation": "swish"},  # smooth: a gradient is trained
        learning_rate=2e-3,
        gamma=0.97,
        total_timesteps=rounds * ROUND,
        eval_freq=ROUND,
        skip_initial_evaluation=True,
    )
    # Sobolev: begin
    algorithm = algorithm.replace(weights=Weights(state_weight, action_weight, value=0.0))
    # Sobolev: end

    def look(algorithm, ts, key):
        act = algorithm.make_act(ts)
        _, returns = rejax.evaluate.evaluate(act, key, algorithm.env, algorithm.env_params, 16, 200)
        return ts.global_step, jnp.mean(returns), (ts.actor_ts.params, ts.critic_ts.params)

    algorithm = algorithm.replace(eval_callback=look)
    return algorithm.train(rng=jax.random.key(seed))[1]


if __name__ == "__main__":
    from examples.comparison import show

    show(__file__, "rejax's SAC on gymnax's Pendulum-v1", weight=0.1, rounds=4)
