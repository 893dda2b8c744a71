"""Where a sweep runs when one machine is not enough; see `docs/guides/clusters.md`."""

import re
from dataclasses import dataclass, replace

LOCAL = "local"


@dataclass(frozen=True)
class Machines:
    """A sweep over several machines.

    Attributes:
        part: Trains part I of N of the runs, as I/N from 1/N to N/N; all parts have the same
            --output, on a shared file system. The last one to finish writes the results.
        ray: Trains every shard as a task of a Ray cluster: its address as HOST:PORT, auto for the
            cluster that this machine is part of, local to start one here.
        ray_cpus: Processor cores of each task.
        ray_gpus: GPUs of each task, over which its runs are laid out.
        ray_retries: How often a shard may lose its worker or machine and continue elsewhere.
        distributed: This is one of several processes, started with the same command, each of which
            trains a part of the sweep, coordinated by JAX's own runtime.
        coordinator: HOST:PORT of process 0; not needed on Slurm, Open MPI and TPU pods.
        processes: Number of processes; not needed there either.
        process: Index of this process, from 0; not needed there either.
        join_seconds: How long processes wait for each other at the start.
    """

    part: str = ""
    ray: str = ""
    ray_cpus: int = 1
    ray_gpus: int = 0
    ray_retries: int = 3
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    join_seconds: int = 300

    @property
    def devices(self) -> int:
        """Devices of a shard if `--devices` is left out; 0 for all of a process."""
        return 0 if self.distributed else max(self.ray_gpus, 1)

    def check(self, devices: int | None, folder: bool) -> None:
        """Checks whatever can be checked without connecting to a machine.

        Args:
            devices: The value of `--devices`; None if it is left out.
            folder: Whether the command line names the folder of the sweep.

        Raises:
            ValueError: If the flags cannot work; the message names the fix.
        """
        part = re.fullmatch(r"(\d+)/(\d+)", self.part or "1/1")
        host, _, port = (self.coordinator or "host:1").rpartition(":")
        names = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        given = [flag for flag, value in names.items() if value is not None]
        missing = [flag for flag in names if flag not in given]
        processes, process = 2 if self.processes is None else self.processes, self.process or 0
        for wrong, text in (
            (
                bool(self.part) + bool(self.ray) + self.distributed > 1,
                "--part, --ray and --distributed are different ways to do the same: choose one",
            ),
            (
                part is None or not 1 <= int(part[1]) <= int(part[2]),
                f"--part {self.part} must be I/N with I from 1 to N: 1/8 is the first of eight",
            ),
            (self.part and not folder, "--part needs --output FOLDER, the same for all parts"),
            (
                not self.ray and self != replace(self, ray_cpus=1, ray_gpus=0, ray_retries=3),
                "--ray-cpus, --ray-gpus and --ray-retries need --ray ADDRESS (auto, local, or "
                "HOST:PORT)",
            ),
            (
                "://" in self.ray,
                f"--ray {self.ray} must be auto, local, or HOST:PORT of a cluster that this "
                "machine is part of: the driver and the workers share a file system",
            ),
            (
                self.ray and devices is not None,
                f"--devices {devices} is of this machine; with --ray a task has --ray-gpus devices",
            ),
            (self.ray_cpus < 1, f"--ray-cpus {self.ray_cpus} must be at least 1"),
            (self.ray_gpus < 0, f"--ray-gpus {self.ray_gpus} must be at least 0"),
            (self.ray_retries < 0, f"--ray-retries {self.ray_retries} must be at least 0"),
            (
                not self.distributed and self.join_seconds != Machines.join_seconds,
                "--join-seconds has no effect without --distributed: leave it out",
            ),
            (self.join_seconds < 1, f"--join-seconds {self.join_seconds} must be at least 1"),
            (
                given and missing,
                f"{', '.join(given)} without {' and '.join(missing)}: give all three, or none "
                "where JAX finds out by itself (Slurm, Open MPI, TPU pods)",
            ),
            (
                self.coordinator and not self.distributed,
                "--coordinator, --processes and --process need --distributed",
            ),
            (
                not (host and port.isdigit() and 0 < int(port) < 2**16),
                f"--coordinator {self.coordinator} must be HOST:PORT of process 0, such as "
                "node001:9876",
            ),
            (
                processes < 2,
                f"--processes {processes} must be at least 2; leave --distributed out for one",
            ),
            (
                not 0 <= process < processes,
                f"--process {process} must be from 0 to {processes - 1}: there are --processes "
                f"{processes}",
            ),
        ):
            if wrong:
                raise ValueError(text)
