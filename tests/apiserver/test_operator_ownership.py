"""What is not ours is never touched; what is ours goes with its AgentService, whether or not an operator runs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .operator_process import CHILDREN, Audit, OperatorProcess, Workbench, eventually

LABELS = {"app": "legacy"}
STRANGERS: dict[str, dict[str, Any]] = {
    "ServiceAccount": {"automountServiceAccountToken": True},
    "Service": {"spec": {"selector": LABELS, "ports": [{"name": "web", "port": 8080}]}},
    "Deployment": {
        "spec": {
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"containers": [{"name": "web", "image": "registry.example/legacy:1"}]},
            },
        }
    },
}
"""Objects of people who were there first, under the name that an AgentService `agent` needs."""


def stranger(at: Workbench, kind: str, *, name: str = "agent", **metadata: Any) -> dict[str, Any]:
    return at.create(kind, {"metadata": {"name": name, **metadata}, **STRANGERS[kind]})


def content(live: dict[str, Any]) -> dict[str, Any]:
    """What its owner put into it."""
    metadata = {key: live["metadata"].get(key) for key in ("uid", "labels", "ownerReferences")}
    annotations = live["metadata"].get("annotations") or {}
    ours = {key: value for key, value in annotations.items() if "agentservice" in key}
    return {"metadata": metadata, "ours": ours, **{key: live.get(key) for key in ("spec", "data", "immutable")}}


@pytest.mark.parametrize("kind", sorted(STRANGERS))
def test_a_strangers_object_is_never_taken_and_the_message_says_what_to_do(
    operator: OperatorProcess, at: Workbench, audit: Audit, kind: str
):
    before = stranger(at, kind)
    at.agent()
    message = at.settles("Stalled", "True", "Conflict")
    assert f"{kind} agent" in message
    assert "rename" in message
    assert f'kubectl -n {at.namespace} annotate ags agent agentservice.dev/adopt="true"' in message
    assert at.condition("Ready")["reason"] == "Conflict"
    at.patch("AgentService", "agent", {"spec": {"replicas": 2}})
    at.settles("Stalled", "True", "Conflict")
    at.quiet(audit)
    assert content(at.get(kind, "agent")) == content(before)
    assert kind == "Deployment" or at.find("Deployment", "agent") is None, "pods would run under a stranger's account"
    assert [
        w
        for w in audit.writes(namespace=at.namespace)
        if w.verb in ("patch", "update", "delete") and w.resource != "agentservices"
    ] == []


def test_a_strangers_config_map_under_a_revisions_name_is_never_taken(operator: OperatorProcess, at: Workbench):
    at.agent("first")
    at.serves("first")
    name = at.config_map("first")
    at.delete("AgentService", "first", propagation="Foreground")
    eventually("it is gone", lambda: at.find("AgentService", "first") is None)
    at.create("ConfigMap", {"metadata": {"name": name}, "data": {"config.json": "{}"}})
    at.agent("first")
    message = at.settles("Stalled", "True", "Conflict", name="first")
    assert f"ConfigMap {name}" in message
    live = at.get("ConfigMap", name)
    assert "ownerReferences" not in live["metadata"] and live["data"] == {"config.json": "{}"}
    assert at.find("Deployment", "first") is None, "pods would run a stranger's configuration"


def test_the_strangers_object_out_of_the_way_the_agent_goes_on_by_itself(operator: OperatorProcess, at: Workbench):
    stranger(at, "Service")
    at.agent()
    at.settles("Stalled", "True", "Conflict")
    at.delete("Service", "agent")
    # The Service bore no label of ours, so its end is not watched: the conflict is looked at again after a while.
    at.settles("Stalled", "absent", seconds=60)
    assert at.get("Service", "agent")["spec"]["ports"][0]["name"] == "http"


def test_the_adopt_annotation_takes_what_nobody_controls(operator: OperatorProcess, at: Workbench):
    stranger(at, "Service", labels={"team": "x"})
    stranger(at, "ServiceAccount")
    at.agent()
    at.settles("Stalled", "True", "Conflict")
    at.annotate("agent", adopt="true")
    at.settles("Stalled", "absent")
    service = at.get("Service", "agent")
    uid = at.get("AgentService", "agent")["metadata"]["uid"]
    assert [r["uid"] for r in service["metadata"]["ownerReferences"]] == [uid]
    assert [p["port"] for p in service["spec"]["ports"]] == [80]
    assert service["spec"]["selector"] == {"agentservice.dev/name": "agent"}
    assert service["metadata"]["labels"]["team"] == "x"
    assert at.get("ServiceAccount", "agent")["automountServiceAccountToken"] is False


def test_a_deployment_whose_selector_cannot_be_changed_is_not_half_adopted(operator: OperatorProcess, at: Workbench):
    before = stranger(at, "Deployment")
    at.agent(annotations={"agentservice.dev/adopt": "true"})
    message = at.settles("Stalled", "True")
    assert "Deployment agent" in message
    assert content(at.get("Deployment", "agent")) == content(before)


def test_the_adopt_annotation_does_not_take_what_another_controls(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    other = at.create("ConfigMap", {"metadata": {"name": "other"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": other["metadata"]["uid"]}
    before = stranger(at, "Service", ownerReferences=[{**reference, "controller": True}])
    at.agent(annotations={"agentservice.dev/adopt": "true"})
    message = at.settles("Stalled", "True", "Conflict")
    assert "Service agent belongs to ConfigMap other" in message
    at.quiet(audit)
    assert content(at.get("Service", "agent")) == content(before)


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_whose_owner_was_edited_away_is_taken_back(operator: OperatorProcess, at: Workbench, kind: str):
    at.agent()
    at.serves()
    (child,) = at.list(kind, of="agent")
    name, owners = child["metadata"]["name"], child["metadata"]["ownerReferences"]
    at.patch(kind, name, [{"op": "remove", "path": "/metadata/ownerReferences"}], how="json")

    def back() -> bool:
        live = at.get(kind, name)["metadata"]
        return live.get("ownerReferences") == owners and live["uid"] == child["metadata"]["uid"]

    eventually("it is owned again", back)


def test_deleting_an_agent_while_the_operator_is_down_removes_every_child(make_operator, at: Workbench):
    operator = make_operator(WATCH_NAMESPACES=at.namespace, LEASE_NAME="alone").start()
    at.agent(auth={"type": "BearerToken"})
    at.serves()
    assert operator.stop() == 0
    at.delete("AgentService", "agent")

    def gone() -> bool:
        return not any(at.list(kind, of="agent") for kind in (*CHILDREN, "Secret", "ReplicaSet", "Pod"))

    # the module's own operator is up, but it deletes nothing: the garbage collector does
    eventually("every child is gone", gone, seconds=60)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_an_agent_deleted_and_made_again_at_once_ends_with_children_of_its_own(
    operator: OperatorProcess, at: Workbench, audit: Audit, propagation: str
):
    old = at.agent()
    at.serves()
    at.delete("AgentService", "agent", propagation=propagation)
    eventually("the name is free", lambda: at.find("AgentService", "agent") is None)
    new = at.agent(replicas=2)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]

    def made_again() -> bool:
        for kind in CHILDREN:
            (child,) = at.list(kind, of="agent")
            assert [r["uid"] for r in child["metadata"]["ownerReferences"]] == [new["metadata"]["uid"]]
            assert "deletionTimestamp" not in child["metadata"]
        return bool(at.get("Deployment", "agent")["spec"]["replicas"] == 2)

    eventually("all children are the new one's", made_again, seconds=60)
    at.settles("Ready", "False", "Progressing")
    at.quiet(audit)
    assert made_again()


def the_garbage_collector_is_up_to_date(at: Workbench) -> None:
    nobody = {"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": str(uuid.uuid4())}
    at.create("ConfigMap", {"metadata": {"name": "nobodys", "ownerReferences": [nobody]}})
    eventually("what has no owner is gone", lambda: at.find("ConfigMap", "nobodys") is None, seconds=120)


def test_orphans_of_a_deleted_namesake_are_taken_only_when_asked(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent()
    at.serves()
    before = {kind: at.list(kind, of="agent")[0]["metadata"]["uid"] for kind in CHILDREN}
    the_garbage_collector_is_up_to_date(at)  # it deletes what it has not heard of in time to orphan it
    at.delete("AgentService", "agent", propagation="Orphan")
    eventually("the name is free", lambda: at.find("AgentService", "agent") is None)
    at.quiet(audit)
    assert {kind: at.list(kind, of="agent")[0]["metadata"]["uid"] for kind in CHILDREN} == before
    new = at.agent()
    at.settles("Stalled", "True", "Conflict")
    at.annotate("agent", adopt="true")
    at.settles("Stalled", "absent")
    for kind in CHILDREN:
        (child,) = at.list(kind, of="agent")
        assert child["metadata"]["uid"] == before[kind]
        assert [r["uid"] for r in child["metadata"]["ownerReferences"]] == [new["metadata"]["uid"]]
