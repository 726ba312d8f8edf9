"""With `rollout.restartOnSecretChange` a key of a Secret that the pods read replaces them; no other key does, nor anything that goes wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.settings import REPOSITORY

from .fake_kubelet import kubelet
from .operator_process import CHILDREN, Audit, OperatorProcess, Workbench, eventually

EXAMPLE = str(REPOSITORY / "examples" / "secret-changes.yaml")
ANNOTATION = "agentservice.dev/secrets-digest"
FOLLOWED = "SecretChangesFollowed"
OFTEN = {"SECRETS_SECONDS": "1"}


@pytest.fixture(scope="module")
def operator(make_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    """One that looks at Secrets every second, and may."""
    process = make_operator(**OFTEN).start()
    yield process
    assert process.stop() == 0
    assert "please report it" not in process.log


def secret(at: Workbench, **values: str) -> None:
    at.create("Secret", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": values})


def change(at: Workbench, name: str = "db", **values: str) -> None:
    at.patch("Secret", name, {"stringData": values})


def reads(key: str) -> dict[str, Any]:
    """A specification whose pods read this key of the Secret db, and are replaced when it changes."""
    variable = {"name": "VALUE", "valueFrom": {"secretKeyRef": {"name": "db", "key": key}}}
    return {"runtime": {"env": [variable]}, "rollout": {"restartOnSecretChange": True}}


def digest(at: Workbench, name: str = "agent") -> str:
    """What the pods of the agent bear. Fails when it is nothing."""
    annotations = at.get("Deployment", name)["spec"]["template"]["metadata"].get("annotations") or {}
    return str(annotations[ANNOTATION])


def becomes_another(at: Workbench, before: str, name: str = "agent") -> str:
    return str(eventually(f"{name} bears another digest", lambda: (now := digest(at, name)) != before and now))


def is_reconciled_again(at: Workbench, name: str = "agent") -> None:
    """Have something done to the agent, so that whatever else there was to do has been done too."""
    replicas = at.get("AgentService", name)["spec"]["replicas"] + 1
    at.patch("AgentService", name, {"spec": {"replicas": replicas}})
    eventually("it is scaled", lambda: at.get("Deployment", name)["spec"]["replicas"] == replicas)


def test_a_changed_key_of_the_example_replaces_its_pods_and_says_why(operator: OperatorProcess, at: Workbench):
    at.kubectl("apply", "--filename", EXAMPLE)
    name = "secret-changes"
    with kubelet(at):
        at.settles("Ready", "True", name=name)
        assert "every 1 s" in at.settles(FOLLOWED, "True", "Followed", name=name)
        before = digest(at, name)
        (old,) = at.list("Pod", of=name)
        change(at, name, url="postgresql://agent:another-example-password@postgres:5432/agent")
        becomes_another(at, before, name)
        eventually(
            "another pod serves alone",
            lambda: (
                (pods := at.list("Pod", of=name)) and old["metadata"]["uid"] not in {p["metadata"]["uid"] for p in pods}
            ),
        )
        at.settles("Ready", "True", name=name)
    told = eventually("it is said", lambda: [e for e in at.list("Event") if e["reason"] == "SecretChanged"])
    assert told[0]["regarding"]["name"] == name


def test_another_key_of_the_same_secret_replaces_nothing(operator: OperatorProcess, at: Workbench):
    secret(at, url="1", note="1")
    at.agent("agent", **reads("url"))
    at.agent("other", **reads("note"))
    before, of_other = (eventually("a digest", lambda name=name: digest(at, name)) for name in ("agent", "other"))
    change(at, note="2")
    becomes_another(at, of_other, "other")  # so the operator has read the Secret as it is now
    is_reconciled_again(at)
    assert digest(at) == before
    change(at, url="2")
    becomes_another(at, before)


def test_while_paused_nothing_happens_and_afterwards_it_does(operator: OperatorProcess, at: Workbench):
    secret(at, url="1")
    for name in ("agent", "other"):
        at.agent(name, **reads("url"))
    before, of_other = (eventually("a digest", lambda name=name: digest(at, name)) for name in ("agent", "other"))
    at.annotate("agent", paused="true")
    at.settles(FOLLOWED, "Unknown", "Paused")
    change(at, url="2")
    becomes_another(at, of_other, "other")
    at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Answer at length."}}})
    at.settles("Ready", "False", "Paused")
    assert digest(at) == before
    at.annotate("agent", paused=None)
    becomes_another(at, before)
    at.settles(FOLLOWED, "True")


def test_a_secret_that_is_away_for_a_while_replaces_nothing(operator: OperatorProcess, at: Workbench):
    secret(at, url="1")
    at.agent(**reads("url"))
    before = eventually("a digest", lambda: digest(at))
    at.delete("Secret", "db")
    assert "db, key url" in at.settles(FOLLOWED, "False", "SecretNotFound")
    is_reconciled_again(at)
    assert digest(at) == before
    secret(at, url="1")
    at.settles(FOLLOWED, "True", "Followed")
    is_reconciled_again(at)
    assert digest(at) == before


def test_the_field_is_the_only_way_in_and_a_way_out(operator: OperatorProcess, at: Workbench, audit: Audit):
    secret(at, url="1")
    at.agent(**{**reads("url"), "rollout": {}})
    at.serves()
    at.settles(FOLLOWED, "absent")
    plain = at.get("Deployment", "agent")["spec"]["template"]
    at.patch("AgentService", "agent", {"spec": {"rollout": {"restartOnSecretChange": True}}})
    eventually("a digest", lambda: digest(at))
    at.patch("AgentService", "agent", {"spec": {"rollout": None}})
    eventually("none", lambda: at.get("Deployment", "agent")["spec"]["template"] == plain)


def test_at_rest_and_after_a_restart_nothing_is_written(operator: OperatorProcess, at: Workbench, audit: Audit):
    secret(at, url="1", note="1")
    redis = {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}
    at.agent(**reads("note"), redis=redis, queue={"enabled": True, "workers": {"replicas": 1}})
    before = eventually("a digest", lambda: digest(at))
    assert eventually("the workers bear it too", lambda: digest(at, "agent-workers")) == before
    at.settles(FOLLOWED, "True")
    at.quiet(audit, seconds=3)
    assert operator.stop() == 0
    audit.forget()
    operator.start()
    at.quiet(audit, seconds=3)
    assert audit.writes(namespace=at.namespace) == []
    assert digest(at) == before


def test_two_installations_with_keys_of_their_own_come_to_rest_and_follow_all_the_same(
    operator: OperatorProcess, make_operator: Callable[..., OperatorProcess], at: Workbench, audit: Audit
):
    secret(at, url="1")
    at.agent(**reads("url"))
    before = eventually("a digest", lambda: digest(at))
    other = make_operator(WATCH_NAMESPACES=at.namespace, LEASE_NAME=at.namespace, **OFTEN).start()
    at.quiet(audit, seconds=3)
    assert digest(at) == before, "what cannot be compared replaces nothing"
    change(at, url="2")
    becomes_another(at, before)
    at.quiet(audit, seconds=3)
    at.settles(FOLLOWED, "True", "Followed")
    assert other.stop() == 0


def test_no_value_is_told_anywhere(operator: OperatorProcess, at: Workbench):
    canaries = ("canary-1b0f6d", "canary-77c2e4")
    secret(at, url=canaries[0])
    at.agent(**reads("url"))
    before = eventually("a digest", lambda: digest(at))
    change(at, url=canaries[1])
    becomes_another(at, before)
    eventually("it is said", lambda: [e for e in at.list("Event") if e["reason"] == "SecretChanged"])
    at.delete("Secret", "db")
    at.settles(FOLLOWED, "False")
    kinds = ("AgentService", "Event", "Pod", "ReplicaSet", *CHILDREN)
    told = operator.log + operator.metrics() + json.dumps([at.list(kind) for kind in kinds])
    for canary in canaries:
        for text in (canary, base64.b64encode(canary.encode()).decode()):
            assert text not in told
    assert before in told
