"""kind behind the same interface, for machines with a docker engine.

Thin on purpose: kind does the work. Differences that stay visible: Services are reached by port-forward only, there is no
metrics-server, and Kubernetes has the version of kind's node image.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from devcluster import tools
from devcluster.errors import ClusterError
from devcluster.image_store import Archive
from devcluster.namespaces import run
from devcluster.progress import Moving, Progress
from devcluster.settings import Settings

KIND = "v0.33.0"


def configuration(nodes: int) -> str:
    """kind's configuration file: one control plane, the rest workers."""
    roles = ["control-plane", *["worker"] * (nodes - 1)]
    return json.dumps(
        {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [{"role": role} for role in roles]}
    )


class KindCluster:
    """One named kind cluster."""

    def __init__(self, *, settings: Settings, name: str, progress: Progress, program: Callable[[str], Path]) -> None:
        self.name = name
        self._settings = settings
        self._progress = progress
        self._program = program
        self._run = settings.run(f"kind-{name}")

    @property
    def kubeconfig(self) -> Path:
        return self._run / "admin.conf"

    @property
    def services_reachable(self) -> bool:
        return False

    def kubectl(self) -> Path:
        return self._program("kubectl")

    def helm(self) -> Path:
        return self._program("helm")

    def up(self, *, nodes: int = 1, images: Sequence[Archive] = (), wait_for_metrics: bool = True) -> None:
        """Create it, or use it when it exists; one that was cut short in between is removed first."""
        del wait_for_metrics
        complete = self._run / "complete"
        if self._exists() and not complete.exists():
            self._kind("delete", "cluster", "--name", self._full)
        if not self._exists():
            self._run.mkdir(parents=True, exist_ok=True)
            (self._run / "kind.json").write_text(configuration(nodes))
            with Moving(self._progress, "kind creates the cluster"):
                arguments = (
                    "--name",
                    self._full,
                    "--kubeconfig",
                    str(self.kubeconfig),
                    "--config",
                    str(self._run / "kind.json"),
                    "--wait",
                    "120s",
                )
                self._kind("create", "cluster", *arguments)
            complete.touch()
        self._progress.step(f"kind cluster {self._full} is up")
        self.load_images(images)

    def down(self) -> None:
        self._kind("delete", "cluster", "--name", self._full, "--kubeconfig", str(self.kubeconfig))
        shutil.rmtree(self._run, ignore_errors=True)
        self._progress.step(f"kind cluster {self._full} is down")

    def status(self) -> str:
        return f"kind cluster {self._full} is {'up' if self._exists() else 'not up'}"

    def load_images(self, archives: Sequence[Archive]) -> None:
        for archive in archives:
            self._kind("load", "image-archive", str(archive.path), "--name", self._full)

    def logs(self, component: str | None) -> list[Path]:
        directory = self._run / "log"
        self._kind("export", "logs", str(directory), "--name", self._full)
        return sorted(path for path in directory.rglob(f"*{component or ''}*") if path.is_file())

    def image_name(self, name: str) -> str:
        return name

    @property
    def _full(self) -> str:
        return f"agentservice-{self.name}"

    def _exists(self) -> bool:
        return self._full in self._kind("get", "clusters").split()

    def _kind(self, *arguments: str) -> str:
        return run([str(self._found()), *arguments])

    def _found(self) -> Path:
        found = shutil.which("kind")
        if found:
            return Path(found)
        home = self._settings.cache / "tools" / f"kind-{KIND}"
        if not (home / "kind").exists():
            self._progress.step(f"installing kind {KIND}")
            go = tools.go(self._settings, progress=self._progress)
            environment = {**os.environ, "GOBIN": str(home), "GOTOOLCHAIN": "local"}
            done = subprocess.run(
                [str(go), "install", f"sigs.k8s.io/kind@{KIND}"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise ClusterError(f"go install kind failed: {done.stderr.strip()}")
        return home / "kind"
