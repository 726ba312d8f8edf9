"""Decides what runs the stack's containers: docker with its compose where an engine runs, else podman with podman-compose.

podman runs beside whatever else this machine has: a store of its own, whose images are those that buildah has built. Where a
container may not raise its limits (as root inside of a container) it inherits ours.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devcluster import builder, packages
from devcluster.builder import Buildah
from devcluster.errors import ClusterError
from devcluster.locks import only_one
from devcluster.progress import Progress
from devcluster.settings import Settings

RUN = Path("/run/agentservice-compose")
"""What does not outlive a restart of the machine, by which podman notices it."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The two commands, and the variables that they need."""

    program: str
    compose: tuple[str, ...]
    environment: dict[str, str]


def choose(settings: Settings, *, progress: Progress) -> Engine:
    """Return what runs containers here. Raises ClusterError that says what is missing."""
    maker = builder.choose(cache=settings.cache)
    if isinstance(maker, Buildah):
        with only_one(settings.cache / "packages.lock", waiting=lambda: None):
            packages.ensure(packages.CONTAINERS, progress=progress)
        return _podman(maker, place=settings.cache / "podman")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        raise ClusterError("docker has no `compose` here: install its plugin (docker-compose-plugin)")
    return Engine(program="docker", compose=("docker", "compose"), environment={})


def _podman(maker: Buildah, *, place: Path) -> Engine:
    for folder in (place / "images", place / "networks", RUN):
        folder.mkdir(parents=True, exist_ok=True)
    containers, storage = place / "containers.conf", place / "storage.conf"
    containers.write_text(
        f"""[containers]
default_ulimits = [{_limits()}]
[network]
network_backend = "netavark"
network_config_dir = "{place}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{RUN}/libpod"
"""
    )
    storage.write_text(
        f"""[storage]
driver = "{maker.driver}"
graphroot = "{place}/images"
runroot = "{RUN}/storage"
[storage.options]
additionalimagestores = ["{maker.images}"]
"""
    )
    return Engine(
        program="podman",
        compose=(str(Path(sys.executable).parent / "podman-compose"),),
        environment={
            "CONTAINERS_CONF": str(containers),
            "CONTAINERS_STORAGE_CONF": str(storage),
            # without systemd nobody would run the checks of health, and a container that has one would not start
            "DISABLE_HC_SYSTEMD": "true",
        },
    )


def _limits() -> str:
    """Our own, and of processes no more than they can have numbers: podman lowers its own to that on the way."""
    files, processes = (resource.getrlimit(number)[1] for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    numbers = int(Path("/proc/sys/kernel/pid_max").read_text())
    processes = numbers if processes == resource.RLIM_INFINITY else min(processes, numbers)
    return f'"nofile={files}:{files}", "nproc={processes}:{processes}"'


def variables(engine: Engine) -> dict[str, str]:
    """The environment of both commands."""
    return {**os.environ, **engine.environment}
