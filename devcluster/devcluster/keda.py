"""KEDA in a cluster of ours: built from its own Go module, and installed as its own manifests say but for where its programs are.

It has a module of its own, because its dependencies and those of Kubernetes' components do not compile together. Nothing is pulled: its
pods run the pause image, and their programs come in by hostPath, like those of the add-ons.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import go_build, tools
from devcluster.api import wait_until
from devcluster.cluster import Cluster
from devcluster.errors import ClusterError
from devcluster.go_build import Module
from devcluster.install import Client
from devcluster.locks import only_one
from devcluster.native import NativeCluster
from devcluster.node import PAUSE_IMAGE
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, Settings

SOURCES = REPOSITORY / "devcluster" / "keda"
PATH = "github.com/kedacore/keda/v2"
NAMESPACE = "keda"
DEPLOYMENTS = {"keda-operator": "operator", "keda-metrics-apiserver": "adapter", "keda-admission": "webhooks"}
"""Each Deployment of KEDA's, and the program that its only container runs."""
PROGRAMS = "/programs"
NOBODY = 65532


@dataclass(frozen=True, kw_only=True)
class Built:
    """The built programs."""

    directory: Path

    def complete(self) -> bool:
        return all((self.directory / program).exists() for program in DEPLOYMENTS.values())


def module() -> Module:
    """How it is built."""
    packages = tuple(f"{PATH}/cmd/{program}" for program in DEPLOYMENTS.values())
    return Module(
        title="KEDA", sources=SOURCES, packages=packages, last=packages[-1], usual_packages=3720, usual_minutes=15
    )


def version(go_mod: str) -> str:
    """The version that go.mod names, `v2.21.0`. Raises ClusterError without one."""
    found = re.search(rf"^require {re.escape(PATH)} (v\S+)$", go_mod, re.MULTILINE)
    if not found:
        raise ClusterError(f"go.mod does not require {PATH}")
    return found[1]


def built(settings: Settings, *, progress: Progress) -> Built:
    """The programs, from the cache or freshly built. Raises ClusterError when the build fails."""
    go = tools.go(settings, progress=progress)
    keda = Built(directory=module().place(settings.cache / "keda", go=go))
    if keda.complete():
        return keda
    another = "another build is running: waiting for it"
    with only_one(go_build.lock(settings.cache), waiting=lambda: progress.step(another)):
        if not keda.complete():
            directory = go_build.unfinished(keda.directory)
            go_build.build(go, module(), output=directory, progress=progress)
            go_build.finish(directory, keda.directory)
            progress.step("KEDA is built")
    return keda


def sources(settings: Settings, *, progress: Progress) -> Path:
    """KEDA's own files: its manifests and definitions. Raises ClusterError where they cannot be had."""
    go = tools.go(settings, progress=progress)
    wanted = f"{PATH}@{version((SOURCES / 'go.mod').read_text())}"
    done = subprocess.run(
        [str(go), "mod", "download", "-json", wanted],
        cwd=SOURCES,
        env=go_build.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(f"{wanted} cannot be had: {(done.stderr or done.stdout).strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def install(settings: Settings, cluster: Cluster, *, progress: Progress) -> None:
    """Have KEDA in the cluster, and wait until it serves. A cluster that is not made of our nodes has it already, or not at all.

    Raises ClusterError with what to do.
    """
    client = Client(cluster=cluster)
    if not isinstance(cluster, NativeCluster):
        if not client.kubectl("get", "crd", "scaledobjects.keda.sh", "--ignore-not-found"):
            raise ClusterError(
                "this cluster has no KEDA: install it (https://keda.sh/docs/latest/deploy/), or let the cluster be made of our own nodes: "
                "AGENTSERVICE_CLUSTER=native"
            )
        progress.step("KEDA is there already")
        return
    programs = built(settings, progress=progress)
    place = cluster.run / "keda"
    write_kustomization(place, manifests=sources(settings, progress=progress) / "config", programs=programs.directory)
    client.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(place))
    progress.step("KEDA's manifests are applied: waiting until it serves")
    for name in DEPLOYMENTS:
        client.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=300s")
    client.kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=180s")
    wait_until("KEDA's admission", lambda: _is_asked(client), timeout=180)
    progress.step(f"KEDA {version((SOURCES / 'go.mod').read_text())} is installed")


def _is_asked(client: Client) -> bool:
    """Whether the API server has been told whom to trust as KEDA's admission: before that it lets everything pass."""
    found = json.loads(client.kubectl("get", "validatingwebhookconfiguration", "keda-admission", "-o", "json"))
    return all(webhook["clientConfig"].get("caBundle") for webhook in found["webhooks"])


def write_kustomization(place: Path, *, manifests: Path, programs: Path) -> None:
    """Write what `kubectl apply -k` takes: KEDA's manifests, which are copied (a path with a host's name in it is taken for a URL)."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for directory, _, files in os.walk(manifests):
        to = place / "config" / Path(directory).relative_to(manifests)
        to.mkdir()
        for name in files:
            (to / name).write_bytes((Path(directory) / name).read_bytes())  # the module's own are read-only
    patches = [{"patch": json.dumps(_patch(name, program, programs))} for name, program in DEPLOYMENTS.items()]
    kustomization = {"resources": ["config/default"], "patches": patches}
    (place / "kustomization.yaml").write_text(json.dumps(kustomization, indent=1))


def _patch(name: str, program: str, programs: Path) -> dict[str, Any]:
    # on a machine that does much else, an answer takes longer than a probe waits by default
    patience = {"timeoutSeconds": 10, "failureThreshold": 30}
    container = {
        "name": name if name != "keda-admission" else "keda-admission-webhooks",
        "image": PAUSE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{PROGRAMS}/{program}"],
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}},
        "livenessProbe": patience,
        "readinessProbe": {**patience, "initialDelaySeconds": 1, "periodSeconds": 2},
        "volumeMounts": [{"name": "programs", "mountPath": PROGRAMS, "readOnly": True}],
    }
    pod = {
        "securityContext": {"runAsUser": NOBODY},
        "containers": [container],
        "volumes": [{"name": "programs", "hostPath": {"path": str(programs), "type": "Directory"}}],
    }
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": pod}}}
