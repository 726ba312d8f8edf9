"""Prometheus, and promtool, which judges its rules: found on this machine, or taken out of Debian's package without installing it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import Settings

PACKAGE = "prometheus"
PROGRAMS = ("promtool", "prometheus")


def promtool(settings: Settings, *, progress: Progress) -> Path:
    """The program that judges rules. Raises ClusterError with the command to run where it cannot be had."""
    return _program("promtool", settings, progress=progress)


def prometheus(settings: Settings, *, progress: Progress) -> Path:
    """Prometheus itself. Raises ClusterError with the command to run where it cannot be had."""
    return _program("prometheus", settings, progress=progress)


def _program(name: str, settings: Settings, *, progress: Progress) -> Path:
    found = shutil.which(name)
    if found:
        return Path(found)
    program = settings.cache / "tools" / name
    if not program.exists():
        if not shutil.which("apt-get"):
            raise ClusterError(f"{name} is missing here: install Prometheus, which brings it, and try again")
        progress.step(f"taking {' and '.join(PROGRAMS)} out of Debian's package {PACKAGE}")
        _extract(program.parent)
    return program


def _extract(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        if os.geteuid() == 0:
            Path(directory).chmod(0o755)  # apt downloads as a user of its own
            _run(["apt-get", "-q", "update"], directory)
        _run(["apt-get", "-q", "download", PACKAGE], directory)
        (package,) = Path(directory).glob(f"{PACKAGE}_*.deb")
        _run(["dpkg-deb", "--extract", package.name, "content"], directory)
        for name in PROGRAMS:
            (Path(directory) / "content" / "usr" / "bin" / name).rename(folder / name)


def _run(command: list[str], directory: str) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise ClusterError(f"{' '.join(command[:3])} failed; try: apt-get install {PACKAGE}\n{last}")
