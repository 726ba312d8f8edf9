"""What `status` and `doctor` say, from what the cluster says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentservice_api import Reason
from agentservice_api.crd import custom_resource_definition
from agentservice_cli.cluster.advice import advice
from agentservice_cli.cluster.doctor import Verdict, definition_check, kubernetes_version, leader, running
from agentservice_cli.cluster.report import Report, Workers, report
from agentservice_cli.cluster.status import show

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def live(
    *, generation: int = 2, seen: int = 2, ready: str = "True", reason: str = "Available", **more: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "hello",
            "namespace": "team-a",
            "uid": "u1",
            "generation": generation,
            "creationTimestamp": "2026-11-23T11:00:00Z",
            **more,
        },
        "spec": {"model": {"name": "test"}, "replicas": 3},
        "status": {
            "observedGeneration": seen,
            "readyReplicas": 2,
            "revision": "abc",
            "url": "http://hello.team-a.svc",
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": reason,
                    "message": "words",
                    "lastTransitionTime": "2026-11-23T11:59:00Z",
                }
            ],
        },
    }


def pod(name: str, *, ready: bool, waiting: dict[str, str] | None = None) -> dict[str, Any]:
    state = {"waiting": waiting} if waiting else {"running": {}}
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"uid-{name}",
            "labels": {"agentservice.dev/revision": "abc"},
        },
        "status": {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "agent", "restartCount": 1, "state": state}],
        },
    }


def test_a_ready_agent_is_told_with_how_to_ask_it() -> None:
    found = report(live(), pods=[pod("a", ready=True)], now=NOW)
    assert found.ready is True
    assert (found.replicas, found.wanted, found.age) == (2, 3, 3600)
    assert found.advice == ('ask it: agentservice ask hello -n team-a "Hello"',)
    assert found.conditions[0].age == 60


@pytest.mark.parametrize(("generation", "seen"), [(3, 2), (1, -1)])
def test_a_status_of_an_older_version_says_nothing_about_this_one(generation: int, seen: int) -> None:
    found = report(live(generation=generation, seen=seen), now=NOW)
    assert found.ready is None
    assert found.reason == "Unseen"
    assert "agentservice doctor" in found.advice[-1]


def test_a_pod_that_waits_is_told_with_its_reason_and_comes_first() -> None:
    pull = {"reason": "ImagePullBackOff", "message": "not found"}
    found = report(
        live(ready="False", reason="ImagePullFailed"),
        pods=[pod("a", ready=True), pod("b", ready=False, waiting=pull)],
        now=NOW,
    )
    assert [line.name for line in found.pods] == ["b", "a"]
    assert found.pods[0].state == "ImagePullFailed"
    assert "runtime.image" in found.pods[0].trouble
    assert "kubectl -n team-a describe pod b" in found.advice


def test_a_mount_that_fails_is_read_from_the_kubelets_event() -> None:
    waiting = pod("a", ready=False, waiting={"reason": "ContainerCreating"})
    waiting["status"]["containerStatuses"][0]["restartCount"] = 0
    event = {
        "type": "Warning",
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "secrets" : secret "openai" not found',
        "involvedObject": {"kind": "Pod", "name": "a", "uid": "uid-a"},
        "lastTimestamp": "2026-11-23T11:59:30Z",
        "count": 4,
    }
    found = report(live(ready="False", reason="SecretNotFound"), pods=[waiting], events=[event], now=NOW)
    assert found.pods[0].state == "SecretNotFound"
    assert 'secret "openai" not found' in found.pods[0].trouble
    assert (found.events[0].count, found.events[0].age) == (4, 30)


def test_the_command_that_makes_a_missing_secret_names_it_and_the_key_that_is_wanted() -> None:
    waiting = live(ready="False", reason="SecretNotFound")
    waiting["status"]["conditions"][0]["message"] = 'a pod waits for a Secret: secret "openai" not found'
    waiting["spec"]["model"]["apiKey"] = {"secretKeyRef": {"name": "openai", "key": "api-key"}}
    found = " ".join(report(waiting, now=NOW).advice)
    assert "create secret generic openai --from-file=api-key=FILE" in found


def test_the_workers_are_told_beside_the_pods_that_serve(capsys: pytest.CaptureFixture[str]) -> None:
    deployment = {"spec": {"replicas": 4}, "status": {"readyReplicas": 1}}
    found = report(live(), pods=[pod("hello-workers-a", ready=True)], workers=deployment, now=NOW)
    assert (found.workers, found.document()["workers"]) == (Workers(ready=1, wanted=4), {"ready": 1, "wanted": 4})
    show(found)
    assert "  workers   1 of 4 ready\n" in capsys.readouterr().out
    show(report(live(), now=NOW))
    assert "workers" not in capsys.readouterr().out


def test_a_paused_agent_is_told_first_of_all() -> None:
    found = report(live(annotations={"agentservice.dev/paused": "true"}), now=NOW)
    assert "agentservice.dev/paused-" in found.advice[0]


def test_the_newest_events_are_shown_in_order() -> None:
    events = [
        {"reason": f"e{i}", "eventTime": (NOW - timedelta(seconds=i)).isoformat(), "involvedObject": {}}
        for i in range(12)
    ]
    assert [line.reason for line in report(live(), events=events, now=NOW).events] == [
        f"e{i}" for i in range(7, -1, -1)
    ]


def test_every_reason_of_ready_has_advice() -> None:
    never_of_ready = {
        Reason.ACCEPTED, Reason.MOUNTED, Reason.NO_PODS, Reason.NOT_REFERENCED,
        Reason.PRICED, Reason.PRICE_UNKNOWN, Reason.WITHIN_BUDGET, Reason.BUDGET_WARNING, Reason.BUDGET_EXCEEDED,
        Reason.BUDGET_EXHAUSTED, Reason.LEDGER_NOT_SEEDED,
        Reason.SCALING, Reason.SCALED_EXTERNALLY, Reason.NOT_SCALING, Reason.SCALE_OUT_OFF, Reason.AUTOSCALER_PENDING,
        Reason.ROUTED, Reason.ROUTE_REFUSED, Reason.ROUTE_PENDING, Reason.GATEWAY_API_MISSING,
        Reason.KEDA_MISSING, Reason.PROMETHEUS_UNKNOWN, Reason.CUSTOM_METRICS_MISSING,
        Reason.FOLLOWED, Reason.SECRETS_UNREADABLE,
    }  # fmt: skip
    for reason in set(Reason) - never_of_ready:
        found = list(advice(reason, namespace="team-a", name="hello", pod="p", secret={}))
        assert found, reason
        assert "{" not in "".join(found).replace('{"spec"', "").replace('{"suspend"', "")


def test_an_unknown_reason_of_a_newer_operator_is_no_failure() -> None:
    assert isinstance(report(live(ready="False", reason="Newfangled"), now=NOW), Report)


def test_kubernetes_before_1_30_is_refused() -> None:
    assert kubernetes_version({"major": "1", "minor": "29+"}).verdict is Verdict.FAIL
    assert kubernetes_version({"major": "1", "minor": "30+", "gitVersion": "v1.30.1-gke"}).verdict is Verdict.OK


def crd() -> dict[str, Any]:
    return {**custom_resource_definition(), "status": {"conditions": [{"type": "Established", "status": "True"}]}}


def test_our_own_definition_is_recognised_whatever_its_prose() -> None:
    live_crd = crd()
    live_crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "translated"
    assert definition_check(live_crd, custom_resource_definition()).verdict is Verdict.OK


def test_a_definition_with_other_fields_names_them_and_says_which_side_to_upgrade() -> None:
    older = crd()
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["suspend"]
    check = definition_check(older, custom_resource_definition())
    assert (check.verdict, "the cluster lacks spec.suspend" in check.message) == (Verdict.WARN, True)
    assert "helm upgrade" in check.mend
    newer = crd()
    newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["notYet"] = {}
    check = definition_check(newer, custom_resource_definition())
    assert "this command line does not know spec.notYet" in check.message
    assert "pip install --upgrade" in check.mend


def test_a_definition_that_is_not_established_or_not_served_fails() -> None:
    assert definition_check({**crd(), "status": {}}, custom_resource_definition()).verdict is Verdict.FAIL
    unserved = crd()
    unserved["spec"]["versions"][0]["served"] = False
    assert definition_check(unserved, custom_resource_definition()).verdict is Verdict.FAIL


def deployment(*, ready: int, version: str = "0.1.0") -> dict[str, Any]:
    labels = {"app.kubernetes.io/version": version}
    return {
        "metadata": {"name": "op", "namespace": "sys", "labels": labels},
        "spec": {"replicas": 2},
        "status": {"readyReplicas": ready},
    }


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (deployment(ready=2), Verdict.OK),
        (deployment(ready=1), Verdict.WARN),
        (deployment(ready=0), Verdict.FAIL),
        (deployment(ready=2, version="9.9.9"), Verdict.WARN),
    ],
)
def test_the_operators_pods_and_version_are_judged(found: dict[str, Any], verdict: Verdict) -> None:
    assert running(found).verdict is verdict


def test_a_lease_that_nobody_renews_is_no_leader() -> None:
    def lease(seconds: int) -> dict[str, Any]:
        renewed = (NOW - timedelta(seconds=seconds)).isoformat()
        return {"spec": {"holderIdentity": "op-1", "renewTime": renewed, "leaseDurationSeconds": 15}}

    assert leader(lease(5), now=NOW, namespace="sys").verdict is Verdict.OK
    assert leader(lease(300), now=NOW, namespace="sys").verdict is Verdict.FAIL
    assert leader(None, now=NOW, namespace="sys").verdict is Verdict.FAIL


def test_how_the_budget_stands_is_told_in_one_line() -> None:
    agent = live()
    assert report(agent, now=NOW).budget == ""
    agent["status"]["budget"] = {"state": "Warning", "daily": {"percent": 84}, "monthly": {"percent": 0}}
    assert report(agent, now=NOW).budget == "Warning: today 84 %, this month 0 %"
    agent["status"]["budget"] = {"state": "Unknown"}
    assert report(agent, now=NOW).budget == "Unknown"
