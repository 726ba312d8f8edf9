"""One interface to any cluster, and which one it is: the caller's own, kind where docker runs, else ours."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from devcluster import components
from devcluster.builder import docker_answers
from devcluster.errors import ClusterError
from devcluster.image_store import Archive
from devcluster.kind import KindCluster
from devcluster.namespaces import run
from devcluster.native import NativeCluster
from devcluster.progress import Progress
from devcluster.settings import Provider, Settings


class Cluster(Protocol):
    """What the commands, the demo and the tests need of a cluster."""

    name: str

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def services_reachable(self) -> bool:
        """Whether this machine reaches Service addresses; else through `kubectl port-forward`."""
        ...

    def kubectl(self) -> Path: ...

    def helm(self) -> Path: ...

    def up(self, *, nodes: int = 1, images: Sequence[Archive] = (), wait_for_metrics: bool = True) -> None: ...

    def down(self) -> None: ...

    def status(self) -> str: ...

    def load_images(self, archives: Sequence[Archive]) -> None: ...

    def logs(self, component: str | None) -> list[Path]: ...

    def image_name(self, name: str) -> str:
        """What pods call an image that is built as `localhost/NAME:TAG`."""
        ...


class CallerCluster:
    """The cluster of AGENTSERVICE_KUBECONFIG. We never create or remove it, and images reach it through a registry only."""

    def __init__(self, *, settings: Settings, kubeconfig: Path, progress: Progress) -> None:
        self.name = "caller"
        self.kubeconfig = kubeconfig
        self._settings = settings
        self._progress = progress

    @property
    def services_reachable(self) -> bool:
        return False

    def kubectl(self) -> Path:
        return program("kubectl", self._settings, progress=self._progress)

    def helm(self) -> Path:
        return program("helm", self._settings, progress=self._progress)

    def up(self, *, nodes: int = 1, images: Sequence[Archive] = (), wait_for_metrics: bool = True) -> None:
        """See that it answers, and say which one it is. Raises ClusterError when it does not."""
        del nodes, wait_for_metrics
        view = run([str(self.kubectl()), f"--kubeconfig={self.kubeconfig}", "config", "view", "--minify", "-o", "json"])
        server = json.loads(view)["clusters"][0]["cluster"]["server"]
        run(
            [str(self.kubectl()), f"--kubeconfig={self.kubeconfig}", "--request-timeout=10s", "get", "--raw", "/readyz"]
        )
        self._progress.step(f"using your cluster at {server} (AGENTSERVICE_KUBECONFIG)")
        if images:
            self.load_images(images)

    def down(self) -> None:
        self._progress.step("this cluster is yours (AGENTSERVICE_KUBECONFIG): it is left as it is")

    def status(self) -> str:
        return f"your cluster, from {self.kubeconfig}"

    def load_images(self, archives: Sequence[Archive]) -> None:
        del archives
        if not self._settings.image_registry:
            raise ClusterError(
                "your cluster pulls its images: set AGENTSERVICE_IMAGE_REGISTRY to a registry that you may push to and it may pull from"
            )

    def logs(self, component: str | None) -> list[Path]:
        del component
        raise ClusterError("the logs of your cluster's components are not ours to read")

    def image_name(self, name: str) -> str:
        return f"{self._settings.image_registry}/{name.removeprefix('localhost/')}"


def choose(settings: Settings, *, name: str, progress: Progress) -> Cluster:
    """The cluster that all commands act on."""
    provider = settings.provider or (Provider.KIND if docker_answers() else Provider.NATIVE)
    if provider is Provider.CALLER and settings.kubeconfig is not None:
        return CallerCluster(settings=settings, kubeconfig=settings.kubeconfig, progress=progress)
    if provider is Provider.KIND:
        return KindCluster(
            settings=settings,
            name=name,
            progress=progress,
            program=lambda wanted: program(wanted, settings, progress=progress),
        )
    return NativeCluster(settings=settings, name=name, progress=progress)


def program(name: str, settings: Settings, *, progress: Progress) -> Path:
    """kubectl or helm: this machine's, else the one of our own build."""
    found = shutil.which(name)
    if found and subprocess.run([found, "version", "--client"], capture_output=True, check=False).returncode == 0:
        return Path(found)
    return components.built(settings, progress=progress).directory / name
