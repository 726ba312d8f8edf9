"""CoreDNS and metrics-server: pods like in any cluster, whose image is the pause image and whose program comes in by hostPath."""

from pathlib import Path
from typing import Any

from devcluster.api import Api, RefusedError
from devcluster.settings import MANIFESTS


def manifests(binary: Path, *, dns: str) -> str:
    """All add-ons' manifests."""
    texts = [path.read_text() for path in sorted(MANIFESTS.glob("*.yaml"))]
    return "\n---\n".join(texts).replace("@BIN@", str(binary)).replace("@DNS@", dns)


def ready(api: Api, deployment: str) -> bool:
    """Whether a Deployment of kube-system has all its pods available."""
    found = _get(api, f"/apis/apps/v1/namespaces/kube-system/deployments/{deployment}")
    return bool(found) and found.get("status", {}).get("availableReplicas", 0) >= found["spec"]["replicas"]


def node_ready(api: Api, name: str) -> bool:
    """Whether a node's condition Ready is True."""
    found = _get(api, f"/api/v1/nodes/{name}")
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _get(api: Api, path: str) -> dict[str, Any]:
    try:
        return api.request("GET", path)
    except (RefusedError, OSError):
        return {}
