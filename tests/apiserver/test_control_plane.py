"""The control plane that the other tests of this folder stand on is a real one."""

import json
import time

from devcluster.standalone import StandaloneControlPlane


def test_the_controllers_make_pods_of_a_deployment(control_plane: StandaloneControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "deployment", "web", "--image=nowhere/web", "--replicas=2")
    control_plane.kubectl("-n", namespace, "wait", "--for=create", "pod", "-l", "app=web", "--timeout=120s")


def test_the_garbage_collector_follows_owner_references(control_plane: StandaloneControlPlane, namespace: str) -> None:
    owner = json.loads(control_plane.kubectl("-n", namespace, "create", "configmap", "owner", "-o", "json").stdout)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child", "ownerReferences": [reference]}}
    control_plane.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(child))
    control_plane.kubectl("-n", namespace, "delete", "configmap", "owner")
    control_plane.kubectl("-n", namespace, "wait", "--for=delete", "configmap", "child", "--timeout=120s")


def test_a_user_without_rights_is_refused(control_plane: StandaloneControlPlane, namespace: str) -> None:
    stranger = control_plane.user("stranger")
    refused = control_plane.kubectl("-n", namespace, f"--kubeconfig={stranger}", "get", "pods", check=False)
    assert "forbidden" in refused.stderr


def test_a_program_that_was_killed_can_be_started_again(control_plane: StandaloneControlPlane) -> None:
    control_plane.stop_program("kube-apiserver")
    assert not control_plane.api.found("/readyz")
    control_plane.start_program("kube-apiserver")
    started = time.monotonic()
    control_plane.wait_ready()
    assert time.monotonic() - started < 60
