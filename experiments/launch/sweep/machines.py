"""Where a sweep runs when one machine is not enough; see `docs/guides/clusters.md`."""

from dataclasses import dataclass, replace

LOCAL = "local"


@dataclass(frozen=True)
class Machines:
    """Several machines.

    Attributes:
        ray: Trains every shard as a task of a Ray cluster: its address as HOST:PORT, auto for the
            cluster that this machine is part of, local to start one here.
        ray_cpus: Processor cores of each task.
        ray_gpus: GPUs of each task, over which its members are laid out.
        ray_retries: How often a shard may lose its worker, or its machine, and go on elsewhere.
        distributed: This is one of several processes that were started with the same command and
            train a part of the sweep each, by JAX's own runtime.
        coordinator: HOST:PORT of process 0; not needed on Slurm, Open MPI and TPU pods.
        processes: How many processes there are; the same.
        process: Which one this is, from 0; the same.
        join_seconds: How long processes wait for each other at the start.
    """

    ray: str | None = None
    ray_cpus: int = 1
    ray_gpus: int = 0
    ray_retries: int = 3
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    join_seconds: int = 300

    @property
    def several(self) -> bool:
        """Whether it is more than this process that trains."""
        return self.distributed or self.ray is not None

    @property
    def named(self) -> bool:
        """Whether it is said who the processes are; JAX has to find out otherwise."""
        return self.coordinator is not None

    @property
    def devices(self) -> int:
        """Devices of a shard, where `--devices` does not say; 0 for all of a process."""
        return 0 if self.distributed else max(self.ray_gpus, 1)

    def check(self, devices: int | None) -> None:
        """Checks what needs no look at a machine.

        Args:
            devices: What `--devices` says; None for nothing.

        Raises:
            ValueError: Saying what is wrong and what to do instead.
        """
        if self.ray is not None:
            self._check_ray(devices)
        elif self != replace(self, ray_cpus=1, ray_gpus=0, ray_retries=3):
            raise ValueError(
                "--ray-cpus, --ray-gpus and --ray-retries need --ray ADDRESS (auto, local, or "
                "HOST:PORT)"
            )
        self._check_processes()

    def _check_ray(self, devices: int | None) -> None:
        if self.distributed:
            raise ValueError("--ray and --distributed are two ways to do the same: choose one")
        if self.ray == "" or "://" in str(self.ray):
            raise ValueError(
                f"--ray {self.ray} must be auto, local, or HOST:PORT of a cluster that this "
                "machine is part of: the driver and the workers share a file system"
            )
        if devices is not None:
            raise ValueError(
                f"--devices {devices} is of this machine; with --ray a task has --ray-gpus devices"
            )
        if self.ray_cpus < 1:
            raise ValueError(f"--ray-cpus {self.ray_cpus} must be at least 1")
        if self.ray_gpus < 0:
            raise ValueError(f"--ray-gpus {self.ray_gpus} must be 0 (the processor) or more")
        if self.ray_retries < 0:
            raise ValueError(f"--ray-retries {self.ray_retries} must be 0 or more")

    def _check_processes(self) -> None:
        said = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        missing = [flag for flag, value in said.items() if value is None]
        if missing and len(missing) < len(said):
            raise ValueError(
                f"{', '.join(flag for flag in said if flag not in missing)} without "
                f"{' and '.join(missing)}: say all three, or none where JAX finds out by itself "
                "(Slurm, Open MPI, TPU pods)"
            )
        if self.named and not self.distributed:
            raise ValueError("--coordinator, --processes and --process need --distributed")
        if self.join_seconds < 1:
            raise ValueError(f"--join-seconds {self.join_seconds} must be at least 1")
        if not self.named:
            return
        assert self.coordinator is not None
        assert self.processes is not None
        assert self.process is not None
        host, colon, port = self.coordinator.rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError(
                f"--coordinator {self.coordinator} must be HOST:PORT of process 0, such as "
                "node001:9876"
            )
        if self.processes < 2:
            raise ValueError(
                f"--processes {self.processes} must be at least 2; leave --distributed out for one"
            )
        if not 0 <= self.process < self.processes:
            raise ValueError(
                f"--process {self.process} must be from 0 to {self.processes - 1}: there are "
                f"--processes {self.processes}"
            )
