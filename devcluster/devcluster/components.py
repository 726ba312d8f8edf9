"""The one Go binary that is all of Kubernetes (and Helm): built once, kept under a hash of everything that went into it."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import tools
from devcluster.errors import ClusterError
from devcluster.locks import only_one
from devcluster.progress import Moving, Progress
from devcluster.settings import COMPONENTS, Settings

USUAL_PACKAGES = 3270
"""How many packages the build compiles, until `go list` has counted them."""
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
"""Changing one of these, or -trimpath, compiles everything again."""
MAIN_PACKAGE = "agentservice.dev/devcluster"
LINKS = ("kubectl", "helm")
KEEP = 3


@dataclass(frozen=True, kw_only=True)
class Components:
    """The built programs."""

    directory: Path

    @property
    def binary(self) -> Path:
        """The multi-call program; `kubectl` and `helm` beside it are links to it."""
        return self.directory / "devcluster"

    @property
    def pause(self) -> Path:
        """The first process of a node and of every pod."""
        return self.directory / "pause"

    def complete(self) -> bool:
        return all(path.exists() for path in (self.binary, self.pause, *(self.directory / link for link in LINKS)))


def flags(go_mod: str) -> list[str]:
    """Build flags that give the binaries the version of Kubernetes that go.mod names.

    Without them nodes report `v0.0.0-master+$Format:%H$`. Raises ClusterError when go.mod names none.
    """
    found = re.search(r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", go_mod, re.MULTILINE)
    if not found:
        raise ClusterError("go.mod does not require k8s.io/kubernetes")
    settings = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3]}
    stamped = [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in settings.items()
    ]
    return ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(["-s", "-w", *stamped])]


def key(*, sources: Path, go_version: str) -> str:
    """A hash of the sources, the locked dependencies, the flags and the Go version."""
    digest = hashlib.sha256(f"{go_version}\n{flags((sources / 'go.mod').read_text())}\n{ENVIRONMENT}\n".encode())
    for path in sorted([*sources.rglob("*.go"), sources / "go.mod", sources / "go.sum"]):
        digest.update(f"{path.relative_to(sources)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def cached(settings: Settings, *, progress: Progress) -> Components | None:
    """The programs, when these sources have been built before with the Go that is here."""
    components = _place(settings, go=tools.go(settings, progress=progress))
    return components if components.complete() else None


def built(settings: Settings, *, progress: Progress) -> Components:
    """The programs, from the cache or freshly built. Raises ClusterError when the build fails."""
    go = tools.go(settings, progress=progress)
    components = _place(settings, go=go)
    if components.complete():
        return components
    with only_one(
        settings.cache / "bin" / "build.lock", waiting=lambda: progress.step("another build is running: waiting for it")
    ):
        if not components.complete():
            _build(go, components, progress=progress)
            _prune(settings.cache / "bin", keep=components.directory)
    return components


def _place(settings: Settings, *, go: Path) -> Components:
    environment = {**os.environ, **ENVIRONMENT}
    go_version = subprocess.run(
        [str(go), "version"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    return Components(directory=settings.cache / "bin" / key(sources=COMPONENTS, go_version=go_version))


def _build(go: Path, components: Components, *, progress: Progress) -> None:
    environment = {**os.environ, **ENVIRONMENT}
    unfinished = components.directory.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    progress.step("building Kubernetes from its Go modules, once: about 8 minutes on 2 cores")
    download = subprocess.run(
        [str(go), "mod", "download"], cwd=COMPONENTS, env=environment, capture_output=True, text=True, check=False
    )
    if download.returncode != 0:
        raise ClusterError(f"go mod download failed:\n{download.stderr.strip()}")
    progress.step("modules are here, compiling")
    listed = subprocess.run(
        [str(go), "list", "-deps", "."], cwd=COMPONENTS, env=environment, capture_output=True, text=True, check=False
    )
    total = len(listed.stdout.splitlines()) if listed.returncode == 0 else USUAL_PACKAGES
    build_flags = flags((COMPONENTS / "go.mod").read_text())
    # the kernel ends the compiler with us: two builds at once are too much for a small machine
    command = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        str(go),
        "build",
        "-v",
        *build_flags,
        "-o",
        str(unfinished / "devcluster"),
        ".",
    ]
    with subprocess.Popen(command, cwd=COMPONENTS, env=environment, stderr=subprocess.PIPE, text=True) as process:
        if process.stderr is None:
            raise AssertionError("a pipe was asked for")
        with _killed_with(process):
            trouble = follow(process.stderr, total=total, progress=progress)
    if process.returncode != 0:
        raise ClusterError("the build failed:\n" + "\n".join(trouble[-20:]))
    pause = [str(go), "build", *build_flags, "-o", str(unfinished / "pause"), "./pause"]
    subprocess.run(pause, cwd=COMPONENTS, env=environment, check=True)
    for link in LINKS:
        (unfinished / link).symlink_to("devcluster")
    shutil.rmtree(components.directory, ignore_errors=True)
    unfinished.rename(components.directory)
    progress.step("Kubernetes is built")


def follow(lines: Iterable[str], *, total: int, progress: Progress) -> list[str]:
    """Count what `go build -v` names, one package a line, and return the lines that are none (its errors)."""
    count = 0
    trouble: list[str] = []
    with Moving(progress, "building Kubernetes: compiling") as moving:
        for line in lines:
            if not is_package(line):
                trouble.append(line.rstrip())
                continue
            count += 1
            last = line.strip() == MAIN_PACKAGE
            moving.show(
                "building Kubernetes: linking" if last else f"building Kubernetes: {count:,} of ~{total:,} packages"
            )
    return trouble


def is_package(line: str) -> bool:
    """Whether a line of `go build -v` is an import path, not an error or a `# package` heading."""
    return re.fullmatch(r"[\w.~-]+(/[\w.~@-]+)*\s*", line) is not None


@contextmanager
def _killed_with(process: subprocess.Popen[str]) -> Generator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise


def _prune(directory: Path, *, keep: Path) -> None:
    """Old builds go, 165 MB each; the most recent few stay for people who switch branches."""
    builds = sorted(
        (path for path in directory.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for old in builds[KEEP:]:
        if old != keep:
            shutil.rmtree(old, ignore_errors=True)
