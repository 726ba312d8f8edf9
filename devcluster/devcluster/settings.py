"""Where things are kept, and which cluster the caller has chosen."""

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import ClusterError

REPOSITORY = Path(__file__).resolve().parents[2]
COMPONENTS = REPOSITORY / "devcluster" / "components"
MANIFESTS = REPOSITORY / "devcluster" / "manifests"

HIDDEN_IN_NODES = (Path("/run"), Path("/var/log"), Path("/var/lib"), Path("/opt"))
"""A node sees empty directories here (the kubelet, CNI and containerd hard-code paths below them), so nothing of ours may lie there."""


class Provider(enum.Enum):
    """Where the cluster comes from."""

    CALLER = "caller"
    """The cluster of the kubeconfig named by AGENTSERVICE_KUBECONFIG; it is never created or removed by us."""
    KIND = "kind"
    """kind, in the docker engine that answers here."""
    NATIVE = "native"
    """Our own nodes, made of namespaces on this machine."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One caller's choices, read once at the start."""

    cache: Path
    name: str = "default"
    """Which of several clusters on this machine."""
    kubeconfig: Path | None = None
    image_registry: str | None = None
    base_image: str | None = None
    provider: Provider | None = None
    ci: bool = False

    @property
    def runs(self) -> Path:
        """Run directories, one per cluster name. Beside the cache, because image layers are hard-linked from it."""
        return self.cache / "run"

    def run(self, name: str) -> Path:
        return self.runs / name


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment. KUBECONFIG is ignored on purpose: a shell that points at production must not receive a demo.

    Raises ClusterError when a value cannot be used.
    """
    home = Path(environment.get("HOME") or "/root")
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "agentservice-devcluster"
    cache = cache.resolve()
    for hidden in HIDDEN_IN_NODES:
        if cache.is_relative_to(hidden):
            raise ClusterError(
                f"the cache {cache} lies under {hidden}, which a node cannot see: set XDG_CACHE_HOME to another directory"
            )
    own = environment.get("AGENTSERVICE_KUBECONFIG")
    if own and not Path(own).is_file():
        raise ClusterError(f"AGENTSERVICE_KUBECONFIG names {own}, which is not a file: unset it, or name a kubeconfig")
    asked = environment.get("AGENTSERVICE_CLUSTER")
    if asked and asked not in {Provider.KIND.value, Provider.NATIVE.value}:
        raise ClusterError(f"AGENTSERVICE_CLUSTER is {asked!r}: use kind or native, or unset it")
    return Settings(
        cache=cache,
        name=environment.get("AGENTSERVICE_CLUSTER_NAME") or "default",
        kubeconfig=Path(own).resolve() if own else None,
        image_registry=environment.get("AGENTSERVICE_IMAGE_REGISTRY") or None,
        base_image=environment.get("AGENTSERVICE_BASE_IMAGE") or None,
        provider=Provider.CALLER if own else Provider(asked) if asked else None,
        ci=environment.get("CI", "").lower() in {"1", "true", "yes"},
    )
