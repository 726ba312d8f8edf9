"""The cluster that the other tests of this folder stand on is a real one: names, Services, policies, metrics."""

import json
import time
from collections.abc import Callable

import pytest

from devcluster import images
from devcluster.cluster import Cluster
from devcluster.progress import Progress
from devcluster.settings import read_settings

Kubectl = Callable[..., str]

SERVER = "import http.server; http.server.HTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()"
FETCH = "import urllib.request; print(urllib.request.urlopen('http://web:8000/', timeout=2).status)"
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {"matchLabels": {"run": "web"}}, "policyTypes": ["Ingress"]},
}


@pytest.fixture
def web(cluster: Cluster, kubectl: Kubectl, namespace: str) -> str:
    """A namespace with pod `web` behind Service `web`, and pod `client`."""
    runtime = cluster.image_name(images.built(read_settings(), progress=Progress()).runtime.name)
    common = ("-n", namespace, "run", f"--image={runtime}", "--restart=Never", "--command")
    kubectl(*common, "web", "--port=8000", "--expose", "--", "python", "-c", SERVER)
    kubectl(*common, "client", "--", "sleep", "600")
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=120s")
    return namespace


def fetched(kubectl: Kubectl, namespace: str) -> bool:
    script = f"try:\n  {FETCH}\nexcept OSError as error:\n  print(error)"
    return "200" in kubectl("-n", namespace, "exec", "client", "--", "python", "-c", script)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.3)
    return False


def test_a_service_is_found_by_name_and_a_policy_closes_it(kubectl: Kubectl, web: str):
    assert within(20, lambda: fetched(kubectl, web))
    kubectl("-n", web, "apply", "-f", "-", stdin=json.dumps(DENY))
    assert within(20, lambda: not fetched(kubectl, web))
    kubectl("-n", web, "delete", "networkpolicy", "deny")
    assert within(20, lambda: fetched(kubectl, web))


def test_usage_of_pods_is_measured(kubectl: Kubectl, web: str):
    def measured() -> bool:
        listed = json.loads(kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{web}/pods"))
        return {item["metadata"]["name"] for item in listed["items"]} == {"web", "client"}

    assert within(60, measured)
