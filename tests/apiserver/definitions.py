"""The real CustomResourceDefinitions of others, out of their own Go modules."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from devcluster import keda as kedas
from devcluster import tools
from devcluster.progress import Progress
from devcluster.settings import read_settings

GATEWAY_API = "sigs.k8s.io/gateway-api@v1.2.1"
"""Old enough for Kubernetes 1.30: what we render must fit clusters that have not upgraded."""
FLUX_KUSTOMIZE = "github.com/fluxcd/kustomize-controller@v1.7.3"
FLUX_SOURCE = "github.com/fluxcd/source-controller@v1.7.3"
ARGO_CD = "github.com/argoproj/argo-cd/v2@v2.14.0"


def http_route() -> Path:
    return _module(GATEWAY_API) / "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


def keda() -> tuple[Path, ...]:
    """KEDA's ScaledObject and TriggerAuthentication."""
    bases = kedas.sources(read_settings(), progress=Progress()) / "config/crd/bases"
    return bases / "keda.sh_scaledobjects.yaml", bases / "keda.sh_triggerauthentications.yaml"


def gitops() -> tuple[Path, ...]:
    """Argo CD's Application, Flux's GitRepository and Kustomization."""
    return (
        _module(ARGO_CD) / "manifests/crds/application-crd.yaml",
        _module(FLUX_SOURCE) / "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",
        _module(FLUX_KUSTOMIZE) / "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
    )


def _module(module: str) -> Path:
    """Return where the module's files are. Raises CalledProcessError where it cannot be had."""
    go = tools.go(read_settings(), progress=Progress())
    done = subprocess.run(
        [str(go), "mod", "download", "-json", module],
        cwd="/",
        env={**os.environ, "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(json.loads(done.stdout)["Dir"])
