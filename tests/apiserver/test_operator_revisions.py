"""A revision is a configuration and a pod template that belong together: kept as long as anything may go back to it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from . import fake_kubelet
from .fake_kubelet import kubelet
from .operator_process import Audit, OperatorProcess, Workbench, eventually


def change(at: Workbench, text: str, **more: Any) -> str:
    """Make a new revision with these instructions and return the name of its configuration."""
    before = at.config_map()
    at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": text}, **more}})
    return str(eventually("a new revision", lambda: at.config_map() != before and at.config_map()))


def names(at: Workbench) -> set[str]:
    return {live["metadata"]["name"] for live in at.list("ConfigMap", of="agent")}


def test_an_old_revisions_configuration_is_left_alone_while_a_replica_set_may_go_back_to_it(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    with kubelet(at):
        at.agent()
        at.settles("Ready", "True")
        old = at.config_map()
        new = change(at, "Answer at length.")
        at.settles("Ready", "True")
        assert names(at) == {old, new}
        at.quiet(audit)
        audit.forget()
        at.patch("ConfigMap", old, {"metadata": {"labels": {"note": "mine"}}})
        at.quiet(audit)
        assert audit.writes(namespace=at.namespace) == []
        at.delete("ConfigMap", old)
        at.quiet(audit)
        assert names(at) == {new}, "nobody asked for the old revision"


def test_configurations_are_pruned_by_reference_and_never_by_age(operator: OperatorProcess, at: Workbench):
    """A, B, C, A again: the ReplicaSet of A is the oldest and the current one."""
    with kubelet(at):
        at.agent(rollout={"revisionHistoryLimit": 1})
        at.settles("Ready", "True")
        a = at.config_map()
        b = change(at, "B")
        at.settles("Ready", "True")
        c = change(at, "C")
        at.settles("Ready", "True")
        eventually("A is pruned with its ReplicaSet", lambda: names(at) == {b, c})
        assert change(at, "Answer briefly.") == a
        at.settles("Ready", "True")
        eventually("B is pruned", lambda: names(at) == {a, c})


def test_a_pod_that_is_still_terminating_keeps_its_configuration(operator: OperatorProcess, at: Workbench):
    with kubelet(at):
        at.agent(rollout={"revisionHistoryLimit": 0})
        at.settles("Ready", "True")
        old = at.config_map()
        (pod,) = at.list("Pod", of="agent")
        at.patch("Pod", pod["metadata"]["name"], {"metadata": {"finalizers": ["example.com/hold"]}})
        new = change(at, "Answer at length.")
        at.settles("Ready", "True")
        eventually("the old ReplicaSet is gone", lambda: len(at.list("ReplicaSet", of="agent")) == 1)
        time.sleep(1)
        assert names(at) == {old, new}
        at.patch("Pod", pod["metadata"]["name"], {"metadata": {"finalizers": None}})
        eventually("nothing needs it any more", lambda: names(at) == {new})


def test_under_the_paused_annotation_an_undo_brings_the_old_configuration_back_exactly(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    with kubelet(at):
        at.agent(runtime={"env": [{"name": "OLD", "value": "1"}]})
        at.settles("Ready", "True")
        old = at.get("Deployment", "agent")["spec"]["template"]
        change(at, "Answer at length.", runtime={"env": [{"name": "NEW", "value": "2"}]})
        at.settles("Ready", "True")
        at.annotate("agent", paused="true")
        at.kubectl("rollout", "undo", "deployment/agent")
        eventually("the old pods", lambda: at.get("Deployment", "agent")["spec"]["template"] == old)
        message = at.settles("Ready", "False", "Paused")
        assert "agentservice.dev/paused" in message
        at.quiet(audit)
        assert at.get("Deployment", "agent")["spec"]["template"] == old
        at.delete("Service", "agent")
        time.sleep(1)
        assert at.find("Service", "agent") is None, "paused: nothing is written"
        at.annotate("agent", paused=None)
        eventually("the declared one is back", lambda: at.get("Deployment", "agent")["spec"]["template"] != old)
        at.settles("Ready", "True")
        container = at.get("Deployment", "agent")["spec"]["template"]["spec"]["containers"][0]
        assert {"OLD", "NEW"} & {e["name"] for e in container["env"]} == {"NEW"}


def test_without_the_annotation_an_undo_is_taken_back(operator: OperatorProcess, at: Workbench):
    with kubelet(at):
        at.agent(runtime={"env": [{"name": "OLD", "value": "1"}]})
        at.settles("Ready", "True")
        change(at, "Answer at length.", runtime={"env": [{"name": "NEW", "value": "2"}]})
        at.settles("Ready", "True")
        declared = at.get("Deployment", "agent")["spec"]["template"]
        generation = at.get("Deployment", "agent")["metadata"]["generation"]
        at.kubectl("rollout", "undo", "deployment/agent")

        def back() -> bool:
            live = at.get("Deployment", "agent")
            return live["metadata"]["generation"] > generation + 1 and live["spec"]["template"] == declared

        eventually("the declared one is back", back)
        at.settles("Ready", "True")
        assert len(at.list("ReplicaSet", of="agent")) == 2, "no template in between, that no revision ever had"


@pytest.fixture
def prompted(operator: OperatorProcess, at: Workbench) -> Workbench:
    """An agent whose instructions are in a ConfigMap of somebody else, which has another key too."""
    at.create("ConfigMap", {"metadata": {"name": "prompt"}, "data": {"system.md": "Answer briefly.", "other": "x"}})
    at.agent(agent={"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "system.md"}}})
    at.serves()
    return at


def test_a_changed_instructions_key_is_a_new_revision(prompted: Workbench):
    before = prompted.config_map()
    prompted.patch("ConfigMap", "prompt", {"data": {"system.md": "Antworte knapp. {{x}} 🙂"}})
    eventually("a new revision", lambda: prompted.config_map() != before)
    content = prompted.get("ConfigMap", prompted.config_map())["data"]["config.json"]
    assert "Antworte knapp. {{x}} 🙂" in content


def test_another_keys_change_writes_nothing(prompted: Workbench, audit: Audit):
    prompted.quiet(audit)
    audit.forget()
    prompted.patch("ConfigMap", "prompt", {"data": {"other": "y"}})
    prompted.quiet(audit)
    assert audit.writes(namespace=prompted.namespace, events=True) == []


def test_instructions_that_vanish_leave_the_last_good_revision_and_come_back_by_themselves(prompted: Workbench):
    before = prompted.get("Deployment", "agent")["spec"]
    prompted.delete("ConfigMap", "prompt")
    message = prompted.settles("SpecAccepted", "False", "ReferenceNotFound")
    assert f"ConfigMap {prompted.namespace}/prompt does not exist: create it with the key system.md" in message
    assert prompted.condition("Ready")["reason"] == "ReferenceNotFound"
    assert prompted.condition("Stalled")["status"] == "absent", "somebody may create it any time"
    assert prompted.get("Deployment", "agent")["spec"] == before
    prompted.create("ConfigMap", {"metadata": {"name": "prompt"}, "data": {"other": "x"}})
    assert "has no key system.md: add it" in eventually(
        "the key is missed",
        lambda: (
            "no key" in prompted.condition("SpecAccepted")["message"] and prompted.condition("SpecAccepted")["message"]
        ),
    )
    prompted.patch("ConfigMap", "prompt", {"data": {"system.md": "Answer briefly."}})
    prompted.settles("SpecAccepted", "True")
    assert prompted.get("Deployment", "agent")["spec"] == before


def test_an_agent_that_waits_for_its_instructions_starts_when_they_appear(operator: OperatorProcess, at: Workbench):
    at.agent(agent={"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "system.md"}}})
    at.settles("SpecAccepted", "False", "ReferenceNotFound")
    assert at.find("Deployment", "agent") is None
    at.create("ConfigMap", {"metadata": {"name": "prompt"}, "data": {"system.md": "Answer briefly."}})
    at.settles("SpecAccepted", "True")
    at.serves()


def test_an_own_service_account_takes_the_place_of_the_generated_one_which_goes_after_the_rollout(
    operator: OperatorProcess, at: Workbench
):
    with kubelet(at) as node:
        at.agent()
        at.settles("Ready", "True")
        old = at.get("AgentService", "agent")["status"]["revision"]
        at.create("ServiceAccount", {"metadata": {"name": "own"}})
        node.behave = fake_kubelet.by_revision(fake_kubelet.starting, old=old)
        at.patch("AgentService", "agent", {"spec": {"runtime": {"serviceAccountName": "own"}}})
        at.settles("Ready", "False", "Progressing")
        time.sleep(1)
        assert at.find("ServiceAccount", "agent"), "the old pods run as it"
        node.behave = fake_kubelet.running
        at.settles("Ready", "True")
        eventually("nothing needs it", lambda: at.find("ServiceAccount", "agent") is None)
        assert at.find("ServiceAccount", "own")
