"""The operator comes, goes, is killed and is one of two: objects end right, and nothing is written that need not be."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from devcluster.standalone import StandaloneControlPlane

from .operator_process import (
    CHILDREN,
    SYSTEM_NAMESPACE,
    Audit,
    OperatorProcess,
    Workbench,
    ensure_namespace,
    eventually,
)

Make = Callable[..., OperatorProcess]


def lease(at: Workbench, name: str) -> dict[str, str]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{name}"
    return at.api.request("GET", path)["spec"]


@pytest.fixture
def operator(make_operator: Make, at: Workbench):
    """An operator for one namespace, with a lease of its own: these tests stop and kill it."""
    process = make_operator(WATCH_NAMESPACES=at.namespace, LEASE_NAME=at.namespace).start()
    yield process
    process.kill()


def crowd(at: Workbench, number: int = 5) -> list[str]:
    """Some agents of different kinds, created and at rest."""
    names = [f"agent-{index}" for index in range(number)]
    at.create("ConfigMap", {"metadata": {"name": "prompt"}, "data": {"system.md": "Answer briefly."}})
    variety = [
        {},
        {"agent": {"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "system.md"}}}},
        {"auth": {"type": "BearerToken"}, "replicas": 2},
        {"runtime": {"env": [{"name": "A", "value": ""}, {"name": "B", "value": "1"}]}, "suspend": True},
        {"agent": {"instructions": "{{x}}", "input": {"schema": {"type": "object"}, "promptTemplate": "{nope}"}}},
    ]
    for index, name in enumerate(names):
        at.agent(name, **variety[index % len(variety)])
    for name in names:
        eventually(
            f"{name} is looked at",
            lambda name=name: at.get("AgentService", name)["status"]["observedGeneration"] == 1,
        )
    return names


def versions(at: Workbench, names: list[str]) -> dict[str, str]:
    return {f"{name}/{key}": version for name in names for key, version in at.versions(name).items()}


def test_at_rest_nothing_is_written_but_the_lease(operator: OperatorProcess, at: Workbench, audit: Audit):
    crowd(at)
    at.quiet(audit, seconds=2)
    audit.forget()
    time.sleep(5)
    assert audit.writes(namespace=at.namespace, events=True) == []
    system = audit.writes(namespace=SYSTEM_NAMESPACE, events=True, leases=True)
    assert {(write.resource, write.name) for write in system} == {("leases", at.namespace)}


def test_a_restart_writes_nothing_but_the_lease(operator: OperatorProcess, at: Workbench, audit: Audit):
    names = crowd(at)
    at.quiet(audit, seconds=2)
    before = versions(at, names)
    assert operator.stop() == 0
    audit.forget()
    operator.start()
    eventually("it has looked at each", lambda: operator.metric("controller_runtime_reconcile_total") >= len(names))
    at.quiet(audit)
    assert audit.writes(namespace=at.namespace, events=True) == []
    assert versions(at, names) == before


def test_a_specification_with_every_field_comes_to_rest_and_stays_there_over_a_restart(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    """Whatever the API server defaults or normalises in a child must not look like somebody's edit."""
    at.agent(
        agent={
            "instructions": "Answer briefly.",
            "mcpServers": [
                {
                    "name": "tickets",
                    "url": "http://tickets/mcp",
                    "headers": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "mcp", "key": "a"}}}],
                }
            ],
        },
        model={"name": "openai-chat:gpt-4o-mini", "apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}},
        replicas=3,
        auth={
            "type": "BearerToken",
            "tokens": [{"name": "web", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}}],
        },
        runtime={
            "image": "registry.example/mine:1",
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "registry"}],
            "env": [
                {"name": "EMPTY", "value": ""},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url", "optional": False}}},
            ],
            "envFrom": [{"configMapRef": {"name": "more", "optional": False}}],
            "volumes": [
                {"name": "scratch", "emptyDir": {"sizeLimit": "0.5Gi"}},
                {"name": "memory", "emptyDir": {}},
                {"name": "files", "configMap": {"name": "files", "optional": False}},
                {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "a", "path": "a"}]}},
                {
                    "name": "all",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": {"path": "token", "audience": "vault"}},
                            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                            {"configMap": {"name": "files"}},
                        ]
                    },
                },
            ],
            "volumeMounts": [
                {"name": "scratch", "mountPath": "/scratch", "readOnly": False},
                {"name": "keys", "mountPath": "/keys", "readOnly": True},
            ],
            "resources": {"requests": {"cpu": "0.25", "memory": "1024Mi"}, "limits": {"cpu": 1, "memory": "2Gi"}},
            "serviceAccountAnnotations": {"example.com/role": "r", "example.com/empty": ""},
            "podLabels": {"team": "a", "empty": ""},
            "podAnnotations": {"example.com/a": "1"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"operator": "Exists"}, {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}},
                        }
                    ]
                }
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 2,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"a": "b"}},
                }
            ],
        },
        rollout={"maxSurge": 0, "maxUnavailable": "50%", "revisionHistoryLimit": 0},
        network={"service": {"type": "LoadBalancer", "port": 8080, "annotations": {"example.com/lb": "internal"}}},
    )
    at.serves()
    at.settles("SpecAccepted", "True")
    at.quiet(audit, seconds=2)
    created = [write for write in audit.writes(namespace=at.namespace) if write.resource != "agentservices"]
    assert {write.verb for write in created} == {"create"}, "what was just created was written again"
    before = versions(at, ["agent"])
    operator.stop()
    audit.forget()
    operator.start()
    at.quiet(audit, seconds=2)
    assert audit.writes(namespace=at.namespace, events=True) == []
    assert versions(at, ["agent"]) == before


def test_an_operator_that_was_away_makes_everything_right_when_it_returns(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    for name in ("changed", "robbed", "edited", "deleted", "kept"):
        at.agent(name)
        at.serves(name)
    at.quiet(audit)
    kept = at.versions("kept")
    assert operator.stop() == 0
    at.patch("AgentService", "changed", {"spec": {"agent": {"instructions": "Answer at length."}, "replicas": 4}})
    for kind in CHILDREN:
        at.delete(kind, at.list(kind, of="robbed")[0]["metadata"]["name"])
    at.patch("Service", "edited", [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}], how="json")
    at.delete("AgentService", "deleted")
    at.agent("new")
    audit.forget()
    operator.start()

    def right() -> bool:
        changed = at.get("Deployment", "changed")
        assert changed["spec"]["replicas"] == 4
        config = at.get("ConfigMap", at.config_map("changed"))["data"]["config.json"]
        assert "Answer at length." in config
        assert all(at.list(kind, of=name) for kind in CHILDREN for name in ("robbed", "new"))
        assert at.get("Service", "edited")["spec"]["ports"][0]["port"] == 80
        return not any(at.list(kind, of="deleted") for kind in CHILDREN)

    eventually("everything is right", right, seconds=60)
    for name in ("changed", "robbed", "new"):
        at.serves(name)
    at.quiet(audit)
    assert at.versions("kept") == kept


def test_sigterm_ends_it_in_order_and_releases_the_lease(operator: OperatorProcess, at: Workbench):
    assert lease(at, at.namespace)["holderIdentity"].startswith(f"{operator.name}_")
    assert operator.stop(seconds=30) == 0
    assert lease(at, at.namespace)["holderIdentity"] == ""
    assert "Traceback" not in operator.log


def test_sigterm_during_work_leaves_nothing_half_done_for_long(make_operator: Make, at: Workbench, audit: Audit):
    operator = make_operator(WATCH_NAMESPACES=at.namespace, LEASE_NAME=at.namespace).start()
    names = [f"agent-{index:02}" for index in range(20)]
    for name in names:
        at.agent(name)
    assert operator.stop() == 0
    operator.start()
    for name in names:
        at.serves(name)
        assert all(len(at.list(kind, of=name)) == 1 for kind in CHILDREN)
    assert [write for write in audit.writes(namespace=at.namespace) if write.code >= 500] == []


@pytest.fixture
def pair(make_operator: Make, control_plane: StandaloneControlPlane, at: Workbench):
    """Two replicas, each acting as a user of its own, so that the audit log tells who wrote what."""
    processes: list[OperatorProcess] = []
    ensure_namespace(control_plane, SYSTEM_NAMESPACE)
    for user in ("replica-a", "replica-b"):
        control_plane.kubectl(
            *("create", "clusterrolebinding", f"{at.namespace}-{user}", "--clusterrole=cluster-admin"),
            f"--user={at.namespace}-{user}",
        )
        kubeconfig = control_plane.user(f"{at.namespace}-{user}")
        processes.append(make_operator(kubeconfig=kubeconfig, WATCH_NAMESPACES=at.namespace, LEASE_NAME=at.namespace))
    processes[0].start()
    processes[1].start(lead=False)
    yield processes
    for process in processes:
        process.kill()


def users(at: Workbench, audit: Audit) -> set[str]:
    return {write.user.removeprefix(f"{at.namespace}-") for write in audit.writes(namespace=at.namespace, events=True)}


def test_of_two_operators_exactly_one_writes(pair, at: Workbench, audit: Audit):
    assert [process.leads for process in pair] == [True, False]
    crowd(at)
    at.quiet(audit)
    assert users(at, audit) == {"replica-a"}


def test_when_the_leader_is_killed_the_other_takes_over_and_writes_nothing_twice(pair, at: Workbench, audit: Audit):
    first, second = pair
    names = crowd(at)
    at.quiet(audit)
    before = versions(at, names)
    audit.forget()
    killed = time.monotonic()
    first.kill()
    eventually("the other leads", lambda: second.leads, seconds=60)
    assert time.monotonic() - killed < 40, "15 s of lease, 2 s of retry, and a machine that may be busy"
    at.agent("late")
    at.serves("late")
    at.quiet(audit)
    assert users(at, audit) == {"replica-b"}
    assert {write.name for write in audit.writes(namespace=at.namespace)} <= {"late", at.config_map("late")}
    assert versions(at, names) == before


def test_a_rolling_restart_hands_over_at_once(pair, at: Workbench):
    first, second = pair
    assert first.stop() == 0
    eventually("the other leads", lambda: second.leads, seconds=60)
    at.agent()
    at.serves()


def test_it_outlives_the_api_servers_restart(
    operator: OperatorProcess, control_plane: StandaloneControlPlane, at: Workbench, audit: Audit
):
    at.agent()
    at.serves()
    at.quiet(audit)
    before = at.versions()
    control_plane.stop_program("kube-apiserver")
    control_plane.start_program("kube-apiserver")
    control_plane.wait_ready()
    time.sleep(1)
    restarted = operator.start_again_if_it_lost_its_lease()  # where the server's start took too long
    at.agent("after")
    at.serves("after")
    at.delete("Service", "agent")
    eventually("the Service is back", lambda: at.find("Service", "agent"))
    at.quiet(audit)
    after = at.versions()
    assert {key: after[key] for key in after if key != "Service/agent"} == {
        key: before[key] for key in before if key != "Service/agent"
    }
    assert operator.leads
    assert restarted or "leadership lost" not in operator.log
    assert "please report it" not in operator.log


def test_an_operator_cut_off_for_longer_than_its_lease_ends_instead_of_writing_late(
    operator: OperatorProcess, control_plane: StandaloneControlPlane, at: Workbench
):
    control_plane.stop_program("kube-apiserver")
    try:
        assert operator.wait(seconds=40) == 3
    finally:
        control_plane.start_program("kube-apiserver")
        control_plane.wait_ready()
    assert "leadership lost" in operator.log
    operator.start()
    at.agent()
    at.serves()


def test_a_history_compacted_behind_its_back_loses_no_change(
    operator: OperatorProcess, control_plane: StandaloneControlPlane, at: Workbench, audit: Audit
):
    """The watch is cut, and what it would have gone on from is compacted away: 410, list again."""
    for name in ("kept", "robbed", "deleted"):
        at.agent(name)
        at.serves(name)
    at.quiet(audit)
    control_plane.stop_program("kube-apiserver")
    control_plane.start_program("kube-apiserver")
    control_plane.wait_ready()
    at.delete("Service", "robbed")
    at.delete("AgentService", "deleted")
    at.agent("new")
    control_plane.compact()
    operator.start_again_if_it_lost_its_lease()
    eventually("the Service is back", lambda: at.find("Service", "robbed"))
    at.serves("new")
    eventually("the metrics forget it", lambda: f'namespace="{at.namespace}",name="deleted"' not in operator.metrics())
    at.delete("Deployment", "kept")
    eventually("the Deployment is back", lambda: at.find("Deployment", "kept"))


def test_its_log_is_json_with_the_objects_key_and_the_revision(operator: OperatorProcess, at: Workbench):
    at.agent()
    at.serves()
    record = next(
        record
        for record in operator.records()
        if record["message"].startswith("created ") and "Deployment agent" in record["message"]
    )
    assert (record["namespace"], record["name"]) == (at.namespace, "agent")
    assert record["revision"] == at.get("AgentService", "agent")["status"]["revision"]
    assert record["level"] == "info" and re.match(r"\d{4}-\d\d-\d\dT", record["time"])


def test_its_metrics_count_reconciles_requests_and_conditions(operator: OperatorProcess, at: Workbench):
    at.agent()
    at.settles("Ready", "False")
    assert operator.metric("controller_runtime_reconcile_total", result="success") >= 1
    assert operator.metric("rest_client_requests_total", method="POST", code="201") >= 4
    mine = {"namespace": at.namespace, "name": "agent", "type": "Ready"}
    eventually("the condition", lambda: operator.metric("agentservice_condition", **mine, status="False") == 1)
    at.delete("AgentService", "agent")
    eventually("it is forgotten", lambda: operator.metric("agentservice_condition", **mine) == 0)


def test_its_events_tell_what_it_did_and_are_not_repeated(operator: OperatorProcess, at: Workbench):
    at.agent()
    at.serves()
    at.delete("Service", "agent")

    def reasons() -> list[str]:
        return [e["reason"] for e in at.list("Event") if e.get("reportingController") == "agentservice.dev/operator"]

    eventually("an event of each", lambda: {"Created", "Restored"} <= set(reasons()) or reasons().count("Created") == 2)
    assert len(reasons()) == len({json.dumps(e["note"]) for e in at.list("Event") if e["reason"] in reasons()})
