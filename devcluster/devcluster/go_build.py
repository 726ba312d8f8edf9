"""A Go module's programs: built once, kept under a hash of everything that went into them, with progress that a person can watch."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import ClusterError
from devcluster.progress import Moving, Progress

ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
"""Changing one of these, or -trimpath, compiles everything again."""
STRIPPED = ("-s", "-w")
KEEP = 3


@dataclass(frozen=True, kw_only=True)
class Module:
    """What is built of a module, and how."""

    title: str
    """What a waiting person reads."""
    sources: Path
    """The directory with its go.mod and go.sum."""
    packages: tuple[str, ...]
    last: str
    """The package after which only linking is left."""
    usual_packages: int
    """How many packages the build compiles, until `go list` has counted them."""
    usual_minutes: int
    """On 2 cores, the first time."""
    linker: tuple[str, ...] = STRIPPED

    @property
    def flags(self) -> list[str]:
        return ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(self.linker)]

    def key(self, *, go_version: str) -> str:
        """A hash of the sources, the locked dependencies, the flags and the Go version."""
        digest = hashlib.sha256(f"{go_version}\n{self.flags}\n{ENVIRONMENT}\n".encode())
        for path in sorted([*self.sources.rglob("*.go"), self.sources / "go.mod", self.sources / "go.sum"]):
            digest.update(f"{path.relative_to(self.sources)}\n".encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    def place(self, directory: Path, *, go: Path) -> Path:
        """Where below a directory the programs lie that this Go makes of it."""
        go_version = subprocess.run(
            [str(go), "version"], capture_output=True, text=True, check=True, env=environment()
        ).stdout
        return directory / self.key(go_version=go_version)


def lock(cache: Path) -> Path:
    """Held while anything large is compiled."""
    return cache / "bin" / "build.lock"


def environment() -> dict[str, str]:
    """What the compiler is told."""
    return {**os.environ, **ENVIRONMENT}


def build(go: Path, module: Module, *, output: Path, progress: Progress) -> None:
    """Build the packages into `output`: a file of one package, a directory of many. Raises ClusterError with the compiler's words."""
    progress.step(f"building {module.title} from its Go modules, once: about {module.usual_minutes} minutes on 2 cores")
    download = subprocess.run(
        [str(go), "mod", "download"],
        cwd=module.sources,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if download.returncode != 0:
        raise ClusterError(f"go mod download failed:\n{download.stderr.strip()}")
    listed = subprocess.run(
        [str(go), "list", "-deps", *module.packages],
        cwd=module.sources,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    total = len(listed.stdout.splitlines()) if listed.returncode == 0 else module.usual_packages
    progress.step("modules are here, compiling")
    # the kernel ends the compiler with us: two builds at once are too much for a small machine
    command = ["setpriv", "--pdeathsig", "TERM", str(go), "build", "-v", *module.flags, "-o", str(output)]
    with subprocess.Popen(
        [*command, *module.packages], cwd=module.sources, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        if process.stderr is None:
            raise AssertionError("a pipe was asked for")
        with _killed_with(process):
            trouble = follow(process.stderr, title=module.title, last=module.last, total=total, progress=progress)
    if process.returncode != 0:
        raise ClusterError("the build failed:\n" + "\n".join(trouble[-20:]))


def follow(lines: Iterable[str], *, title: str, last: str, total: int, progress: Progress) -> list[str]:
    """Count what `go build -v` names, one package a line, and return the lines that are none (its errors)."""
    count = 0
    trouble: list[str] = []
    with Moving(progress, f"building {title}: compiling") as moving:
        for line in lines:
            if not is_package(line):
                trouble.append(line.rstrip())
                continue
            count += 1
            is_last = line.strip() == last
            moving.show(
                f"building {title}: linking" if is_last else f"building {title}: {count:,} of ~{total:,} packages"
            )
    return trouble


def is_package(line: str) -> bool:
    """Whether a line of `go build -v` is an import path, not an error or a `# package` heading."""
    return re.fullmatch(r"[\w.~-]+(/[\w.~@-]+)*\s*", line) is not None


def unfinished(place: Path) -> Path:
    """An empty directory beside `place` to build in: what was cut short is never taken for finished."""
    directory = place.with_name("unfinished")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def finish(directory: Path, place: Path) -> None:
    """Put what was built in its place. Old builds go, more than 100 MB each; a few stay for people who switch branches."""
    shutil.rmtree(place, ignore_errors=True)
    directory.rename(place)
    builds = sorted(
        (path for path in place.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for old in builds[KEEP:]:
        if old != place:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _killed_with(process: subprocess.Popen[str]) -> Generator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise
