"""One model in float64, with the few programs that the tests of it share."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from sobolax.mjx import integrate_position, step, step_and_jacobian
from sobolax.mjx.engine import mjx
from tests.sobolax.mjx.models import MODELS

STATES = 12
# The solver stops where rounding hides its cost's gradient: accelerations are exact to 1e-8 or so,
# of up to 1e3. Impedances bend within some 1e-2 m: of the fourth order, the rest is below 1e-7
# here.
STEP = 3e-5
FREE, BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
FIELDS = ("qpos", "qvel", "act", "ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat")


# For programs that run a few times: optimisation costs more than it saves.
compiled_quickly = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def one_by_one(function):
    """`function` of every item of batches: traced without `vmap`, which would cost more to trace.

    Batches are for the tests of environments.
    """
    return lambda *batches: jax.lax.map(lambda items: function(*items), batches)


class Harness:
    """Compiled functions of one model over a batch of `STATES` states.

    All calls run in float64, and nothing leaks: results are NumPy arrays.

    States are dictionaries of arrays. A direction is the vector
    `(dq, dv, d activation, d control, d qfrc_applied, xfrc_applied, mocap)`, the last two numbers
    each along one random direction; a result is cut into the parts of `_parts`.
    """

    def __init__(self, name: str):
        self.name = name
        self.plain = mujoco.MjModel.from_xml_string(MODELS[name])
        self.states = draw_states(self.plain, STATES, seed=0)
        draw = np.random.default_rng(1)
        self.push = (
            draw.normal(size=(self.plain.nbody, 6)) * (np.arange(self.plain.nbody) > 0)[:, None]
        )
        self.shift = draw.normal(size=(self.plain.nmocap, 7))
        model = self.plain
        self.state_size = 2 * model.nv + model.na
        self.size = self.state_size + model.nu + model.nv + 2
        with jax.enable_x64(True):
            self.model = mjx.put_model(model, impl="jax")
            self.data = mjx.make_data(model, impl="jax")
            self._mjx_step = jax.jit(one_by_one(functools.partial(self._stepped, mjx.step)))
            self._step = jax.jit(one_by_one(functools.partial(self._stepped, step)))
            self._derivatives = compiled_quickly(one_by_one(self._all_derivatives))

    def placed(self, state: dict, direction: jax.Array | None = None) -> mjx.Data:
        """The data of one state, moved along a direction."""
        model = self.plain
        data = self.data.replace(**state)
        if direction is None:
            return data
        sizes = (model.nv, model.nv, model.na, model.nu, model.nv, 1, 1)
        dq, dv, act, ctrl, force, push, shift = jnp.split(direction, np.cumsum(sizes)[:-1])
        return data.replace(
            qpos=integrate_position(model, data.qpos, dq),
            qvel=data.qvel + dv,
            act=data.act + act,
            ctrl=data.ctrl + ctrl,
            qfrc_applied=data.qfrc_applied + force,
            xfrc_applied=data.xfrc_applied + push * self.push,
            mocap_pos=data.mocap_pos + shift * self.shift[:, :3],
            mocap_quat=data.mocap_quat + shift * self.shift[:, 3:],
        )

    def _stepped(self, step, state, direction=None) -> dict:
        next_state = step(self.model, self.placed(state, direction))
        names = ("qpos", "qvel", "act", "qacc", "time", "sensordata", "qfrc_constraint")
        return {name: getattr(next_state, name) for name in names} | {
            "efc_force": next_state._impl.efc_force
        }

    def _parts(self, next_state: dict, origin: jax.Array) -> dict:
        """What is differentiated, positions in local coordinates at `origin`."""
        parts = {key: next_state[key] for key in next_state if key not in ("qpos", "time")}
        return {"qpos": local(self.plain, origin, next_state["qpos"])} | parts

    def _all_derivatives(self, state: dict, cotangent: dict, origin: jax.Array) -> dict:
        zero = jnp.zeros(self.size)

        def parts(direction):
            return self._parts(self._stepped(step, state, direction), origin)

        next_state, whole = step_and_jacobian(self.model, self.placed(state))
        # `linearize` is `jvp` and `vjp` with the shared part compiled once.
        _, linear = jax.linearize(parts, zero)
        (reverse,) = jax.linear_transpose(linear, zero)(cotangent)
        return {
            "forward": jax.vmap(linear, out_axes=-1)(jnp.eye(self.size)),
            "reverse": reverse,
            "state": whole.state,
            "control": whole.control,
            "next_state": self._stepped(lambda *_: next_state, state),
        }

    def mjx_step(self, direction: np.ndarray | None = None) -> dict:
        """Results of `mjx.step` itself, of all states moved along one direction."""
        return self._call(self._mjx_step, self._lanes(direction))

    def step(self) -> dict:
        return self._call(self._step, self._lanes(None))

    def _lanes(self, direction):
        direction = np.zeros(self.size) if direction is None else direction
        return np.broadcast_to(direction, (STATES, self.size))

    def _call(self, function, *arguments) -> dict:
        with jax.enable_x64(True):
            return jax.device_get(function(self.states, *arguments))

    @functools.cached_property
    def cotangent(self) -> dict:
        """Random weights of every number of a result."""
        next_state = self.mjx_step()
        draw = np.random.default_rng(2)
        parts = {key: value for key, value in next_state.items() if key not in ("qpos", "time")}
        parts["qpos"] = parts["qvel"]
        return {key: draw.normal(size=value.shape) for key, value in parts.items()}

    @functools.cached_property
    def derivatives(self) -> dict:
        return self._call(self._derivatives, self.cotangent, self.mjx_step()["qpos"])

    @functools.cached_property
    def differences(self) -> dict:
        """Differences of fourth order of `mjx.step`, shaped as `derivatives["forward"]`.

        NaN where a step has a kink within reach: there differences over two distances disagree.
        """
        origin = self.mjx_step()["qpos"]
        columns = []
        with jax.enable_x64(True):
            parts = jax.vmap(self._parts)
            for direction in STEP * np.eye(self.size):

                def gradient(times, direction=direction):
                    ahead = parts(self.mjx_step(times * direction), origin)
                    behind = parts(self.mjx_step(-times * direction), origin)
                    return {key: (ahead[key] - behind[key]) / (2 * times * STEP) for key in ahead}

                near, far = gradient(1), gradient(2)
                columns.append(
                    {key: ((4 * near[key] - far[key]) / 3, near[key] - far[key]) for key in near}
                )
            return {
                key: smooth(*(np.stack([c[key][i] for c in columns], axis=-1) for i in (0, 1)))
                for key in columns[0]
            }


def smooth(gradients: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """NaN for the states in which a part has a kink; curvature disagrees by less than 1e-3."""
    if not gradients.size:
        return gradients
    scale = np.maximum(np.abs(gradients).max(axis=(1, 2), keepdims=True), 1e-2)
    kinked = (np.abs(disagreement) > 1e-3 * scale).any(axis=(1, 2))
    # The box of `SHAPES` stands: which corner is which row of forces changes with a breath.
    assert kinked.mean() <= 0.25, f"too many states at a kink: {np.flatnonzero(kinked)}"
    return np.where(kinked[:, None, None], np.nan, gradients)


def local(model, origin: jax.Array, qpos: jax.Array) -> jax.Array:
    """Where `qpos` is in the tangent space at `origin`, exact to first order; `(nv,)`.

    As `mujoco.mj_differentiatePos`, written anew: not with what is tested here.
    """
    parts = []
    for kind, at in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        if kind == FREE:
            parts.append(qpos[at : at + 3] - origin[at : at + 3])
            at += 3
        if kind in (FREE, BALL):
            scalar, vector = origin[at], origin[at + 1 : at + 4]
            to_scalar, to_vector = qpos[at], qpos[at + 1 : at + 4]
            # 2 * the vector part of conj(origin) * qpos
            turned = scalar * to_vector - to_scalar * vector - jnp.cross(vector, to_vector)
            parts.append(2 * turned)
        else:
            parts.append(qpos[at : at + 1] - origin[at : at + 1])
    return jnp.concatenate(parts)


def draw_states(model, count: int, seed: int) -> dict:
    """First the keyframes as they are, then random states around them.

    Random ones have turned joints, speeds, controls and applied forces: none is zero.
    """
    draw = np.random.default_rng(seed)
    states = []
    for index in range(count):
        data = mujoco.MjData(model)
        mujoco.mj_resetDataKeyframe(model, data, index % model.nkey)
        for quaternion in _quaternions(model, data):
            quaternion /= np.linalg.norm(quaternion)
        if index >= model.nkey:
            mujoco.mj_integratePos(model, data.qpos, draw.normal(size=model.nv), 0.003)
            data.qvel += 0.1 * draw.normal(size=model.nv)
            data.ctrl += 0.1 * draw.normal(size=model.nu)
            data.act += 0.1 * draw.normal(size=model.na)
            data.qfrc_applied += 0.3 * draw.normal(size=model.nv)
            data.xfrc_applied[1:] += 0.3 * draw.normal(size=(model.nbody - 1, 6))
            data.mocap_quat += 0.1 * draw.normal(size=(model.nmocap, 4))
        states.append({field: np.array(getattr(data, field)) for field in FIELDS})
    return {field: np.stack([state[field] for state in states]) for field in FIELDS}


def _quaternions(model, data):
    """Views of the quaternions of `qpos`."""
    for kind, at in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        if kind == FREE:
            yield data.qpos[at + 3 : at + 7]
        elif kind == BALL:
            yield data.qpos[at : at + 4]


@functools.cache
def harness(name: str) -> Harness:
    return Harness(name)
