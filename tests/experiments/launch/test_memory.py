"""How much memory is free, within the limits of containers and jobs."""

from types import SimpleNamespace

import pytest

from experiments.launch import memory

GIB = 2**30


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """`(own, files)`: makes `/proc/self/cgroup` and control groups; the machine has 64 GiB."""

    def make(own, files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        (tmp_path / "own").write_text(own)

    available = SimpleNamespace(available=64 * GIB)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: available)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "own")
    return make


NESTED = {
    "slurm/memory.max": 40 * GIB,
    "slurm/memory.current": 2 * GIB,
    "slurm/job/memory.max": 16 * GIB,
    "slurm/job/memory.current": 10 * GIB,
    "slurm/job/step/memory.max": "max",
    "slurm/job/step/memory.current": 10 * GIB,
}


def test_the_tightest_group_around_the_process_counts(cgroups):
    cgroups("0::/slurm/job/step\n", NESTED)
    assert memory.free_memory() == 6 * GIB
    cgroups("0::/slurm\n", {})
    assert memory.free_memory() == 38 * GIB
    cgroups("0::/\n", {})
    assert memory.free_memory() == 64 * GIB


def test_a_cache_that_gives_way_is_free(cgroups):
    stat = f"anon 5\ninactive_file {9 * GIB}\nactive_file 7"
    cgroups("0::/slurm/job\n", NESTED | {"slurm/job/memory.stat": stat})
    assert memory.free_memory() == 15 * GIB


@pytest.mark.parametrize("folder", ["memory/", "memory/docker/1a2b/"])
def test_version_1_and_a_container_that_sees_its_own_group_as_the_outermost(folder, cgroups):
    files = {
        "memory.limit_in_bytes": 8 * GIB,
        "memory.usage_in_bytes": 7 * GIB,
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {2 * GIB}",
    }
    own = "5:cpu,cpuacct:/\n4:memory:/docker/1a2b\n1:name=systemd:/\n0::/\n"
    cgroups(own, {folder + name: text for name, text in files.items()})
    assert memory.free_memory() == 3 * GIB


def test_without_control_groups_all_that_the_machine_has_counts(cgroups, tmp_path):
    cgroups("", {})
    (tmp_path / "own").unlink()
    assert memory.free_memory() == 64 * GIB
