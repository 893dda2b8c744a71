"""SBX's SAC (Stable-Baselines3 in JAX) on Gymnasium's Pendulum-v1.

Without the marked lines it is `sbx.SAC` itself. The Sobolev agent leaves every method of it as it
is and adds a gradient to its critics'; a differentiable twin of the pendulum gives the tangents.
`.cache/peers/sbx/bin/python -m examples.sbx_sac` runs both (examples/README.md).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import gymnasium
import jax
import numpy as np
from sbx import SAC  # pyright: ignore[reportMissingImports]

# Sobolev: begin
from examples.added_gradient import adding
from examples.pendulum_twin import batch_step_and_tangents
from sobolax.losses import Weights, batch_loss, sobolev_terms


class SobolevSAC(SAC):
    """SBX's SAC with the gradients' gradient added to its critics'."""

    @classmethod
    def update_critic(cls, actor: Any, qf: Any, entropy: Any, *rest: Any) -> tuple:
        """The host's own update, of a gradient with the gradients in it."""
        o, a, *_, discounts, key = rest
        at, alpha = batch_step_and_tangents(o, a), entropy.apply_fn({"params": entropy.params})

        def td_error(q, index, key, t):
            policy = actor.apply_fn(actor.params, t.next_observation[None])
            action = policy.sample(seed=key)
            values = qf.apply_fn(qf.target_params, t.next_observation[None], action)
            target = t.reward + discounts[0] * (values.min() - alpha * policy.log_prob(action)[0])
            return qf.apply_fn(q, t.observation[None], t.action[None])[index, 0, 0] - target

        def gradient_loss(q, index):
            keys = jax.random.split(jax.random.fold_in(key, 1), len(o))
            terms = jax.vmap(lambda k, *at: sobolev_terms(partial(td_error, q, index, k), *at))
            return 0.5 * batch_loss(terms(keys, *at), cls.weights)

        gradients = jax.grad(lambda q: gradient_loss(q, 0) + gradient_loss(q, 1))(qf.params)
        changed, update = qf.replace(tx=adding(qf.tx, gradients)), SAC.update_critic.__wrapped__
        new, *others = update(actor, changed, entropy, *rest)
        return new.replace(tx=qf.tx), *others


# Sobolev: end
ROUND = 500  # environment steps


def train(seed: int, state_weight: Any = 0.0, action_weight: Any = 0.0, rounds: int = 5):
    """Trains for `rounds` of 500 environment steps, with as many updates.

    Args:
        seed: Of everything random.
        state_weight: lambda_s; without the marked lines it does nothing.
        action_weight: lambda_a; likewise.
        rounds: An evaluation follows each.

    Returns:
        Environment steps and mean returns, `(rounds,)` each, and the parameters after each round,
        with a leading axis of rounds.
    """
    agent = SAC
    # Sobolev: begin
    agent = type("Weighted", (SobolevSAC,), {"weights": Weights(state_weight, action_weight, 0.0)})
    # Sobolev: end
    env = gymnasium.make("Pendulum-v1")
    model = agent(
        "MlpPolicy",
        env,
        seed=seed,
        batch_size=64,
        learning_starts=200,
        train_freq=10,
        gradient_steps=10,
        learning_rate=2e-3,
        gamma=0.97,
        policy_kwargs={
            "net_arch": [64, 64],
            "activation_fn": nn.swish,
        },  # smooth: gradients are trained
    )
    steps, returns, parameters = [], [], []
    for index in range(rounds):
        model.learn(ROUND, reset_num_timesteps=False)
        steps.append((index + 1) * ROUND)
        returns.append(np.mean([_episode(model, start) for start in range(8)]))
        parameters.append((model.policy.actor_state.params, model.policy.qf_state.params))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parameters)
    return np.array(steps), np.array(returns), stacked


def _episode(model: SAC, seed: int) -> float:
    env, total, over = gymnasium.make("Pendulum-v1"), 0.0, False
    observation, _ = env.reset(seed=seed)
    while not over:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    return total


if __name__ == "__main__":
    from examples.comparison import show

    title = "SBX's SAC on Gymnasium's Pendulum-v1"
    show(__file__, title, weight=0.1, seeds=1, rounds=5, check_rounds=1)
