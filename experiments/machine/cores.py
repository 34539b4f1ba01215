"""What this process may use of its machine: cores, memory, and shared memory.

A container sees all cores and all memory of its host; what it may use of them is in the files of its control groups,
its own and those above it, of version 1 and 2. root: where all paths begin.
"""

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
SHARED_MEMORY = "/dev/shm"
_GROUP = re.compile(r"^\d+:(.*?):(.*)$", re.MULTILINE)
_MOUNT = re.compile(r"^\d+ \d+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$", re.MULTILINE)


def num_cores(root: Path = ROOT) -> int:
    """Cores that can be kept busy: those that this process may run on, and no more than its groups have time for.

    At least 1. A core and a half is one: what is left over is for the supervisor and for W&B's process, which a second
    worker would have stopped again and again, all processes of the group together.
    """
    return max(1, math.floor(min([_num_usable(), *map(_quota, _groups("cpu", root))])))


def limit_threads() -> None:
    """Have libraries that are imported later start no more threads than a quota has time for, which they do not see."""
    if num_cores() < _num_usable():
        os.environ.setdefault("OMP_NUM_THREADS", str(num_cores()))


def free_memory(root: Path = ROOT) -> float:
    """Bytes that this process and those it starts may still take; infinite where the system does not say."""
    available = re.search(r"^MemAvailable: +(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    free = [1024 * int(available[1])] if available else []
    return max(0, min([*free, *map(_left, _groups("memory", root))], default=math.inf))


def lacks_shared_memory() -> bool:
    """Whether Linux's folder for it is missing or cannot be written, as in some containers. Other systems need none."""
    return sys.platform == "linux" and not os.access(SHARED_MEMORY, os.W_OK | os.X_OK)


def _num_usable() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the groups that this process is in, as far up as they are mounted."""
    inside = {
        name: PurePosixPath(path)
        for names, path in _GROUP.findall(_text(root / "proc/self/cgroup"))
        for name in names.split(",")  # none is version 2
    }
    for top, mounted, kind, options in _MOUNT.findall(_text(root / "proc/self/mountinfo")):
        path = inside.get("" if kind == "cgroup2" else controller)
        if path is None or (kind == "cgroup" and controller not in options.split(",")):
            continue
        mount = root / re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), mounted).lstrip("/")
        # A namespace of its own may have a mount that is not of this path: what is mounted is nearest.
        known = path.is_relative_to(top) and ".." not in path.parts
        group = mount / path.relative_to(top) if known else mount
        yield group
        while group != mount:
            group = group.parent
            yield group


def _quota(group: Path) -> float:
    """Cores that the group has time for."""
    version_1 = f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    numbers = re.fullmatch(r"(\d+)\s+([1-9]\d*)\s*", _text(group / "cpu.max") or version_1)
    return int(numbers[1]) / int(numbers[2]) if numbers else math.inf  # "max", or -1: all of them


def _left(group: Path) -> float:
    """Bytes between what the group uses and its limit. Files that were read give way, and count as free."""
    limits = (_text(group / name).strip() for name in ("memory.max", "memory.high", "memory.limit_in_bytes"))
    limit = min((int(text) for text in limits if text.isdigit()), default=math.inf)
    used = _text(group / "memory.current") or _text(group / "memory.usage_in_bytes") or "0"
    files = re.findall(r"^(?:total_)?inactive_file (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    return limit - int(used) + max(map(int, files), default=0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
