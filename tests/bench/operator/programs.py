"""Builds the two Go programs once, kept under a hash of their sources, and an environment that holds what the operator's image holds,
on a Python that is compiled as the image's is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from devcluster import tools
from devcluster.go_build import ENVIRONMENT
from devcluster.locks import only_one
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, Settings

SOURCES = Path(__file__).parent / "programs"
NAMES = ("limit", "baseline")
OPERATOR_ENVIRONMENT = REPOSITORY / ".venv-operator"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where the built programs are."""

    limit: Path
    baseline: Path


def built(settings: Settings, *, progress: Progress) -> Programs:
    """The Go programs, from the cache or freshly built (a minute). Raises CalledProcessError when the build fails."""
    digest = hashlib.sha256(f"{ENVIRONMENT}\n".encode())
    for path in sorted([*SOURCES.rglob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    root = settings.cache / "bench"
    place = root / digest.hexdigest()[:16]
    found = Programs(limit=place / "limit", baseline=place / "baseline")
    with only_one(root / "build.lock", waiting=lambda: progress.step("another build is running: waiting for it")):
        if not (found.limit.exists() and found.baseline.exists()):
            progress.step("building the limit client and the baseline operator, once: about a minute")
            unfinished = root / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            go = tools.go(settings, progress=progress)
            command = [str(go), "build", "-trimpath", "-ldflags=-s -w", "-o", f"{unfinished}/"]
            subprocess.run(
                [*command, *(f"./{name}" for name in NAMES)], cwd=SOURCES, env={**os.environ, **ENVIRONMENT}, check=True
            )
            for old in root.iterdir():
                if old.is_dir() and old != unfinished:
                    shutil.rmtree(old)
            unfinished.rename(place)
    return found


SYSTEM_PYTHON = Path("/usr/bin/python3")


def python(*, configured: str, running: Path, system: Path = SYSTEM_PYTHON) -> Path:
    """Return the Python to measure the operator on: ``running``, configured with these arguments, or the distribution's.

    That of the image is compiled with profile-guided optimisation, and so are distributions' own. One that pyenv built by its
    defaults is not, and takes a third more time for the same.
    """
    if "--enable-optimizations" in configured or not system.exists():
        return running
    is_new_enough = subprocess.run([str(system), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False)
    return system if is_new_enough.returncode == 0 else running


def version(program: Path) -> str:
    """Return the version of the Python of an environment's entry point."""
    command = [str(program.with_name("python")), "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def operator_program(settings: Settings, *, progress: Progress) -> Path:
    """The operator's entry point in an environment with its own dependencies alone, as in its image.

    The environment of the tests would not do: kopf imports the package `kubernetes` where it finds it, 20 MB that no image has.
    """
    command = [
        str(tools.uv(settings, progress=progress)),
        "sync",
        "--quiet",
        "--frozen",
        "--no-dev",
        "--compile-bytecode",
    ]
    command += ["--package", "agentservice-operator", "--extra", "process"]
    chosen = python(configured=sysconfig.get_config_var("CONFIG_ARGS") or "", running=Path(sys.executable))
    command += ["--python", str(chosen)]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["UV_PROJECT_ENVIRONMENT"] = str(OPERATOR_ENVIRONMENT)
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
    return OPERATOR_ENVIRONMENT / "bin" / "agentservice-operator"
