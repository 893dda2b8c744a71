"""What all MuJoCo environments share: stepping, perturbing and drawing a model on MJX."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import parameters
from envs.frames import frames
from envs.mujoco import linearization, names
from envs.mujoco.host_engine import HostEngine
from envs.mujoco.physics import Physics, physics_of
from sobolax.environment import State, anchored
from sobolax.mjx import (
    InexactDerivatives,
    StepJacobian,
    advice,
    for_cpu,
    integrate_position,
    reason_against_jacobian,
    reason_against_steps,
    step,
    step_and_jacobian,
    subtract_positions,
)
from sobolax.mjx.engine import MjModel, mjx, mujoco
from sobolax.tangents.forward import TangentFunction

_FACTORS = 1  # folded into the key of a reset
_INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    "rk4": mujoco.mjtIntegrator.mjINT_RK4,
}


class MujocoEnvironment(ABC):
    """An environment of `sobolax.environment.Environment` around a MuJoCo model.

    A subclass sets `name` and `episode_length` and defines `_reset_physics`, `_observe` and
    `_assess`. Local coordinates are `(dq, dv, d_activation)`, of sizes `nv`, `nv` and `na`.

    The protocol bounds actions to [-1, 1], so the model's own clamp on the control is taken off:
    at exactly ±1, where a saturated policy sits, its derivative would be half of the true one.

    Args:
        model: The model; it is changed in place.
        substeps: Physics steps of `model.opt.timestep` per environment step.
        integrator: `"euler"` (semi-implicit, damping implicit), `"implicitfast"` or `"rk4"`; the
            last costs four times as much, and has derivatives but no analytic Jacobian. None
            leaves the model's own.
        iterations: Newton iterations of the constraint solver, at most; too few give another map
            with other derivatives.
        ls_iterations: Line-search iterations of each of them, at most.

    Attributes:
        mujoco_model: The `mujoco.MjModel`, for viewers.
        dt: Seconds per environment step.
        own_derivatives: See `sobolax.tangents.methods`.
        randomization: Which parameters of the model are drawn at a reset (`envs.randomize`), or
            None.
        sees_geometry: Whether observation and reward take places from the model that was drawn.
        physics_step: `(mjx model, data) -> data`, whose derivatives are those of a step.
    """

    name: str
    episode_length: int
    sees_geometry: bool = False
    reverse_mode: bool = True
    physics_step: Callable[..., mjx.Data] = staticmethod(step)

    def __init__(
        self,
        model: MjModel,
        substeps: int,
        integrator: str | None = "euler",
        iterations: int = 8,
        ls_iterations: int = 8,
    ):
        if integrator is not None:
            name = parameters.choice("integrator", integrator, tuple(_INTEGRATORS))
            model.opt.integrator = _INTEGRATORS[name]
        model.opt.iterations = parameters.integer("iterations", iterations, 1)
        model.opt.ls_iterations = parameters.integer("ls_iterations", ls_iterations, 1)
        model.actuator_ctrllimited[:] = False
        self._model = mjx.put_model(model, impl="jax")  # refuses what MJX cannot simulate
        if (reason := reason_against_steps(self._model)) is not None:
            raise ValueError(f"{self.name}: {reason}")
        if (change := advice(model)) is not None:
            warnings.warn(f"{self.name}: {change}", InexactDerivatives, stacklevel=3)
        self.mujoco_model = model
        self.substeps = parameters.integer("substeps", substeps, 1)
        self.dt = float(model.opt.timestep) * self.substeps
        self.action_size = int(model.nu)
        self.state_size = int(2 * model.nv + model.na)
        self.state_names = names.of_state(model)
        self.action_names = names.of_actions(model)
        # All that a step does not set is constant: taken from here, not carried in the state.
        self._data = mjx.make_data(model, impl="jax")
        self._drawn: Mapping[str, jax.Array] = {}
        self._set_randomization(None, observed=False)

    def _set_randomization(self, randomization: Any, observed: bool | str) -> None:
        """Of `envs.randomize`, which does it to a copy."""
        self.randomization, self._factors_observed = randomization, bool(observed)
        # Under `jit`, its thousands of operations are traced once, not at every use in a program.
        self._substep = jax.jit(for_cpu(self._step_model))
        self._substep_jacobian = jax.jit(for_cpu(self._linearize_model))
        nominal = "the C engine would differentiate the nominal model, not the one that was drawn"
        self.own_derivatives: Mapping[str, TangentFunction | str] = {
            "analytic": reason_against_jacobian(self._model) or self._structured_tangents,
            "mujoco_fd": self._engine_tangents if randomization is None else nominal,
        }
        zero = jax.eval_shape(self._start, jax.eval_shape(lambda: jax.random.key(0)))
        self.observation_size = int(zero.observation.shape[0])
        if observed == "critic":
            own = jax.eval_shape(self._observe, zero.physics).shape[0]
            self.actor_observations = tuple(range(own))

    # ---- the protocol

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode."""
        return self._start(key)

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by `substeps` physics steps at a constant control."""
        physics = self._advance(state.physics, self._control(action))
        return self._arrive(state.physics, action, physics)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves positions, velocities and activations along the tangent space."""
        physics = self._perturb_physics(state.physics, displacement)
        observation = anchored(self.observe(physics), state, displacement)
        return replace(state, physics=physics, observation=observation)

    def coordinates(self, state: State) -> jax.Array:
        """Local coordinates from the model's reference pose on, at rest, `(state_size,)`."""
        physics = state.physics
        reference = jnp.asarray(self.mujoco_model.qpos0, physics.qpos.dtype)
        positions = subtract_positions(self.mujoco_model, physics.qpos, reference)
        return jnp.concatenate([positions, physics.qvel, physics.act])

    def observe(self, physics: Physics) -> jax.Array:
        """The observation, `(observation_size,)`, with the factors at its end if they are seen."""
        seen = self._observe(physics)
        if not self._factors_observed:
            return seen
        return jnp.concatenate(
            [seen, *(factor.astype(seen.dtype) for factor in physics.factors.values())]
        )

    # ---- for viewers

    def frame(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Where every geom of `mujoco_model` is, computed on the host.

        Args:
            state: A state, or many of them stacked along leading axes.

        Returns:
            Positions in metres, `(..., ngeom, 3)`, and rotation matrices, `(..., ngeom, 3, 3)`.
        """
        return frames(self.mujoco_model, state.physics.qpos, state.physics.mocap_pos)

    # ---- what a subclass defines

    @abstractmethod
    def _reset_physics(self, key: jax.Array) -> Physics:
        """Draws the first physics state, often with `_physics`, which gives it its factors."""

    @abstractmethod
    def _observe(self, physics: Physics) -> jax.Array:
        """The observation, `(observation_size,)`."""

    @abstractmethod
    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """The reward `()`, whether the episode ended `()` bool, and metrics of a step."""

    def _control(self, action: jax.Array) -> jax.Array:
        """The actuators' control, `(nu,)`, of an action, `(action_size,)`; linear, best."""
        return action

    # ---- its tools

    def _physics(
        self, qpos: jax.Array, qvel: jax.Array, mocap_pos: jax.Array | None = None
    ) -> Physics:
        return Physics(
            qpos=qpos,
            qvel=qvel,
            act=jnp.zeros(self.mujoco_model.na, qpos.dtype),
            qacc_warmstart=jnp.zeros(self.mujoco_model.nv, qpos.dtype),
            mocap_pos=self._data.mocap_pos if mocap_pos is None else mocap_pos,
            factors=self._drawn,
        )

    def _start(self, key: jax.Array) -> State:
        physics = self._first_physics(key)
        state = self._arrive(physics, jnp.zeros(self.action_size, physics.qpos.dtype), physics)
        zero = jnp.zeros_like(state.reward)
        return replace(state, reward=zero, discount=zero + 1)

    def _first_physics(self, key: jax.Array) -> Physics:
        if self.randomization is None:
            return self._reset_physics(key)
        # Another key than that of the reset, whose draws stay those of the nominal model.
        factors = self.randomization.draw(jax.random.fold_in(key, _FACTORS))
        # A first state may depend on the robot that was drawn, but `_reset_physics` takes the key
        # alone: a copy of the environment carries the factors, as tracing must change nothing.
        drawn = copy.copy(self)
        drawn._drawn = factors
        return replace(drawn._reset_physics(key), factors=factors)

    def _arrive(self, before: Physics, action: jax.Array, after: Physics) -> State:
        reward, terminated, metrics = self._assess(before, action, after)
        discount = 1.0 - terminated.astype(reward.dtype)
        return State(after, self.observe(after), reward, discount, metrics)

    def _advance(self, physics: Physics, control: jax.Array) -> Physics:
        return jax.lax.scan(
            lambda carry, _: (self._substep(carry, control), None), physics, length=self.substeps
        )[0]

    def _perturb_physics(self, physics: Physics, displacement: jax.Array) -> Physics:
        velocities = self.mujoco_model.nv
        dq, dv, da = jnp.split(displacement, (velocities, 2 * velocities))
        return replace(
            physics,
            qpos=integrate_position(self.mujoco_model, physics.qpos, dq),
            qvel=physics.qvel + dv,
            act=physics.act + da,
        )

    def _structured_tangents(self, key, state, action, state_directions, action_directions):
        del key

        def move(physics: Physics, control: jax.Array, start: jax.Array, controls: jax.Array):
            return linearization.chained(
                self._substep_jacobian, self.substeps, physics, control, start, controls
            )

        return linearization.tangents_of_move(
            self, move, state, action, state_directions, action_directions
        )

    @cached_property
    def _host_engine(self) -> HostEngine:
        # It copies the model, and few need it.
        return HostEngine(self.mujoco_model, self.substeps)

    def _engine_tangents(self, key, state, action, state_directions, action_directions):
        del key

        def move(physics: Physics, control: jax.Array, start: jax.Array, controls: jax.Array):
            # The transition is that of the other methods; its gradients are the C engine's.
            moved = self._host_engine.moved(physics, control, start, controls)
            return self._advance(physics, control), moved

        return linearization.tangents_of_move(
            self, move, state, action, state_directions, action_directions
        )

    def _model_of(self, physics: Physics) -> mjx.Model:
        """The model with the parameters of this episode."""
        if self.randomization is None:
            return self._model
        return self.randomization.applied(self._model, physics.factors)

    def _data_at(self, physics: Physics, control: jax.Array) -> mjx.Data:
        return self._data.replace(
            qpos=physics.qpos,
            qvel=physics.qvel,
            act=physics.act,
            qacc_warmstart=physics.qacc_warmstart,
            mocap_pos=physics.mocap_pos,
            ctrl=control,
        )

    def _step_model(self, physics: Physics, control: jax.Array) -> Physics:
        data = self.physics_step(self._model_of(physics), self._data_at(physics, control))
        return physics_of(data, physics.factors)

    def _linearize_model(
        self, physics: Physics, control: jax.Array
    ) -> tuple[Physics, StepJacobian]:
        model = self._model_of(physics)
        data, jacobian = step_and_jacobian(model, self._data_at(physics, control))
        return physics_of(data, physics.factors), jacobian
