"""How the runs of a program are laid out over the devices of this machine."""

import os
from dataclasses import dataclass
from typing import Literal

import jax
from jax.sharding import Mesh

from sobolax.training.sharding import make_mesh

#: What `--devices` takes.
Devices = int | Literal["all"] | None


@dataclass(frozen=True)
class Layout:
    """Devices of a program: each has whole runs, or all share a single one.

    Attributes:
        runs: Devices over which runs are laid out.
        mesh: Devices over which the only run is split; None where runs stay whole.
    """

    runs: int
    mesh: Mesh | None

    @property
    def devices(self) -> int:
        """Devices in use."""
        return self.runs if self.mesh is None else self.mesh.size


ONE_DEVICE = Layout(1, None)


def lay_out(devices: Devices, runs: int) -> Layout:
    """Chooses what devices share: several runs stay whole, a single one is split.

    Args:
        devices: How many; "all" for as many as there are and runs can use; None for those of a
            processor that whole runs can use, and one accelerator.
        runs: Runs of the program.

    Raises:
        ValueError: If there are fewer devices, or several runs, but fewer than devices.
    """
    if devices is None:
        return Layout(processor_devices(runs), None)
    if devices == "all":
        present = jax.local_device_count()
        devices = present if runs <= 1 else min(present, runs)
    mesh = make_mesh(devices, what="--devices ")
    if devices == 1 or runs >= devices:
        return Layout(devices, None)
    if runs > 1:
        raise ValueError(
            f"--devices {devices} is more than the {runs} runs, variants times seeds, and several "
            f"runs stay whole: say --devices {runs} or fewer, or train a single run, which all "
            "devices share (--seeds 1 --no-compare)"
        )
    return Layout(1, mesh)


def split_processor() -> None:
    """Makes a device of every processor core, over which `lay_out` lays out runs.

    A program of many runs keeps one core and a third busy: its operations are small, and wait for
    each other. Call this before JAX initialises its devices; a device count in `XLA_FLAGS` takes
    precedence.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def flags_to_compile_quickly() -> str:
    """For `XLA_FLAGS`: a CPU's programs compile in a third of the time, and run slowly.

    XLA ends a process that names a flag it does not know: from jaxlib 0.11 on the emitters' is one,
    and the other is not tried there. A program in one part instead of 32 saves a seventh.
    """
    quickly = "--xla_backend_optimization_level=0"
    if jax.__version_info__ >= (0, 11):
        return quickly
    return f"{quickly} --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def processor_devices(runs: int) -> int:
    """Devices to lay runs out over: as few as finish equally soon; 1 on accelerators."""
    if jax.default_backend() != "cpu" or runs < 1:
        return 1
    each = -(-runs // jax.local_device_count())
    return -(-runs // each)


def mesh_of_runs(devices: int) -> Mesh:
    """The first devices of this machine, in a row, for whole runs.

    Raises:
        ValueError: If there are fewer.
    """
    return make_mesh(devices, "runs", "--devices ")
