"""Decides how a request to the API server is made and what its failure means to a person.

Plain dicts in and out. The `kubernetes` package reads the kubeconfig (exec plugins, proxies, certificates); its
generated models are not used. Values of Secrets never reach an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import config as kube_config
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.config_exception import ConfigException

from agentservice_cli.cluster.plain import Manifest, entries, member, text
from agentservice_cli.exits import CliError

_TIMEOUT_SECONDS = 30.0

PLURALS: Mapping[tuple[str, str], str] = {
    ("agentservice.dev/v1alpha1", "AgentService"): "agentservices",
    ("agentservice.dev/v1alpha1", "AgentLedger"): "agentledgers",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Event"): "events",
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "horizontalpodautoscalers",
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): "httproutes",
    ("keda.sh/v1alpha1", "ScaledObject"): "scaledobjects",
    ("keda.sh/v1alpha1", "TriggerAuthentication"): "triggerauthentications",
    ("networking.k8s.io/v1", "Ingress"): "ingresses",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("rbac.authorization.k8s.io/v1", "Role"): "roles",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "rolebindings",
    ("coordination.k8s.io/v1", "Lease"): "leases",
}


class RefusedError(CliError):
    """The API server answered with a failure. `status` is the HTTP status, `reason` the machine's word for it."""

    def __init__(self, message: str, *, status: int, reason: str, mend: str = "") -> None:
        super().__init__(message, mend=mend)
        self.status = status
        self.reason = reason


def path_of(api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """Return the path of a kind, or of one object. Raises KeyError for a kind that no command touches."""
    parts = ["apis", *api_version.split("/")] if "/" in api_version else ["api", api_version]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(PLURALS[(api_version, kind)])
    if name is not None:
        parts.append(name)
    return "/" + "/".join(quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class Access:
    """Where the cluster is: what was typed, or nothing for the kubeconfig's own choice."""

    context: str | None = None
    kubeconfig: str | None = None


class Cluster:
    """One API server and the identity that asks it. `namespace` is the context's own."""

    def __init__(self, client: ApiClient, *, namespace: str, context: str) -> None:
        self.client = client
        self.namespace = namespace
        self.context = context

    @property
    def server(self) -> str:
        configuration: Any = self.client.configuration  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return str(cast("Any", configuration).host)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request and decode its answer. Raises RefusedError for a failure, CliError when nobody answers."""
        content = None if body is None else json.dumps(body).encode()
        response = self.open(method, path, query=query, content=content, headers={"Content-Type": content_type})
        text = response.read()
        response.release_conn()
        try:
            decoded: Any = json.loads(text) if text else {}
        except ValueError:
            decoded = text.decode(errors="replace")
        if response.status >= 400:
            raise _refused(decoded, status=response.status, path=path)
        return decoded

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the answer unread. `timeout` (seconds) is the longest silence."""
        sent: dict[str, str] = {"Accept": "application/json", "User-Agent": "agentservice-cli", **(headers or {})}
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        try:
            self.client.update_params_for_auth(sent, [], ["BearerToken"], path, method, None)
            return self.client.rest_client.pool_manager.request(
                method, url, body=content, headers=sent, timeout=timeout, preload_content=False, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(self.server, error) from None

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Manifest:
        """Return one object. Raises RefusedError."""
        return cast("Manifest", self.request("GET", path_of(api_version, kind, namespace, name)))

    def find(self, api_version: str, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """Return one object, or None when there is none. Raises RefusedError for every other failure."""
        try:
            return self.get(api_version, kind, namespace, name)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def items(self, api_version: str, kind: str, namespace: str | None, **query: str) -> list[Manifest]:
        """Return all objects of a kind in a namespace (None: in all of them). Raises RefusedError."""
        found = list[Manifest]()
        wanted = {"limit": "500", **query}
        while True:
            page = self.request("GET", path_of(api_version, kind, namespace), query=wanted)
            found += entries(page, "items")
            token = text(page, "metadata", "continue")
            if not token:
                break
            wanted = {**wanted, "continue": token}
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found]

    def may(self, verb: str, resource: str, *, group: str = "", namespace: str | None, subresource: str = "") -> bool:
        """Return whether the current user may do this (SelfSubjectAccessReview)."""
        attributes = {"verb": verb, "resource": resource, "group": group, "subresource": subresource}
        if namespace is not None:
            attributes["namespace"] = namespace
        review = self.request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return member(review, "status", "allowed") is True


def connect(access: Access) -> Cluster:
    """Return the cluster that the kubeconfig, or this pod's own account, points at. Nothing is asked yet. Raises CliError."""
    configuration = cast("Configuration", type.__call__(Configuration))
    if access.context is None and access.kubeconfig is None and _is_in_pod():
        kube_config.load_incluster_config(client_configuration=configuration)  # pyright: ignore[reportPrivateImportUsage]
        return Cluster(ApiClient(configuration), namespace=_pod_namespace(), context="in-cluster")
    try:
        found = cast("Any", kube_config.list_kube_config_contexts(config_file=access.kubeconfig))  # pyright: ignore[reportPrivateImportUsage, reportUnknownMemberType]
        kube_config.load_kube_config(  # pyright: ignore[reportPrivateImportUsage, reportUnknownMemberType]
            config_file=access.kubeconfig,
            context=access.context,
            client_configuration=configuration,
            persist_config=False,
        )
    except ConfigException as error:
        raise _no_configuration(access, str(error)) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _no_configuration(access, f"{type(error).__name__}: {error}") from None
    contexts, active = cast("tuple[list[Manifest], Manifest]", found)
    chosen = active if access.context is None else next(c for c in contexts if c["name"] == access.context)
    namespace = text(chosen, "context", "namespace") or "default"
    return Cluster(ApiClient(configuration), namespace=namespace, context=text(chosen, "name"))


def _no_configuration(access: Access, why: str) -> CliError:
    if access.context is not None and "context" in why.lower():
        return CliError(f"the kubeconfig has no context {access.context!r}", mend="see: kubectl config get-contexts")
    where = access.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return CliError(
        f"no cluster: {where} cannot be used ({why.strip().rstrip('.')})",
        mend="set KUBECONFIG or pass --kubeconfig FILE; an agent here needs no cluster: agentservice run -f agent.yaml",
    )


def _is_in_pod() -> bool:
    from pathlib import Path

    has_file = "KUBECONFIG" in os.environ or (Path.home() / ".kube" / "config").exists()
    return "KUBERNETES_SERVICE_HOST" in os.environ and not has_file


def _pod_namespace() -> str:
    from pathlib import Path

    file = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return file.read_text().strip() if file.is_file() else "default"


def _unreachable(server: str, error: Exception) -> CliError:
    if isinstance(error, urllib3.exceptions.SSLError):
        return CliError(
            f"{server}: TLS fails: {error}", mend="check the cluster's certificate authority in the kubeconfig"
        )
    # A connection that was refused is a kind of timeout to urllib3.
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
        return CliError(
            f"{server} does not answer in time", mend="check the network or VPN; agentservice doctor tells more"
        )
    reason = getattr(error, "_message", None) or str(error)
    text = reason.split(": ", 1)[-1] if ": " in reason else reason
    return CliError(f"{server} cannot be reached: {text}", mend="is the cluster up, and the kubeconfig's server right?")


def _refused(content: Any, *, status: int, path: str) -> RefusedError:
    reason, message = text(content, "reason"), text(content, "message") or f"the API server answered {status}"
    if "/secrets" in path and status != 403:
        message = f"the API server refused the Secret ({reason or status})"
    mend = ""
    if status == 401:
        message, mend = "the API server does not know these credentials", "log in again, or choose another --context"
    elif status == 403:
        mend = "ask for this permission; agentservice doctor lists what you may do"
    elif status == 404 and "could not find the requested resource" in message:
        message = f"this cluster does not serve {path.split('/namespaces')[0].removeprefix('/apis/')}"
        if "agentservice.dev" in path:
            message = "this cluster does not know AgentServices"
            mend = "install the operator: helm upgrade --install agentservice-operator charts/agentservice-operator -n agentservice-system --create-namespace"
    return RefusedError(message, status=status, reason=reason, mend=mend)


def body_of(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the answer's body as it arrives."""
    try:
        yield from response.stream(65536, decode_content=True)
    except urllib3.exceptions.HTTPError as error:
        raise CliError(f"the connection broke: {error}", mend="ask again") from None
    finally:
        response.release_conn()
