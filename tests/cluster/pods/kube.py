"""The API server as a test talks to it: plain JSON through `kubectl proxy`, so that any kubeconfig serves and a look costs little."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]

MANAGER = "agentservice-tests"
_PATHS = {
    "AgentLedger": "/apis/agentservice.dev/v1alpha1/namespaces/{}/agentledgers",
    "AgentService": "/apis/agentservice.dev/v1alpha1/namespaces/{}/agentservices",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Event": "/apis/events.k8s.io/v1/namespaces/{}/events",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ScaledObject": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "TriggerAuthentication": "/apis/keda.sh/v1alpha1/namespaces/{}/triggerauthentications",
}


class ApiError(Exception):
    """The API server answered with a failure."""

    def __init__(self, *, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Kube:
    """Requests as the kubeconfig's user; `kubectl` is the program."""

    def __init__(self, *, kubectl: Sequence[str], kubeconfig: Path) -> None:
        self.command = (*kubectl, f"--kubeconfig={kubeconfig}")
        self._proxy = subprocess.Popen(
            [*self.command, "proxy", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._proxy.stdout is not None
        said = self._proxy.stdout.readline()
        address = re.search(r"127\.0\.0\.1:\d+", said)
        assert address is not None, f"kubectl proxy does not start: {said}"
        self.server = f"http://{address[0]}"
        """The API server, which asks for no credentials here."""

    def close(self) -> None:
        self._proxy.terminate()
        self._proxy.wait(timeout=10)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as a person would; return what it prints, both streams."""
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {done.stdout}"
        return done.stdout

    def path(self, kind: str, namespace: str) -> str:
        """The path of a namespace's objects of a kind."""
        return _PATHS[kind].format(namespace)

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return the object, None when there is none."""
        try:
            return json.loads(self.request("GET", f"{_PATHS[kind].format(namespace)}/{name}"))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str, *, selector: str = "") -> list[Manifest]:
        query = "?" + urllib.parse.urlencode({"labelSelector": selector}) if selector else ""
        return json.loads(self.request("GET", _PATHS[kind].format(namespace) + query))["items"]

    def apply(self, *manifests: Manifest) -> None:
        """Apply on the server's side, as a GitOps controller would."""
        for manifest in manifests:
            meta = manifest["metadata"]
            path = (
                f"{_PATHS[manifest['kind']].format(meta['namespace'])}/{meta['name']}?fieldManager={MANAGER}&force=true"
            )
            self.request("PATCH", path, body=manifest, content_type="application/apply-patch+yaml")

    def patch(self, kind: str, namespace: str, name: str, patch: Manifest, *, subresource: str = "") -> None:
        path = f"{_PATHS[kind].format(namespace)}/{name}{subresource}?fieldManager={MANAGER}"
        self.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    def delete(self, kind: str, namespace: str, name: str, *, grace_seconds: int | None = None) -> None:
        query = f"?gracePeriodSeconds={grace_seconds}" if grace_seconds is not None else ""
        self.request("DELETE", f"{_PATHS[kind].format(namespace)}/{name}{query}")

    def pod_log(self, namespace: str, pod: str, *, previous: bool = False) -> str:
        """Return the whole log, empty when there is none."""
        try:
            path = f"{_PATHS['Pod'].format(namespace)}/{pod}/log?previous={str(previous).lower()}"
            return self.request("GET", path)
        except ApiError:
            return ""

    def through_pod(self, namespace: str, pod: str, port: int, path: str) -> str:
        """Return what a pod answers to a GET."""
        return self.request("GET", f"{_PATHS['Pod'].format(namespace)}/{pod}:{port}/proxy{path}")

    def request(self, method: str, path: str, *, body: Any = None, content_type: str = "application/json") -> str:
        """Return the body of the answer. Raises ApiError."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            self.server + path, data=data, method=method, headers={"Content-Type": content_type}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise ApiError(status=error.code, text=error.read().decode()) from None


def secret(namespace: str, name: str, **data: str) -> Manifest:
    """A Secret that holds `data`."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": encoded}


def condition(live: Manifest | None, kind: str) -> Manifest:
    """Return the condition, empty when it is absent."""
    conditions = ((live or {}).get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


def is_pod_ready(pod: Manifest) -> bool:
    return condition(pod, "Ready").get("status") == "True" and not pod["metadata"].get("deletionTimestamp")
