"""Children are created once, and come back as declared whoever edits or deletes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.standalone import StandaloneControlPlane, delete_namespace, new_namespace

from .operator_process import CHILDREN, Audit, OperatorProcess, Workbench, eventually


def declared(child: dict[str, Any]) -> dict[str, Any]:
    """What of a child its declaration decides: no status, no counters, nothing that another controller writes."""
    content = copy.deepcopy(child)
    metadata = content["metadata"]
    annotations = metadata.get("annotations") or {}
    annotations.pop("deployment.kubernetes.io/revision", None)
    for served in ("status", "apiVersion", "kind"):  # a list says the latter two once for all its items
        content.pop(served, None)
    content["metadata"] = {
        key: metadata.get(key) for key in ("name", "labels", "annotations", "ownerReferences", "finalizers")
    }
    for assigned in ("clusterIP", "clusterIPs"):
        content.get("spec", {}).pop(assigned, None)
    return content


def test_an_agent_becomes_four_children_by_four_posts(operator: OperatorProcess, at: Workbench, audit: Audit):
    at.agent()
    at.serves()
    at.quiet(audit)
    writes = audit.writes(namespace=at.namespace)
    created = [write for write in writes if write.verb == "create"]
    assert sorted(write.resource for write in created) == ["configmaps", "deployments", "serviceaccounts", "services"]
    assert [write for write in writes if write.code >= 400] == []
    assert {(w.resource, w.subresource) for w in writes if w.verb != "create"} == {("agentservices", "status")}
    owner = at.get("AgentService", "agent")
    for kind in CHILDREN:
        (child,) = at.list(kind, of="agent")
        (reference,) = child["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == (owner["metadata"]["uid"], True)


def test_the_status_of_a_new_agent_says_where_it_will_answer_and_that_it_is_not_there_yet(
    operator: OperatorProcess, at: Workbench
):
    at.agent(replicas=2, network={"service": {"port": 8080}})
    at.settles("Ready", "False", "Progressing")
    status = at.get("AgentService", "agent")["status"]
    assert status["url"] == f"http://agent.{at.namespace}.svc:8080"
    assert status["selector"] == "agentservice.dev/name=agent"
    assert status["observedGeneration"] == 1
    deployment = at.get("Deployment", "agent")
    assert status["revision"] == deployment["spec"]["template"]["metadata"]["labels"]["agentservice.dev/revision"]


def container(live: dict[str, Any]) -> dict[str, Any]:
    return live["spec"]["template"]["spec"]["containers"][0]


Edit = Callable[[dict[str, Any]], None]


def edits() -> dict[str, tuple[str, Edit]]:
    """What a person might do to a child with `kubectl edit`."""

    def env(name: str, value: str) -> Edit:
        def edit(live: dict[str, Any]) -> None:
            next(e for e in container(live)["env"] if e["name"] == name)["value"] = value

        return edit

    def without_env(live: dict[str, Any]) -> None:
        container(live)["env"] = [e for e in container(live)["env"] if e["name"] != "GREETING"]

    def renamed_env(live: dict[str, Any]) -> None:
        next(e for e in container(live)["env"] if e["name"] == "GREETING")["name"] = "FAREWELL"

    def port(**change: Any) -> Edit:
        return lambda live: live["spec"]["ports"][0].update(change)

    def labels(**change: str) -> Edit:
        return lambda live: live["metadata"]["labels"].update(change)

    def no_label(label: str) -> Edit:
        return lambda live: live["metadata"]["labels"].pop(label)

    def no_annotation(live: dict[str, Any]) -> None:
        live["metadata"]["annotations"].pop("agentservice.dev/intent-hash")

    def spec(**change: Any) -> Edit:
        return lambda live: live["spec"].update(change)

    def pod(**change: Any) -> Edit:
        return lambda live: live["spec"]["template"]["spec"].update(change)

    def pod_metadata(**change: str) -> Edit:
        return lambda live: live["spec"]["template"]["metadata"]["labels"].update(change)

    def another_container(live: dict[str, Any]) -> None:
        live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "registry.example/side:1"})

    def another_volume(live: dict[str, Any]) -> None:
        live["spec"]["template"]["spec"]["volumes"].append({"name": "extra", "emptyDir": {}})

    def another_mount(live: dict[str, Any]) -> None:
        container(live)["volumeMounts"].append({"name": "tmp", "mountPath": "/extra"})

    def another_env(live: dict[str, Any]) -> None:
        container(live)["env"].append({"name": "EXTRA", "value": "1"})

    def resources(live: dict[str, Any]) -> None:
        container(live)["resources"]["limits"]["memory"] = "4Gi"

    def no_probe(live: dict[str, Any]) -> None:
        container(live).pop("readinessProbe")

    def root_allowed(live: dict[str, Any]) -> None:
        container(live)["securityContext"]["allowPrivilegeEscalation"] = True

    def another_port(live: dict[str, Any]) -> None:
        live["spec"]["ports"].append({"name": "more", "port": 9000, "protocol": "TCP", "targetPort": 9000})

    found: dict[str, tuple[str, Edit]] = {}

    def add(kind: str, what: str, edit: Edit) -> None:
        found[f"{kind}: {what}"] = (kind, edit)

    for kind in CHILDREN:
        add(kind, "name label changed", labels(**{"agentservice.dev/name": "another"}))
        add(kind, "name label removed", no_label("agentservice.dev/name"))
        add(kind, "managed-by label changed", labels(**{"app.kubernetes.io/managed-by": "somebody"}))
        add(kind, "managed-by label removed", no_label("app.kubernetes.io/managed-by"))
        add(kind, "intent hash removed", no_annotation)
    add("ServiceAccount", "token mounted", lambda live: live.update(automountServiceAccountToken=True))
    add("ServiceAccount", "automount removed", lambda live: live.pop("automountServiceAccountToken"))
    add("Service", "port number", port(port=8081))
    add("Service", "target port", port(targetPort=9))
    add("Service", "port name", port(name="web"))
    add("Service", "protocol", port(protocol="UDP"))
    add("Service", "type", spec(type="NodePort"))
    add("Service", "selector changed", spec(selector={"agentservice.dev/name": "another"}))
    add("Service", "port added", another_port)
    add("Deployment", "env added", another_env)
    add("Deployment", "env changed", env("GREETING", "bye"))
    add("Deployment", "env removed", without_env)
    add("Deployment", "env renamed", renamed_env)
    add("Deployment", "image", lambda live: container(live).update(image="registry.example/another:2"))
    add("Deployment", "replicas", spec(replicas=5))
    add("Deployment", "replicas to zero", spec(replicas=0))
    add("Deployment", "paused", spec(paused=True))
    add("Deployment", "strategy", spec(strategy={"type": "Recreate"}))
    add("Deployment", "progress deadline", spec(progressDeadlineSeconds=60))
    add("Deployment", "service account", pod(serviceAccountName="default", serviceAccount="default"))
    add("Deployment", "token mounted", pod(automountServiceAccountToken=True))
    add("Deployment", "pod label changed", pod_metadata(**{"agentservice.dev/revision": "00000000"}))
    add("Deployment", "container added", another_container)
    add("Deployment", "volume added", another_volume)
    add("Deployment", "mount added", another_mount)
    add("Deployment", "resources", resources)
    add("Deployment", "probe removed", no_probe)
    add("Deployment", "privileges", root_allowed)
    return found


EDITS = edits()


@pytest.fixture(scope="module")
def standing(operator: OperatorProcess, control_plane: StandaloneControlPlane) -> Iterator[Workbench]:
    """One agent that all the edits are made on, one after the other: each must be undone wherever the last one ended."""
    at = Workbench(control_plane, new_namespace(control_plane.api, "edits"))
    at.agent(runtime={"env": [{"name": "GREETING", "value": "hello"}]})
    at.serves()
    at.quiet(Audit(control_plane))
    yield at
    delete_namespace(control_plane.api, at.namespace)


@pytest.fixture(scope="module")
def declarations(standing: Workbench) -> dict[str, dict[str, Any]]:
    """The children as they were made, by kind."""
    return {kind: standing.list(kind, of="agent")[0] for kind in CHILDREN}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_an_edit_by_hand_is_undone(standing: Workbench, declarations, audit: Audit, edit: str):
    kind, change = EDITS[edit]
    at, before = standing, declarations[kind]
    name = before["metadata"]["name"]

    def put() -> bool:
        live = at.get(kind, name)
        change(live)
        at.api.request("PUT", f"{at.path(kind, name)}?fieldManager=kubectl-edit", live)
        return True

    eventually("the edit is taken", put)  # the Deployment controller writes as well: a conflict is tried again

    def restored() -> bool:
        live = at.get(kind, name)
        assert declared(live) == declared(before)
        return bool(live["metadata"]["uid"] == before["metadata"]["uid"])

    eventually(f"restored after {edit}", restored)
    at.quiet(audit, seconds=0.3)
    assert restored()


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_deleted_by_hand_comes_back(operator: OperatorProcess, at: Workbench, kind: str):
    at.agent()
    at.serves()
    (before,) = at.list(kind, of="agent")
    name = before["metadata"]["name"]
    at.delete(kind, name)

    def back() -> bool:
        live = at.get(kind, name)
        assert declared(live) == declared(before)
        return bool(live["metadata"]["uid"] != before["metadata"]["uid"])

    eventually(f"{kind} is back", back)


def test_all_children_deleted_at_once_come_back(operator: OperatorProcess, at: Workbench):
    at.agent()
    at.serves()
    before = {kind: at.list(kind, of="agent")[0] for kind in CHILDREN}
    for kind, child in before.items():
        at.delete(kind, child["metadata"]["name"])

    def back() -> bool:
        for kind, child in before.items():
            live = at.get(kind, child["metadata"]["name"])
            assert live["metadata"]["uid"] != child["metadata"]["uid"]
            assert declared(live) == declared(child)
        return True

    eventually("every child is back", back)


def test_a_replica_set_edited_by_hand_is_left_alone(operator: OperatorProcess, at: Workbench, audit: Audit):
    at.agent()
    at.serves()
    (replica_set,) = eventually("a ReplicaSet", lambda: at.list("ReplicaSet", of="agent"))
    at.patch("ReplicaSet", replica_set["metadata"]["name"], {"metadata": {"annotations": {"note": "mine"}}})
    at.quiet(audit)
    assert at.get("ReplicaSet", replica_set["metadata"]["name"])["metadata"]["annotations"]["note"] == "mine"
    assert [write for write in audit.writes(namespace=at.namespace) if write.resource == "replicasets"] == []


def test_what_others_add_where_we_declare_nothing_stays(operator: OperatorProcess, at: Workbench, audit: Audit):
    """An annotation of a mesh, a label of a cost tool, `kubectl rollout restart`: not ours, not touched."""
    at.agent()
    at.serves()
    for kind in CHILDREN:
        (child,) = at.list(kind, of="agent")
        note = {"metadata": {"annotations": {"example.com/note": "mine"}, "labels": {"example.com/cost": "42"}}}
        at.patch(kind, child["metadata"]["name"], note)
    at.kubectl("rollout", "restart", "deployment/agent")
    at.quiet(audit)
    for kind in CHILDREN:
        (child,) = at.list(kind, of="agent")
        assert child["metadata"]["annotations"]["example.com/note"] == "mine"
        assert child["metadata"]["labels"]["example.com/cost"] == "42"
    template = at.get("Deployment", "agent")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def test_a_changed_specification_changes_what_it_concerns_and_nothing_else(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent()
    at.serves()
    at.quiet(audit, seconds=0.3)
    audit.forget()
    at.patch("AgentService", "agent", {"spec": {"network": {"service": {"port": 8080}}}})
    eventually("the new port", lambda: at.get("Service", "agent")["spec"]["ports"][0]["port"] == 8080)
    at.quiet(audit, seconds=0.5)
    assert {write.resource for write in audit.writes(namespace=at.namespace)} == {"services", "agentservices"}


def test_a_field_taken_out_of_the_specification_is_taken_out_of_the_child(operator: OperatorProcess, at: Workbench):
    at.agent(runtime={"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "podLabels": {"team": "x"}})
    at.serves()
    at.patch("AgentService", "agent", {"spec": {"runtime": {"env": [{"name": "B", "value": "3"}], "podLabels": None}}})

    def gone() -> bool:
        template = at.get("Deployment", "agent")["spec"]["template"]
        values = {e["name"]: e.get("value") for e in template["spec"]["containers"][0]["env"]}
        return "A" not in values and values["B"] == "3" and "team" not in template["metadata"]["labels"]

    eventually("gone from the pods", gone)
