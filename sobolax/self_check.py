"""Whether an installation computes what it should: what the command `sobolax` runs."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from sobolax.environment import State
from sobolax.losses import Weights, sobolev_td_loss
from sobolax.tangents.forward import forward_tangents
from sobolax.transition import Transition

# x' = x + u with the reward -(x^2 + u^2): at a discount of 2/3 the Riccati equation has the root
# 3/2, V*(x) = -3/2 x^2, u* = -x/2 and Q*(x, u) = -(x^2 + u^2) - (x + u)^2.
_DISCOUNT = 2 / 3
_BALL = """<mujoco><option timestep="0.005" iterations="100" ls_iterations="50" tolerance="1e-15"/>
  <worldbody><geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.095"><freejoint/><geom size="0.1"/></body></worldbody></mujoco>"""


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        name: What was checked.
        error: The largest error; NaN if the check could not be run.
        tolerance: What it may be.
        seconds: How long it took, compilation included.
        reason: Why it could not be run, or nothing.

    Example:
        >>> print(Check("sums", error=1e-8, tolerance=1e-6, seconds=0.25))
        ok      sums: error 1.0e-08, tolerance 1e-06 (0.2 s)
    """

    name: str
    error: float
    tolerance: float
    seconds: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        """A line for people."""
        found = self.reason or f"error {self.error:.1e}, tolerance {self.tolerance:.0e}"
        return f"{'ok' if self.passed else 'FAILED':7} {self.name}: {found} ({self.seconds:.1f} s)"


def checks(starting: Callable[[str], object] = lambda _: None) -> Iterator[Check]:
    """Runs every check that this installation can run, in full matrix precision.

    Args:
        starting: Called with the name of a check before it runs.

    Example:
        >>> next(checks()).passed
        True
    """
    # A few roundings in float32 of sums of up to 10, times up to 4.
    found = [
        ("Sobolev loss and its gradient at a known Q*", loss_at_known_q, 1e-5),
        ("sums of many rows, as XLA compiles them", sums_of_rows, 1e-6),
    ]
    if importlib.util.find_spec("mujoco") and importlib.util.find_spec("mujoco.mjx"):
        # The solver's rounding over the step of the differences, relative to the largest entry.
        found.append(("contact Jacobian against differences", contact_jacobian, 1e-5))
    for name, check, tolerance in found:
        starting(name)
        yield _run(name, check, tolerance)


def _run(name: str, check: Callable[[], float], tolerance: float) -> Check:
    start, error, reason = time.perf_counter(), float("nan"), ""
    try:
        with jax.default_matmul_precision("highest"):
            error = check()
    except Exception as failure:
        reason = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
    return Check(name, error, tolerance, time.perf_counter() - start, reason)


class _Line:
    """A point on a line that an action moves: `x' = x + u`, the reward `-(x^2 + u^2)`."""

    name = "line"
    observation_size = action_size = state_size = 1
    episode_length = 10
    reverse_mode = True

    def reset(self, key: jax.Array) -> State:
        return self.at(jax.random.normal(key, (1,)))

    def at(self, position: jax.Array) -> State:
        zero = jnp.zeros((), position.dtype)
        return State(position, position, zero, jnp.ones_like(zero), {})

    def step(self, state: State, action: jax.Array) -> State:
        reward = -jnp.sum(state.physics**2) - jnp.sum(action**2)
        return replace(self.at(state.physics + action), reward=reward)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        moved = state.physics + displacement
        return replace(state, physics=moved, observation=moved)


def sums_of_rows() -> float:
    """Sums over matrices times vectors, one for each of many rows, beside what they are.

    jaxlib 0.10.2 gives the last of them as that of an earlier row on x86-64 (jax issue #39103).

    Returns:
        The largest relative error.

    Example:
        >>> sums_of_rows() < 1e-6
        True
    """
    numbers = jnp.arange(1.0, 32_770.0)
    rows = jnp.zeros((len(numbers), 3)).at[:, 0].set(numbers)
    found = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    return float(jnp.max(jnp.abs(found / numbers**2 - 1.0)))


def loss_at_known_q() -> float:
    """The Sobolev loss of the known Q* of a linear system, and its gradient: zero to rounding.

    Returns:
        The largest of the root of the loss and the gradient by the critic's parameters, over some
        transitions.

    Raises:
        ArithmeticError: If another critic than Q* has no loss in one of its three terms.

    Example:
        >>> loss_at_known_q() < 1e-5
        True
    """
    line, one = _Line(), jnp.ones((1, 1))

    def q(w: jax.Array, x: jax.Array, u: jax.Array) -> jax.Array:
        return -jnp.sum(w[0] * x**2 + w[1] * u**2 + w[2] * (x + u) ** 2)

    def loss(w: jax.Array, place: jax.Array, weights: Weights) -> jax.Array:
        position, action = place[:1], place[1:]
        transition, _, tangents = forward_tangents(line, line.at(position), action, one, one)

        def td_error(t: Transition) -> jax.Array:
            value = q(jnp.ones(3), t.next_observation, -t.next_observation / 2)
            return q(w, t.observation, t.action) - (t.reward + _DISCOUNT * t.discount * value)

        return sobolev_td_loss(td_error, transition, tangents, weights)

    places = jax.random.uniform(jax.random.key(0), (16, 2), minval=-1.0)

    @jax.jit
    def error(w: jax.Array, weights: Weights) -> jax.Array:
        value, gradient = jax.vmap(jax.value_and_grad(loss), (None, 0, None))(w, places, weights)
        return jnp.maximum(jnp.sqrt(jnp.max(value)), jnp.max(jnp.abs(gradient)))

    for name, weights in (
        ("value", Weights(0.0, 0.0)),
        ("state", Weights(1.0, 0.0, 0.0)),
        ("action", Weights(0.0, 1.0, 0.0)),
    ):
        if not error(jnp.array([1.0, 1.0, 1.5]), weights) > 0.01:
            raise ArithmeticError(f"the {name} term of a wrong critic's loss is zero")
    return float(error(jnp.ones(3), Weights(1.0, 1.0)))


def contact_jacobian() -> float:
    """`sobolax.mjx.step_and_jacobian` of a ball on a plane against differences of `mjx.step`.

    Both in float64; the ball slides and spins, and the plane carries it.

    Returns:
        The largest difference, relative to the largest entry.

    Raises:
        ImportError: Without MuJoCo and MJX.

    Example:
        >>> contact_jacobian() < 1e-5
        True
    """
    from sobolax.mjx import for_cpu, integrate_position, step_and_jacobian
    from sobolax.mjx.engine import mjx, mujoco

    with jax.enable_x64(True):
        plain = mujoco.MjModel.from_xml_string(_BALL)
        model = mjx.put_model(plain, impl="jax")
        velocity = jnp.array([0.3, -0.2, -0.1, 0.5, 1.0, -0.7])
        data = mjx.make_data(model, impl="jax").replace(qvel=velocity)

        width = 3e-5  # accelerations are rounded to 1e-8 or so, where the solver stops

        def stepped(along: jax.Array) -> tuple[jax.Array, jax.Array]:
            dq, dv = jnp.split(width * along, 2)
            qpos = integrate_position(plain, data.qpos, dq)
            end = mjx.step(model, data.replace(qpos=qpos, qvel=data.qvel + dv))
            return end.qpos, end.qvel

        def difference(above: tuple, below: tuple) -> jax.Array:
            """In local coordinates: a rotation vector for the quaternion."""
            turn = 2 * _vector_of_product(below[0][3:], above[0][3:])
            parts = [above[0][:3] - below[0][:3], turn, above[1] - below[1]]
            return jnp.concatenate(parts) / (2 * width)

        both = jnp.stack([jnp.eye(12), -jnp.eye(12)])
        ends = _compiled(jax.vmap(jax.vmap(for_cpu(stepped))))(both)
        above, below = (jax.tree.map(lambda leaf, side=side: leaf[side], ends) for side in (0, 1))
        expected = jax.vmap(difference, out_axes=1)(above, below)
        _, jacobian = _compiled(for_cpu(lambda data: step_and_jacobian(model, data)))(data)
        scale = jnp.max(jnp.abs(expected))
        return float(jnp.max(jnp.abs(jacobian.state - expected)) / scale)


def _compiled(function: Callable) -> Callable:
    # It runs once: without the compiler's costly passes it is there in half the time.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=options)


def _vector_of_product(first: jax.Array, second: jax.Array) -> jax.Array:
    """The vector of `conjugate(first) * second`: half the small rotation between them, `(3,)`."""
    w, v = first[0], first[1:]
    return w * second[1:] - second[0] * v - jnp.cross(v, second[1:])
