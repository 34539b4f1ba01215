"""What a process may use of a machine, on made-up /proc and /sys trees, and on a real group where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cli import main
from experiments.machine import cores
from experiments.machine.cores import free_memory, num_cores

MIB = 2**20
V2 = "30 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:31 {root} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "_num_usable", lambda: 64)
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_without_groups_it_is_what_the_process_may_run_on(root):
    assert num_cores(root) == 64
    assert free_memory(root) == float("inf")
    write(root, {"proc/meminfo": "MemTotal:  900 kB\nMemAvailable:    512 kB\n"})
    assert free_memory(root) == 512 * 1024


@pytest.mark.parametrize(
    ("quota", "number"),
    [
        ("400000 100000", 4),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("max 100000", 64),
        ("9900000 100000", 64),
        ("", 64),
    ],
)
def test_a_quota_of_version_2(root, quota, number):
    write(root, {"proc/self/cgroup": "0::/user.slice/a b\n", "proc/self/mountinfo": V2})
    write(root, {"sys/fs/cgroup/user.slice/a b/cpu.max": f"{quota}\n"})
    assert num_cores(root) == number


@pytest.mark.parametrize(("quota", "number"), [("400000", 4), ("150000", 1), ("50000", 1), ("-1", 64)])
def test_a_quota_of_version_1(root, quota, number):
    write(
        root, {"proc/self/cgroup": "4:cpu,cpuacct:/job\n2:cpuset:/\n0::/\n", "proc/self/mountinfo": V1.format(root="/")}
    )
    group = "sys/fs/cgroup/cpu,cpuacct/job"
    write(root, {f"{group}/cpu.cfs_quota_us": f"{quota}\n", f"{group}/cpu.cfs_period_us": "100000\n"})
    assert num_cores(root) == number


def test_a_group_above_may_have_less(root):
    write(root, {"proc/self/cgroup": "0::/pod/container/inner\n", "proc/self/mountinfo": V2})
    above = "sys/fs/cgroup/pod"
    write(root, {f"{above}/cpu.max": "300000 100000\n", f"{above}/container/inner/cpu.max": "800000 100000\n"})
    write(root, {f"{above}/memory.max": f"{900 * MIB}\n", f"{above}/memory.current": f"{500 * MIB}\n"})
    write(root, {f"{above}/container/memory.max": "max\n", f"{above}/container/memory.high": f"{700 * MIB}\n"})
    write(root, {f"{above}/container/memory.current": f"{100 * MIB}\n"})
    assert (num_cores(root), free_memory(root)) == (3, 400 * MIB)


@pytest.mark.parametrize(
    ("group", "top"),
    [
        ("/", "/"),  # a namespace of its own
        ("/docker/1f2e", "/docker/1f2e"),  # without one
        ("/docker/1f2e", "/docker"),  # a mount that begins higher up
        ("/../../elsewhere", "/"),  # a process that was moved out of its namespace
        ("/docker/1f2e", "/../.."),
    ],
)
def test_in_a_container_what_is_mounted_counts(root, group, top):
    lines = f"4:cpu,cpuacct:{group}\n5:memory:{group}\n"
    write(root, {"proc/self/cgroup": lines, "proc/self/mountinfo": V1.format(root=top)})
    inside = "/1f2e" if top == "/docker" else ""
    cpu, memory = f"sys/fs/cgroup/cpu,cpuacct{inside}", f"sys/fs/cgroup/memory{inside}"
    write(root, {f"{cpu}/cpu.cfs_quota_us": "200000\n", f"{cpu}/cpu.cfs_period_us": "100000\n"})
    write(
        root, {f"{memory}/memory.limit_in_bytes": f"{800 * MIB}\n", f"{memory}/memory.usage_in_bytes": f"{600 * MIB}\n"}
    )
    write(root, {f"{memory}/memory.stat": f"inactive_file 1\nactive_file 9\ntotal_inactive_file {100 * MIB}\n"})
    write(root, {"proc/meminfo": f"MemAvailable: {2**40} kB\n"})
    assert (num_cores(root), free_memory(root)) == (2, 300 * MIB)


def test_a_mount_with_a_space_in_its_name(root):
    write(root, {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2.replace("/sys/fs/cgroup", "/my\\040groups")})
    write(root, {"my groups/cpu.max": "200000 100000\n"})
    assert num_cores(root) == 2


def test_memory_that_is_used_up_is_none(root):
    write(root, {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2})
    write(root, {"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "4000\n"})
    assert free_memory(root) == 0


@pytest.fixture
def half_a_core():
    """The file that takes a process into a real group with half a core, and into one below it."""
    made: list[Path] = []
    try:
        for name in (f"stn-bench-test-{os.getpid()}", "inner"):
            folder = (made or list(cores._groups("cpu", cores.ROOT)))[0] / name
            folder.mkdir()
            made.insert(0, folder)
        version_1 = made[1] / "cpu.cfs_quota_us"
        version_1.write_text("50000") if version_1.exists() else (made[1] / "cpu.max").write_text("50000 100000")
        yield made[0] / "cgroup.procs"
    except (IndexError, OSError):
        pytest.skip("there is no group here that could be given a quota")
    finally:
        for folder in made:
            folder.rmdir()


@pytest.mark.long
def test_a_real_quota(half_a_core):
    program = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "from experiments.machine.cores import limit_threads, num_cores; limit_threads()\n"
        "import torch; from experiments.sweep.executors.local import default_num_workers\n"
        "print(num_cores(), default_num_workers('cpu'), torch.get_num_threads())"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", program, half_a_core], env=env, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("1 1 1\n", "")


@pytest.mark.parametrize("command", [["speed"], ["accuracy", "images"]], ids=" ".join)
def test_a_bench_without_shared_memory_says_so(command, here, monkeypatch, capsys):
    monkeypatch.setattr(cores, "SHARED_MEMORY", str(here / "shm"))
    assert main([*command, "--quick"]) == 2
    said = f"{command[0]}: {here}/shm, which PyTorch's loaders need, cannot be written; mount one"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert list(here.iterdir()) == []
