"""The states at which derivatives are audited, by kind."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from experiments.launch.policy import TrainedPolicy
from experiments.studies.derivatives.exposed import is_mujoco
from experiments.studies.derivatives.programs import Programs, length, take, where
from sobolax.environment import State

RESET, RANDOM, TRAINED = "reset", "random policy", "trained policy"
AIRBORNE, RESTING = "airborne", "resting"

# How many steps lie between a reset and a state of a rollout: fewest and most.
_RANDOM_STEPS, _TRAINED_STEPS = (20, 50), (20, 100)
_CLEARANCE = 0.1  # m, above where nothing touches
_REST_SECONDS = 3.0
_SETTLING_STEPS = 3

Act = Callable[[State], np.ndarray]


class Kind(NamedTuple):
    """States of one kind with the actions taken there.

    Attributes:
        states: A batch.
        actions: `(batch, action_size)`.
    """

    states: State
    actions: np.ndarray


def collect(
    programs: Programs, policy: TrainedPolicy | None, count: int, seed: int
) -> tuple[dict[str, Kind], dict[str, str]]:
    """States of all kinds that the environment has.

    Args:
        programs: Of the environment.
        policy: A trained policy, or None.
        count: States of each kind.
        seed: Seed of states and actions.

    Returns:
        Kinds, and the reasons for those that are left out, whole or in part.
    """
    draw = np.random.default_rng(seed)
    act = random_actions(programs, draw)
    first = programs.reset(count, seed)
    found = {RESET: Kind(first, act(first))}
    found[RANDOM] = _visited(programs, act, count, _RANDOM_STEPS, draw)
    reasons: dict[str, str] = {}
    body = _Body(programs) if is_mujoco(programs.environment) else None
    reason = "no MuJoCo physics" if body is None else body.reason
    if body is None or reason is not None:
        reasons[AIRBORNE] = reasons[RESTING] = str(reason)
    else:
        lifted, rested = body.lifted(found[RANDOM].states), body.rested(first)
        found[AIRBORNE] = Kind(lifted, act(lifted))
        # Steps without control, so that all of a state is what the environment itself leaves.
        still = np.zeros((count, programs.environment.action_size), np.float32)
        for _ in range(_SETTLING_STEPS):
            rested = programs.step(rested, still)
        found[RESTING] = Kind(rested, still)
    if policy is None:
        reasons[TRAINED] = "not given (--policy)"
    else:
        follow = trained_actions(programs, policy)
        found[TRAINED] = _visited(programs, follow, count, _TRAINED_STEPS, draw)
    for name, kind in list(found.items()):
        found[name] = _distinct(kind)
        if repeated := count - length(found[name].states):
            reasons[name] = f"{repeated} of {count} states repeat others and are left out"
    return found, reasons


def random_actions(programs: Programs, draw: np.random.Generator) -> Act:
    """Uniform in [-1, 1], whatever the state."""
    size = programs.environment.action_size
    return lambda states: draw.uniform(-1, 1, (length(states), size)).astype(np.float32)


def trained_actions(programs: Programs, policy: TrainedPolicy) -> Act:
    """The actions of a trained policy."""

    def act(states: State) -> np.ndarray:
        seen = states.observation[:, : programs.observation_size]
        return np.clip(programs.call("policy", jax.vmap(policy), seen), -1, 1)

    return act


def begin_anew(programs: Programs, states: State, ended: np.ndarray, seed: int) -> State:
    """Replaces the states of episodes that ended by first ones."""
    if not ended.any():
        return states
    return where(ended, programs.reset(length(states), seed), states)


def _visited(
    programs: Programs, act: Act, count: int, steps: tuple[int, int], draw: np.random.Generator
) -> Kind:
    """States along rollouts, each after a random number of steps; terminated ones begin anew."""
    states = programs.reset(count, int(draw.integers(2**31)))
    last = draw.integers(steps[0], steps[1] + 1, count)
    found = Kind(states, act(states))
    for index in range(steps[1]):
        states = programs.step(states, act(states))
        ended = np.asarray(states.discount) == 0
        states = begin_anew(programs, states, ended, int(draw.integers(2**31)))
        found = where(last == index + 1, Kind(states, act(states)), found)
    return found


def _distinct(kind: Kind) -> Kind:
    """Without repetitions of a state."""
    count = length(kind.states)
    leaves = [np.asarray(leaf).reshape(count, -1) for leaf in jax.tree.leaves(kind.states.physics)]
    _, chosen = np.unique(np.concatenate(leaves, axis=1), axis=0, return_index=True)
    return take(kind, np.sort(chosen))


class _Body:
    """A MuJoCo model whose root can be lifted off the ground, on the host, by the C engine.

    Attributes:
        reason: Why there is none, or None.
    """

    def __init__(self, programs: Programs):
        # Imported late: analytic environments do without.
        from sobolax.mjx.engine import mujoco

        self._mujoco, self._programs = mujoco, programs
        self.model = programs.environment.mujoco_model  # pyright: ignore
        self._height = self._find_height()
        fixed = self.model.body_weldid[self.model.geom_bodyid] == 0
        self._fixed = fixed
        collides = (self.model.geom_contype | self.model.geom_conaffinity) != 0
        self.reason = None
        if self._height is None:
            self.reason = "its root cannot be lifted"
        elif not np.any(fixed & collides):
            self.reason = "the world has nothing to touch"

    def _find_height(self) -> int | None:
        """Where in `qpos` the height of the root is."""
        model, kinds = self.model, self._mujoco.mjtJoint
        for joint in range(model.njnt):
            if model.body_parentid[model.jnt_bodyid[joint]] != 0:
                continue
            at = int(model.jnt_qposadr[joint])
            if model.jnt_type[joint] == kinds.mjJNT_FREE:
                return at + 2
            vertical = abs(model.jnt_axis[joint][2]) > 0.99
            if model.jnt_type[joint] == kinds.mjJNT_SLIDE and vertical:
                return at
        return None

    def touches(self, qpos: np.ndarray) -> bool:
        """Whether anything is in contact with what cannot move."""
        data = self._mujoco.MjData(self.model)
        data.qpos[:] = qpos
        self._mujoco.mj_fwdPosition(self.model, data)
        return any(self._fixed[data.contact.geom[index]].any() for index in range(data.ncon))

    def lifted(self, states: State) -> State:
        """Moved up until nothing touches the world, and a little more."""
        qpos = np.array(states.physics.qpos)
        for position in qpos:
            if not np.isfinite(position).all():
                continue
            for _ in range(100):
                if not self.touches(position):
                    break
                position[self._height] += 0.05
            position[self._height] += _CLEARANCE
        return self._placed(states, qpos, np.array(states.physics.qvel))

    def rested(self, states: State) -> State:
        """Without control, and slowed down, until at rest on the ground."""
        qpos, qvel = np.array(states.physics.qpos), np.array(states.physics.qvel)
        data = self._mujoco.MjData(self.model)
        steps = int(_REST_SECONDS / self.model.opt.timestep)
        for index in range(len(qpos)):
            self._mujoco.mj_resetData(self.model, data)
            data.qpos[:], data.qvel[:] = qpos[index], qvel[index]
            for step in range(steps):
                self._mujoco.mj_step(self.model, data)
                if step < steps * 2 // 3:
                    data.qvel[:] *= 0.99
            qpos[index], qvel[index] = data.qpos, data.qvel
        return self._placed(states, qpos, qvel)

    def _placed(self, states: State, qpos: np.ndarray, qvel: np.ndarray) -> State:
        warm = np.zeros_like(states.physics.qacc_warmstart)
        physics = replace(states.physics, qpos=qpos, qvel=qvel, qacc_warmstart=warm)
        # A displacement that is not zero, though it moves nothing: the observation is fresh.
        still = np.full((length(states), self._programs.environment.state_size), 1e-30, np.float32)
        perturb = jax.vmap(self._programs.environment.perturb)
        return self._programs.call("perturb", perturb, replace(states, physics=physics), still)
