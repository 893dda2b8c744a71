"""What a CPU finds: physics steps and their Jacobians, in float32 and in float64.

`python -m experiments.bench.gpu.reference ENV COUNT FILE`, as a process of its own whose only
device is the CPU: programs for it are traced in another way (`sobolax.mjx.for_cpu`).
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs.mujoco.physics import Physics

# Enough steps of random actions for legs to be on the floor.
_STEPS = 25
_PHYSICS = tuple(entry.name for entry in fields(Physics) if entry.name != "factors")


def start(env: str, count: int, path: Path) -> subprocess.Popen:
    """Starts the process."""
    arguments = ["-m", "experiments.bench.gpu.reference", env, str(count), str(path)]
    return subprocess.Popen(
        [sys.executable, *arguments], env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )


def write(env: str, count: int, path: Path) -> None:
    """Rolls the environment and writes states, controls, and what a step makes of them."""
    environment: Any = envs.make(env)
    keys = jax.random.split(jax.random.key(0), 2)

    def roll(key: jax.Array, draws: jax.Array):
        def step(state, action):
            return environment.step(state, action), None

        return jax.lax.scan(step, environment.reset(key), draws)[0].physics

    shape = (count, _STEPS, environment.action_size)
    actions = jax.random.uniform(keys[0], shape, minval=-1.0, maxval=1.0)
    physics = jax.jit(jax.vmap(roll))(jax.random.split(keys[1], count), actions)
    control = jax.vmap(environment._control)(actions[:, 0])
    found = {"control": np.asarray(control)}
    found |= {name: np.asarray(getattr(physics, name)) for name in _PHYSICS}
    found |= outcomes(environment, physics, control, "32")
    with jax.enable_x64(True):
        physics, control = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (physics, control)
        )
        found |= outcomes(envs.make(env), physics, control, "64")
    np.savez_compressed(path, **found)  # pyright: ignore[reportArgumentType]


def read(path: Path) -> tuple[Physics, jax.Array, dict[str, np.ndarray]]:
    """Physics, controls, and everything of a file that `write` made."""
    found = dict(np.load(path, allow_pickle=False))
    return Physics(**{name: found[name] for name in _PHYSICS}), found["control"], found


def outcomes(environment: Any, physics: Physics, control: Any, ending: str) -> dict[str, Any]:
    """Velocities after a physics step, and its Jacobians, of a batch."""
    after, jacobian = jax.jit(jax.vmap(environment._substep_jacobian))(physics, control)
    found = {"velocities": after.qvel, "state": jacobian.state, "control": jacobian.control}
    return {f"{name}_{ending}": np.asarray(value) for name, value in found.items()}


def errors(found: Mapping[str, np.ndarray], ending: str) -> dict[str, np.ndarray]:
    """Largest errors beside float64, of every state, relative to its largest number."""
    made = {}
    for name in ("velocities", "state", "control"):
        true = found[f"{name}_64"].reshape(len(found["control"]), -1)
        wrong = np.abs(found[f"{name}_{ending}"].reshape(true.shape) - true)
        made[name] = wrong.max(1, initial=0.0) / np.abs(true).max(1, initial=1e-12)
    return made


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
