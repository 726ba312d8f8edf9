"""A cgroup of its own for each node, on cgroup v1 and v2: kubelets that share one kill each other's pods as orphans."""

import contextlib
import os
import time
from pathlib import Path

from devcluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


def unified(root: Path = ROOT) -> bool:
    """Whether this machine has cgroup v2 only."""
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Where a cgroup has to be made: once on v2, in every controller's tree on v1 (which may be links to each other)."""
    if unified(root):
        return [root]
    return sorted({path.resolve() for path in root.iterdir() if path.is_dir()})


SHARES = 10240
"""CPU weight of a cluster's outermost cgroup on v1, where a single process beside it has 1024: without it the pods of a
busy machine starve, and their probes fail. On v2 it is ten times the default, too."""


def create(name: str, *, root: Path = ROOT) -> None:
    """Make cgroup `name`, a relative path, with all controllers usable below it."""
    for hierarchy in hierarchies(root):
        place = hierarchy
        for part in Path(name).parts:
            if unified(root):
                _delegate(place)
            parent, place = place, place / part
            place.mkdir(exist_ok=True)
            # cgroup v1: a new cpuset is empty, and nothing can run in it
            for file in ("cpuset.mems", "cpuset.cpus"):
                if not unified(root) and (place / file).exists():
                    (place / file).write_text((parent / file).read_text())
        if unified(root):
            _delegate(place)
        first = hierarchy / Path(name).parts[0]
        for file, weight in (("cpu.shares", SHARES), ("cpu.weight", SHARES * 100 // 1024)):
            if (first / file).exists():
                (first / file).write_text(str(weight))


def remove(name: str, *, root: Path = ROOT, timeout: float = 30) -> None:
    """Remove cgroup `name` and all below it, deepest first; the last processes may take a moment to be gone.

    Raises ClusterError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = [
            Path(found) for hierarchy in hierarchies(root) for found, _, _ in os.walk(hierarchy / name, topdown=False)
        ]
        if not left:
            return
        for directory in left:
            with contextlib.suppress(OSError):
                directory.rmdir()
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroup {left[0]} does not go away: {left[0]}/cgroup.procs names what still runs in it")
        time.sleep(0.05)


def _delegate(place: Path) -> None:
    for controller in CONTROLLERS:
        # a controller that is absent, or held by a v1 tree, is not there for anybody
        with contextlib.suppress(OSError):
            (place / "cgroup.subtree_control").write_text(f"+{controller}")
