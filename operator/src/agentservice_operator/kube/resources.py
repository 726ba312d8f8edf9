"""Decides the URL path of every kind that the operator touches."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it. `group` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def label(self) -> str:
        """`deployments.apps`, as RBAC and kubectl write it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path below the server's URL. Without a namespace: the whole cluster (a list or watch of all namespaces).

        Raises:
            ValueError: a named object of a namespaced kind without its namespace.
        """
        if name is not None and self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name} is namespaced: give its namespace")
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
            if subresource is not None:
                parts.append(subresource)
        return "/".join(parts)


AGENTSERVICES = Resource("agentservice.dev", "v1alpha1", "AgentService", "agentservices")
AGENTLEDGERS = Resource("agentservice.dev", "v1alpha1", "AgentLedger", "agentledgers")
CONFIGMAPS = Resource("", "v1", "ConfigMap", "configmaps")
SERVICEACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts")
SERVICES = Resource("", "v1", "Service", "services")
SECRETS = Resource("", "v1", "Secret", "secrets")
PODS = Resource("", "v1", "Pod", "pods")
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
REPLICASETS = Resource("apps", "v1", "ReplicaSet", "replicasets")
PODDISRUPTIONBUDGETS = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
HORIZONTALPODAUTOSCALERS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORKPOLICIES = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
INGRESSES = Resource("networking.k8s.io", "v1", "Ingress", "ingresses")
HTTPROUTES = Resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
"""Optional: the Gateway API is installed by who wants it."""
SCALEDOBJECTS = Resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")
TRIGGERAUTHENTICATIONS = Resource("keda.sh", "v1alpha1", "TriggerAuthentication", "triggerauthentications")
"""Optional, both: KEDA is installed by who wants it."""
ROLES = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLEBINDINGS = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
APIGROUPS = Resource("", "", "APIGroup", "apigroups", namespaced=False)
"""What discovery serves at /apis/GROUP: no objects."""
EVENTS = Resource("events.k8s.io", "v1", "Event", "events")
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases")

KNOWN: tuple[Resource, ...] = (
    AGENTSERVICES,
    AGENTLEDGERS,
    CONFIGMAPS,
    SERVICEACCOUNTS,
    SERVICES,
    SECRETS,
    PODS,
    DEPLOYMENTS,
    REPLICASETS,
    PODDISRUPTIONBUDGETS,
    HORIZONTALPODAUTOSCALERS,
    NETWORKPOLICIES,
    INGRESSES,
    HTTPROUTES,
    SCALEDOBJECTS,
    TRIGGERAUTHENTICATIONS,
    ROLES,
    ROLEBINDINGS,
    EVENTS,
    LEASES,
)

_BY_KIND = {(resource.api_version, resource.kind): resource for resource in KNOWN}


def resource_of(api_version: str, kind: str) -> Resource:
    """The resource of a manifest's `apiVersion` and `kind`.

    Raises:
        KeyError: a kind that the operator does not touch.
    """
    return _BY_KIND[(api_version, kind)]
