"""The generated token is made once, told to nobody, and made anew only when a pod misses it."""

from __future__ import annotations

import base64
import json
import time

from . import fake_kubelet
from .fake_kubelet import kubelet
from .operator_process import CHILDREN, Audit, OperatorProcess, Workbench, eventually

BEARER = {"type": "BearerToken"}


def secret_name(at: Workbench) -> str:
    return str(at.get("AgentService", "agent")["status"]["auth"]["secretName"])


def token(at: Workbench) -> str:
    return base64.b64decode(at.get("Secret", secret_name(at))["data"]["token"]).decode()


def test_the_token_is_generated_once_into_a_secret_with_the_uid_in_its_name(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    uid = at.agent(auth=BEARER)["metadata"]["uid"]
    at.serves()
    secret = at.get("Secret", secret_name(at))
    assert secret["metadata"]["name"] == f"agent-token-{uid.replace('-', '')[:8]}"
    assert [r["uid"] for r in secret["metadata"]["ownerReferences"]] == [uid]
    assert len(token(at)) >= 43, "256 bits in base64"
    before = secret["metadata"]["resourceVersion"]
    at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Answer at length."}, "replicas": 2}})
    eventually("the change", lambda: at.get("Deployment", "agent")["spec"]["replicas"] == 2)
    at.quiet(audit)
    assert at.get("Secret", secret["metadata"]["name"])["metadata"]["resourceVersion"] == before
    assert len([w for w in audit.writes(namespace=at.namespace) if w.resource == "secrets"]) == 1
    volumes = at.get("Deployment", "agent")["spec"]["template"]["spec"]["volumes"]
    (source,) = next(v["projected"]["sources"] for v in volumes if v["name"] == "secrets")
    assert source["secret"]["name"] == secret["metadata"]["name"]


def test_a_restart_neither_changes_nor_asks_for_the_secret(make_operator, at: Workbench, audit: Audit):
    operator = make_operator(WATCH_NAMESPACES=at.namespace, LEASE_NAME=at.namespace).start()
    at.agent(auth=BEARER)
    at.serves()
    at.quiet(audit)
    before = token(at)
    assert operator.stop() == 0
    audit.forget()
    operator.start()
    at.quiet(audit)
    assert audit.writes(namespace=at.namespace) == []
    assert token(at) == before
    assert operator.stop() == 0


def test_an_agent_made_again_gets_a_token_of_its_own(operator: OperatorProcess, at: Workbench):
    at.agent(auth=BEARER)
    at.serves()
    first, name = token(at), secret_name(at)
    at.delete("AgentService", "agent", propagation="Foreground")
    eventually("it is gone", lambda: at.find("AgentService", "agent") is None)
    at.agent(auth=BEARER)
    at.serves()
    assert secret_name(at) != name
    assert token(at) != first


def test_a_deleted_secret_is_made_again_when_the_kubelet_says_that_it_is_missing(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    """The operator may not read Secrets: before a pod misses it, it cannot know, and a new token would break callers."""
    with kubelet(at) as node:
        at.agent(auth=BEARER)
        at.settles("Ready", "True")
        first, name = token(at), secret_name(at)
        at.delete("Secret", name)
        at.quiet(audit)
        assert at.find("Secret", name) is None, "the pods that run have their token"
        node.behave = fake_kubelet.creating
        (pod,) = at.list("Pod", of="agent")
        at.delete("Pod", pod["metadata"]["name"])
        replacement = eventually(
            "another pod",
            lambda: next(p for p in at.list("Pod", of="agent") if p["metadata"]["uid"] != pod["metadata"]["uid"]),
        )
        node.cannot_mount(replacement, f'MountVolume.SetUp failed for volume "secrets" : secret "{name}" not found')
        eventually("the Secret is back", lambda: at.find("Secret", name))
        assert token(at) != first
        node.behave = fake_kubelet.running
        at.settles("Ready", "True")
        at.quiet(audit)
        writes = [w for w in audit.writes(namespace=at.namespace) if w.resource == "secrets" and w.code == 201]
        assert len(writes) == 2


def test_the_token_is_told_nowhere_but_in_the_secret(operator: OperatorProcess, at: Workbench):
    with kubelet(at) as node:
        at.agent(auth=BEARER)
        at.settles("Ready", "True")
        canary = token(at)
        name = secret_name(at)
        at.patch("AgentService", "agent", {"spec": {"replicas": 2}})
        node.behave = fake_kubelet.secret_missing(name)
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Answer at length."}}})
        at.settles("Ready", "False", "SecretNotFound")
        time.sleep(1)
        told = [
            operator.log,
            operator.metrics(),
            json.dumps([at.list(kind) for kind in ("AgentService", "Event", "Pod", "ReplicaSet", *CHILDREN)]),
        ]
    encoded = base64.b64encode(canary.encode()).decode()
    for text in told:
        assert canary not in text and encoded not in text
    assert at.namespace in "".join(told)


def test_tokens_that_the_specification_names_make_no_secret(operator: OperatorProcess, at: Workbench, audit: Audit):
    own = {
        "type": "BearerToken",
        "tokens": [{"name": "web", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}}],
    }
    at.agent(auth=own)
    at.serves()
    at.quiet(audit)
    assert at.list("Secret") == []
    assert "auth" not in at.get("AgentService", "agent")["status"]
