"""KEDA decides the number of pods: where it is installed, and whoever decided before or decides after it, the number never moves by itself.

KEDA's CustomResourceDefinition is the real one; what its controllers do to our objects is done here by hand, step by step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.api import RefusedError
from devcluster.settings import REPOSITORY
from devcluster.standalone import StandaloneControlPlane

from .definitions import keda
from .operator_process import Audit, OperatorProcess, Workbench, eventually
from .test_operator_autoscaling import EXTERNAL, HPA, Counts, autoscaler, change, count, owners_of_the_count, scale
from .test_operator_budget import spend

KEDA = {"provider": "KEDA", "minReplicas": 2, "maxReplicas": 10}
ALONE = {"minReplicas": None, "maxReplicas": None}
FINALIZER = "finalizer.keda.sh"


def files() -> list[str]:
    return [argument for path in keda() for argument in ("--filename", str(path))]


def install(plane: StandaloneControlPlane) -> None:
    plane.kubectl("apply", "--server-side", *files())
    plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", *files())


def uninstall(plane: StandaloneControlPlane) -> None:
    """Let go of every ScaledObject, of other tests too, and take the definition away."""
    try:
        held = plane.api.request("GET", "/apis/keda.sh/v1alpha1/scaledobjects")["items"]
    except RefusedError:
        held = []
    for live in held:
        metadata = live["metadata"]
        path = f"/apis/keda.sh/v1alpha1/namespaces/{metadata['namespace']}/scaledobjects/{metadata['name']}"
        with contextlib.suppress(RefusedError):
            body = {"metadata": {"finalizers": None}}
            plane.api.request("PATCH", path, body, content_type="application/merge-patch+json")
    plane.kubectl("delete", "--ignore-not-found", "--timeout=60s", *files())


@pytest.fixture
def definition(control_plane: StandaloneControlPlane) -> Iterator[Callable[[bool], None]]:
    """Install or remove KEDA's CustomResourceDefinition; it is gone before and after the test."""
    uninstall(control_plane)
    yield lambda wanted: install(control_plane) if wanted else uninstall(control_plane)
    uninstall(control_plane)


@pytest.fixture(scope="module")
def installed(control_plane: StandaloneControlPlane) -> Iterator[None]:
    """KEDA's CustomResourceDefinition, for as long as the tests of this module last that ask for it."""
    install(control_plane)
    yield
    uninstall(control_plane)


def found(at: Workbench) -> dict[str, Any] | None:
    return at.find("ScaledObject", "agent")


def keda_takes_it(at: Workbench) -> None:
    """As KEDA's operator does: hold the ScaledObject, label it, say so, and make a HorizontalPodAutoscaler that bears its labels."""
    made = eventually("the ScaledObject is made", lambda: found(at), seconds=90)
    labels = {"scaledobject.keda.sh/name": "agent"}
    at.patch("ScaledObject", "agent", {"metadata": {"finalizers": [FINALIZER], "labels": labels}})
    keda_says(at, Ready="True", Active="False", Paused="False")
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "agent", "uid": made["metadata"]["uid"]}
    metadata = {"name": "keda-hpa-agent", "labels": {**made["metadata"]["labels"], **labels}}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    spec = {
        "scaleTargetRef": made["spec"]["scaleTargetRef"],
        "minReplicas": made["spec"]["minReplicaCount"],
        "maxReplicas": made["spec"]["maxReplicaCount"],
        "metrics": [{"type": "Resource", "resource": cpu}],
    }
    references = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    at.create("HorizontalPodAutoscaler", {"metadata": {**metadata, "ownerReferences": references}, "spec": spec})


def keda_says(at: Workbench, *, reason: str = "Why", **conditions: str) -> None:
    told = [
        {"type": kind, "status": status, "reason": reason, "message": "words"} for kind, status in conditions.items()
    ]
    at.patch("ScaledObject", "agent", {"status": {"conditions": told}}, subresource="status")


def keda_lets_go(at: Workbench) -> None:
    """As KEDA's operator does with a deleted ScaledObject; the garbage collector takes the autoscaler after it."""

    def is_deleted() -> bool:
        live = found(at)
        assert live is not None
        return "deletionTimestamp" in live["metadata"]

    eventually("the ScaledObject is deleted", is_deleted)
    at.patch("ScaledObject", "agent", {"metadata": {"finalizers": None}})
    eventually("its autoscaler is gone", lambda: at.find("HorizontalPodAutoscaler", "keda-hpa-agent") is None)


def test_without_keda_the_number_stays_and_with_it_a_scaled_object_is_made_by_itself(
    operator: OperatorProcess, at: Workbench, audit: Audit, definition: Callable[[bool], None]
):
    at.agent(replicas=4)
    at.serves()
    at.quiet(audit)
    counts = Counts(at)
    change(at, audit, autoscaling=KEDA, replicas=1)
    assert "install it" in at.settles("ScalingActive", "False", "KEDAMissing")
    assert at.condition("Stalled")["status"] == "absent"
    audit.forget()
    at.annotate("agent", touched="1")
    at.quiet(audit)
    assert audit.writes(namespace=at.namespace) == []

    definition(True)
    keda_takes_it(at)
    at.settles("ScalingActive", "True", "Scaling")
    at.quiet(audit)
    made = found(at)
    assert made is not None
    assert made["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "agent"}
    assert (made["spec"]["minReplicaCount"], made["spec"]["maxReplicaCount"]) == (2, 10)
    assert made["spec"]["triggers"] == [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}]
    audit.forget()
    keda_says(at, Ready="True", Active="True", Paused="False")
    at.quiet(audit)
    assert audit.writes(namespace=at.namespace) == [], "whether there is load right now is no news"
    keda_says(at, reason="TriggerError", Ready="False")
    assert at.settles("ScalingActive", "False", "NotScaling") == "TriggerError: words"
    assert at.condition("Ready")["status"] == "False", "there are no nodes here"

    definition(False)
    at.settles("ScalingActive", "False", "KEDAMissing", seconds=90)
    definition(True)
    eventually("the ScaledObject is made anew", lambda: found(at), seconds=90)
    at.quiet(audit)
    assert set(counts.all()) <= {4}


@pytest.mark.parametrize(("autoscaling", "autoscalers"), [(KEDA, "scaledobjects"), (HPA, "horizontalpodautoscalers")])
def test_an_autoscaler_is_made_after_the_deployment_that_it_scales(
    operator: OperatorProcess,
    at: Workbench,
    audit: Audit,
    installed: None,
    autoscaling: dict[str, Any],
    autoscalers: str,
):
    """KEDA's admission looks the Deployment up, and refuses to scale by CPU what is not there."""
    at.agent(autoscaling=autoscaling)
    at.serves()
    eventually("it is made", lambda: autoscaler(at) or found(at), seconds=90)
    at.quiet(audit)
    made = [write.resource for write in audit.writes(namespace=at.namespace) if write.verb == "create"]
    assert made.index(autoscalers) > made.index("deployments")


HANDOVERS = [
    pytest.param({"replicas": 4}, {"autoscaling": KEDA}, id="replicas-to-KEDA"),
    pytest.param({"autoscaling": HPA}, {"autoscaling": KEDA}, id="HPA-to-KEDA"),
    pytest.param({"autoscaling": EXTERNAL}, {"autoscaling": KEDA}, id="External-to-KEDA"),
    pytest.param({"autoscaling": KEDA}, {"autoscaling": None, "replicas": 4}, id="KEDA-to-replicas"),
    pytest.param({"autoscaling": KEDA}, {"autoscaling": HPA}, id="KEDA-to-HPA"),
    pytest.param({"autoscaling": KEDA}, {"autoscaling": {**EXTERNAL, **ALONE}}, id="KEDA-to-External"),
]


@pytest.mark.parametrize(("before", "after"), HANDOVERS)
def test_a_handover_never_moves_the_count(
    operator: OperatorProcess,
    at: Workbench,
    audit: Audit,
    installed: None,
    before: dict[str, Any],
    after: dict[str, Any],
):
    leaves_keda = before.get("autoscaling") == KEDA
    at.agent(**before)
    at.serves()
    if leaves_keda:
        keda_takes_it(at)
    if "autoscaling" in before:
        scale(at, 4)
    at.quiet(audit)
    counts = Counts(at)
    change(at, audit, **after)
    if leaves_keda:
        keda_lets_go(at)
        eventually("it is gone", lambda: found(at) is None)
    provider = (after["autoscaling"] or {}).get("provider")
    by_hpa, by_keda = provider == "HPA", provider == "KEDA"
    eventually(
        "one autoscaler, and no other", lambda: (autoscaler(at) is not None, found(at) is not None) == (by_hpa, by_keda)
    )
    at.quiet(audit)
    assert set(counts.all()) <= {4}
    assert count(at) == 4
    assert ("agentservice-operator" in owners_of_the_count(at)) is ("replicas" in after)


@pytest.mark.parametrize(
    "after",
    [{"autoscaling": None, "replicas": 3}, {"suspend": True}, {"autoscaling": HPA}],
    ids=["replicas", "suspend", "HPA"],
)
def test_until_keda_has_let_go_nobody_else_decides_and_the_rest_of_a_change_goes_on(
    operator: OperatorProcess, at: Workbench, audit: Audit, installed: None, after: dict[str, Any]
):
    at.agent(autoscaling=KEDA)
    at.serves()
    keda_takes_it(at)
    scale(at, 5)
    at.quiet(audit)
    change(at, audit, rollout={"progressDeadlineSeconds": 500}, **after)
    assert "KEDA has let go" in at.settles("Ready", "False", "WaitingForDeletion")
    assert at.condition("Stalled")["status"] == "absent"
    assert at.get("Deployment", "agent")["spec"]["progressDeadlineSeconds"] == 500
    assert (count(at), autoscaler(at)) == (5, None)
    scale(at, 6)
    at.quiet(audit)
    assert count(at) == 6, "KEDA's autoscaler may write until it is gone"
    keda_lets_go(at)
    wanted = 0 if after.get("suspend") else after.get("replicas", 6)
    eventually("the number is somebody else's", lambda: count(at) == wanted)
    at.quiet(audit)
    assert (autoscaler(at) is not None) is (after.get("autoscaling") == HPA)


def test_there_and_back_again_never_moves_the_count(
    operator: OperatorProcess, at: Workbench, audit: Audit, installed: None
):
    at.agent(replicas=4)
    at.serves()
    counts = Counts(at)
    for autoscaling in (KEDA, HPA, KEDA, {**EXTERNAL, **ALONE}, KEDA, None, KEDA):
        if found(at) is not None:
            keda_takes_it(at)
            change(at, audit, autoscaling=autoscaling)
            keda_lets_go(at)
            at.quiet(audit)
        else:
            change(at, audit, autoscaling=autoscaling)
    eventually("it is made", lambda: found(at))
    assert set(counts.all()) == {4}


def test_at_rest_and_after_a_restart_nothing_is_written_and_an_edit_is_undone(
    operator: OperatorProcess, at: Workbench, audit: Audit, installed: None
):
    at.agent(autoscaling=KEDA)
    at.serves()
    keda_takes_it(at)
    scale(at, 7)
    at.quiet(audit)
    for bound in (11, 12):  # what we created is owned in another way than what we applied
        audit.forget()
        operator.stop()
        operator.start()
        at.quiet(audit, seconds=3)
        assert audit.writes(namespace=at.namespace) == []
        change(at, audit, autoscaling={"maxReplicas": bound})
        eventually(
            "it is applied", lambda bound=bound: at.get("ScaledObject", "agent")["spec"]["maxReplicaCount"] == bound
        )
    at.patch("ScaledObject", "agent", {"spec": {"minReplicaCount": 0}})
    eventually("the edit is undone", lambda: at.get("ScaledObject", "agent")["spec"]["minReplicaCount"] == 2)
    at.quiet(audit)
    assert at.get("ScaledObject", "agent")["metadata"]["finalizers"] == [FINALIZER]
    assert count(at) == 7


def test_near_the_end_of_a_budget_only_scale_in_goes_on(
    operator: OperatorProcess, at: Workbench, audit: Audit, installed: None
):
    at.agent(autoscaling=KEDA, budget={"daily": {"tokens": 1000}})
    at.serves()
    keda_takes_it(at)

    def scale_up() -> dict[str, Any]:
        advanced = at.get("ScaledObject", "agent")["spec"]["advanced"]
        return advanced["horizontalPodAutoscalerConfig"]["behavior"].get("scaleUp", {})

    spend(at, 950)
    at.settles("BudgetAvailable", "True", "BudgetWarning")
    assert scale_up() == {}
    spend(at, 50)
    eventually("scale-out is off", lambda: scale_up() == {"selectPolicy": "Disabled"})
    at.settles("ScalingActive", "False", "ScaleOutOff")
    at.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": 5000}}}})
    eventually("scale-out is on again", lambda: scale_up() == {})
    at.quiet(audit)
    assert at.get("ScaledObject", "agent")["spec"]["maxReplicaCount"] == 10


def test_runs_in_flight_need_a_prometheus_that_the_chart_names(
    operator: OperatorProcess,
    make_operator: Callable[..., OperatorProcess],
    at: Workbench,
    audit: Audit,
    installed: None,
):
    at.agent(autoscaling={**KEDA, "inFlightPerPod": 22})
    assert "keda.prometheusAddress" in at.settles("ScalingActive", "False", "PrometheusUnknown")
    assert found(at) is None
    operator.stop()
    try:
        with_one = make_operator(PROMETHEUS_ADDRESS="http://prometheus.monitoring.svc:9090").start()
        keda_takes_it(at)
        at.settles("ScalingActive", "True", "Scaling")
        (trigger,) = at.get("ScaledObject", "agent")["spec"]["triggers"]
        assert trigger["metadata"]["serverAddress"] == "http://prometheus.monitoring.svc:9090"
        assert with_one.stop() == 0
    finally:
        operator.start()
    at.settles("ScalingActive", "False", "PrometheusUnknown")


def test_the_example_is_served_and_says_what_its_platform_lacks(
    operator: OperatorProcess, at: Workbench, installed: None
):
    at.kubectl("apply", "--filename", str(REPOSITORY / "examples" / "keda.yaml"))
    at.settles("ScalingActive", "False", "PrometheusUnknown", name="keda")
    (trigger,) = eventually("it is made", lambda: at.find("ScaledObject", "keda"))["spec"]["triggers"]
    assert trigger["type"] == "cpu"
