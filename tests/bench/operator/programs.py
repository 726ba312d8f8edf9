"""Builds the two Go programs once, kept under a hash of their sources, and an environment that holds what the operator's image holds."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
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
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["UV_PROJECT_ENVIRONMENT"] = str(OPERATOR_ENVIRONMENT)
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
    return OPERATOR_ENVIRONMENT / "bin" / "agentservice-operator"
