"""The one Go binary that is all of Kubernetes (and Helm): built once, kept under a hash of everything that went into it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devcluster import go_build, tools
from devcluster.errors import ClusterError
from devcluster.go_build import STRIPPED, Module
from devcluster.locks import only_one
from devcluster.progress import Progress
from devcluster.settings import COMPONENTS, Settings

MAIN_PACKAGE = "agentservice.dev/devcluster"
LINKS = ("kubectl", "helm")


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


def module(sources: Path = COMPONENTS) -> Module:
    """How they are built. Raises ClusterError when go.mod names no Kubernetes."""
    return Module(
        title="Kubernetes",
        sources=sources,
        packages=(".",),
        last=MAIN_PACKAGE,
        usual_packages=3270,
        usual_minutes=8,
        linker=(*STRIPPED, *stamps((sources / "go.mod").read_text())),
    )


def stamps(go_mod: str) -> list[str]:
    """What gives the binaries the version of Kubernetes that go.mod names.

    Without it nodes report `v0.0.0-master+$Format:%H$`. Raises ClusterError when go.mod names none.
    """
    found = re.search(r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", go_mod, re.MULTILINE)
    if not found:
        raise ClusterError("go.mod does not require k8s.io/kubernetes")
    settings = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3]}
    return [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in settings.items()
    ]


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
    another = "another build is running: waiting for it"
    with only_one(go_build.lock(settings.cache), waiting=lambda: progress.step(another)):
        if not components.complete():
            _build(go, components, progress=progress)
    return components


def _place(settings: Settings, *, go: Path) -> Components:
    return Components(directory=module().place(settings.cache / "bin", go=go))


def _build(go: Path, components: Components, *, progress: Progress) -> None:
    directory = go_build.unfinished(components.directory)
    go_build.build(go, module(), output=directory / "devcluster", progress=progress)
    pause = [str(go), "build", *module().flags, "-o", str(directory / "pause"), "./pause"]
    subprocess.run(pause, cwd=COMPONENTS, env=go_build.environment(), check=True)
    for link in LINKS:
        (directory / link).symlink_to("devcluster")
    go_build.finish(directory, components.directory)
    progress.step("Kubernetes is built")
