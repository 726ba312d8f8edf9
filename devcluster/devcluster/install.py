"""The operator installed in a cluster: images there, chart installed by Helm, release usable again after any interruption."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from devcluster import images
from devcluster.cluster import Cluster
from devcluster.errors import ClusterError
from devcluster.image_store import Archive
from devcluster.images import Built
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, Settings

RELEASE = "agentservice-operator"
NAMESPACE = "agentservice-system"
DEFINITION = "agentservices.agentservice.dev"


@dataclass(frozen=True, kw_only=True)
class Client:
    """kubectl and helm bound to one cluster, whatever KUBECONFIG says."""

    cluster: Cluster

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl. Raises ClusterError with its error output."""
        return self._run([str(self.cluster.kubectl()), *arguments], stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Run helm. Raises ClusterError with its error output."""
        return self._run([str(self.cluster.helm()), *arguments])

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}

    def _run(self, command: list[str], *, stdin: str | None = None) -> str:
        done = subprocess.run(
            command, input=stdin or "", env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ClusterError(
                f"{' '.join([command[0].rpartition('/')[2], *command[1:]])}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout


def archives(built: Built) -> list[Archive]:
    """All images as a cluster loads them."""
    return [Archive(path=image.archive, name=image.name, aliases=image.aliases) for image in built.all]


def deliver(settings: Settings, cluster: Cluster, built: Built, *, progress: Progress) -> None:
    """Bring the images where a cluster that is not ours pulls from. Nothing to do for ours: they are loaded into it."""
    if settings.kubeconfig is not None and settings.image_registry is not None:
        images.push(settings, built, registry=settings.image_registry, progress=progress)


def operator(cluster: Cluster, built: Built, *, wait: bool, values: Sequence[str] = ()) -> None:
    """Install or upgrade the chart with these images. `values` are further `--set` arguments."""
    client = Client(cluster=cluster)
    _unblock(client)
    repository, _, tag = cluster.image_name(built.operator.name).rpartition(":")
    settings = [
        f"image.repository={repository}",
        f"image.tag={tag}",
        f"runtime.image={cluster.image_name(built.runtime.name)}",
        *values,
    ]
    client.helm(
        *(
            "upgrade",
            "--install",
            RELEASE,
            str(REPOSITORY / "charts" / RELEASE),
            "--namespace",
            NAMESPACE,
            "--create-namespace",
        ),
        *(f"--set={setting}" for setting in settings),
        *(("--wait", "--timeout=180s") if wait else ()),
    )
    client.kubectl("wait", "--for=condition=Established", f"crd/{DEFINITION}", "--timeout=60s")


def _unblock(client: Client) -> None:
    """Forget a release operation that was killed: Helm refuses any further one while it says pending."""
    pending = "owner=helm,name=" + RELEASE + ",status in (pending-install,pending-upgrade,pending-rollback)"
    found = client.kubectl("--namespace", NAMESPACE, "get", "secrets", "-l", pending, "-o", "json")
    for secret in json.loads(found)["items"]:
        client.kubectl("--namespace", NAMESPACE, "delete", "secret", secret["metadata"]["name"])
