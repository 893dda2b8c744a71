"""What theory says of fitted gradients, on the scalar linear-quadratic problem.

The system is `s' = a s + u` with reward `-(s² + u²)` and the policy `u = -k s`, so that the closed
loop is `s' = c s` with `c = a - k`. The critic is quadratic, which holds the policy's `Q` exactly.
One iteration of policy evaluation fits the critic's gradients to those of the target by least
squares, solved exactly: a step of Newton's method on the library's own loss, which is quadratic in
the parameters.

Let `g s` and `h s` be `dQ/ds` and `dQ/du` where the policy acts. The target's gradients there are

- with the policy's part: `g' = -2 + γ a c (g - k h)` and `h' = 2 k + γ c (g - k h)`. So the whole
  gradient `V' = g - k h` obeys a recursion of its own, with the factor `γ c (a - k) = γ c²`;
- with the policy's part frozen: `g' = -2 + γ a c g`, the open loop `a` in the place of one `c`.

The first converges exactly when `γ c² < 1`, the second when `|γ a c| < 1`, and what the second
converges to is not the gradient of `Q`.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.losses import Weights, batch_loss, sobolev_terms
from sobolax.transition import Tangents, Transition

DISCOUNT = 0.9
GRADIENTS_ALONE = Weights(state=1.0, action=1.0, value=0.0)  # the weights' ratio at λ → ∞


@dataclass(frozen=True)
class Problem:
    """A system with `b = 1` and its closed loop."""

    open_loop: float
    closed_loop: float

    @property
    def gain(self) -> float:
        return self.open_loop - self.closed_loop

    def true_parameters(self) -> np.ndarray:
        """Of the policy's Q: constant, s², s u, u². `V = -p s²` with `p = 1 + k² + γ c² p`."""
        p = (1 + self.gain**2) / (1 - DISCOUNT * self.closed_loop**2)
        a = self.open_loop
        return -np.array([0.0, 1 + DISCOUNT * p * a**2, 2 * DISCOUNT * p * a, 1 + DISCOUNT * p])


def transitions(open_loop, count=16):
    """Transitions of random states and actions, off the policy, and their tangents."""
    draw = np.random.default_rng(0).uniform(-1, 1, (2, count, 1))
    state, action = map(jnp.asarray, draw)
    one = jnp.ones((count, 1, 1))
    transition = Transition(
        observation=state,
        action=action,
        reward=-(state**2 + action**2)[:, 0],
        discount=jnp.ones(count),
        next_observation=open_loop * state + action,
    )
    tangents = Tangents(
        state=Transition(one, None, (-2 * state), None, open_loop * one),
        action=Transition(None, one, (-2 * action), None, one),
    )
    return transition, tangents


def critic(parameters, state, action):
    s, u = state[0], action[0]
    return parameters @ jnp.stack([jnp.ones(()), s**2, s * u, u**2])


@partial(jax.jit, static_argnames="frozen")
def iterate(target, open_loop, gain, weights, frozen):
    """One iteration of fitted policy evaluation: parameters of the target -> of the critic."""

    def loss(parameters):
        def td_error(t):
            seen = jax.lax.stop_gradient(t.next_observation) if frozen else t.next_observation
            next_q = critic(target, t.next_observation, -gain * seen)
            return critic(parameters, t.observation, t.action) - (
                t.reward + DISCOUNT * t.discount * next_q
            )

        each = jax.vmap(lambda t, dt: sobolev_terms(td_error, t, dt))
        return batch_loss(each(*transitions(open_loop)), weights)

    gradient, curvature = jax.grad(loss)(target), jax.hessian(loss)(target)
    # The shortest step to a minimum: what the loss says nothing of stays as it is.
    return target - jnp.linalg.pinv(curvature, rtol=1e-13) @ gradient


def run(problem, weights, frozen, count, start):
    """Parameters before and after every iteration."""
    found = [jnp.asarray(start)]
    for _ in range(count):
        found.append(iterate(found[-1], problem.open_loop, problem.gain, weights, frozen))
    return np.asarray(found)


def gradient_along_policy(problem, parameters):
    """`g` and the total gradient, per unit of the state."""
    _, square, mixed, action = parameters
    g = 2 * square - problem.gain * mixed
    return float(g), float(g - problem.gain * (mixed - 2 * problem.gain * action))


START = np.array([0.3, 1.0, -0.7, 0.4])
# γ = 0.9:                      full 0.9 c², frozen 0.9 a c
OUTCOMES = {
    "both converge": Problem(0.8, 0.5),  # 0.225, 0.36
    "only the full one": Problem(1.5, 0.9),  # 0.729, 1.215: an unstable system held by a policy
    "only the frozen one": Problem(0.5, 1.2),  # 1.296, 0.54: a stable system made to explode
    "neither": Problem(1.3, 1.2),  # 1.296, 1.404
}


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_converge_exactly_when_theory_says(float64, name, frozen):
    problem = OUTCOMES[name]
    a, c = problem.open_loop, problem.closed_loop
    factor = DISCOUNT * (a * c if frozen else c**2)
    converges = factor < 1
    assert (
        converges
        == {
            "both converge": True,
            "only the full one": not frozen,
            "only the frozen one": frozen,
            "neither": False,
        }[name]
    )

    path = run(problem, GRADIENTS_ALONE, frozen, 120, START)
    gradients = np.array([gradient_along_policy(problem, p)[0 if frozen else 1] for p in path])
    # Each change is the last one times the factor: measured while it is well above rounding.
    changes = np.diff(gradients)[:12]
    np.testing.assert_allclose(changes[1:] / changes[:-1], factor, rtol=1e-6)
    moved = np.max(np.abs(path[-1] - path[-2]))
    # 0.729^120 = 3e-17 and less; 1.215^120 = 1e10 and more.
    assert moved < 1e-12 if converges else moved > 1e6


@pytest.mark.parametrize("name", ["both converge", "only the full one"])
def test_with_the_policys_part_gradients_become_right(float64, name):
    problem = OUTCOMES[name]
    path = run(problem, GRADIENTS_ALONE, False, 160, START)
    np.testing.assert_allclose(path[-1][1:], problem.true_parameters()[1:], rtol=1e-12)


@pytest.mark.parametrize("name", ["both converge", "only the frozen one"])
def test_without_it_they_become_something_else(float64, name):
    problem = OUTCOMES[name]
    path = run(problem, GRADIENTS_ALONE, True, 160, START)
    found = gradient_along_policy(problem, path[-1])[0]
    # The fixed point of g = -2 + γ a c g.
    expected = -2 / (1 - DISCOUNT * problem.open_loop * problem.closed_loop)
    assert found == pytest.approx(expected, rel=1e-12)
    if name == "both converge":
        right = gradient_along_policy(problem, problem.true_parameters())[0]
        assert found == pytest.approx(1.037 * right, rel=1e-3)


def test_gradients_alone_leave_the_height_and_values_repair_it(float64):
    problem = OUTCOMES["only the full one"]
    true = problem.true_parameters()
    grid = jnp.linspace(-1, 1, 9)

    def error(parameters):
        """Of Q, on a grid of states and actions."""
        each = jax.vmap(
            lambda s: jax.vmap(lambda u: critic(parameters - true, s[None], u[None]))(grid)
        )
        return np.asarray(each(grid))

    # At λ → ∞ the gradient is right, and Q is off by the same constant everywhere: the one it began
    # with, since nothing in the loss knows of it.
    alone = run(problem, GRADIENTS_ALONE, False, 160, START)[-1]
    np.testing.assert_allclose(error(alone), START[0], atol=1e-11)

    # However little the value term weighs, it takes the constant down by γ per iteration, and
    # leaves the gradients.
    little = Weights(state=1.0, action=1.0, value=1e-4)
    path = run(problem, little, False, 60, alone)
    heights = np.array([error(p).mean() for p in path])
    np.testing.assert_allclose(heights, START[0] * DISCOUNT ** np.arange(61), rtol=1e-6)
    assert max(np.ptp(error(p)) for p in path) < 1e-9


def test_values_alone_find_the_same_where_the_critic_can_hold_it(float64):
    """Both terms agree on what is right; at enough data either would do."""
    problem = OUTCOMES["both converge"]
    values = Weights(state=0.0, action=0.0)
    path = run(problem, values, False, 300, START)
    np.testing.assert_allclose(path[-1], problem.true_parameters(), atol=1e-11)
