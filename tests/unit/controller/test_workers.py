"""The pods that only work off the queue: what they are, that nobody calls them, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from agentservice_api import AgentServiceStatus, Condition, Reason, names
from agentservice_operator.caches import index_by_service
from agentservice_operator.manifest import Key
from agentservice_operator.render import Rendered, hold_back, render
from agentservice_operator.rollout import Observation, judge_rollout
from agentservice_operator.scaling import scaling_active

from .builders import PLATFORM, UID, agent_service, rendered

REDIS = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
QUEUE: dict[str, Any] = {"redis": REDIS, "queue": {"enabled": True, "workers": {"replicas": 3}}}
KEDA: dict[str, Any] = {"provider": "KEDA", "maxReplicas": 9, "queuedTasksPerPod": 5}
STREAM = f"agentservice:queue:{{team-a/support/{UID}}}:tasks"


def of(result: Rendered, kind: str, name: str = "support-workers") -> dict[str, Any]:
    return next(c for c in result.children if (c["kind"], c["metadata"]["name"]) == (kind, name))


def has(result: Rendered, kind: str, name: str = "support-workers") -> bool:
    return any((c["kind"], c["metadata"]["name"]) == (kind, name) for c in result.children)


def test_workers_are_the_same_pods_with_another_role_and_no_service_leads_to_them() -> None:
    result = rendered(**QUEUE)
    servers, workers = of(result, "Deployment", "support"), of(result, "Deployment")
    assert (servers["spec"]["replicas"], workers["spec"]["replicas"]) == (1, 3)
    (container,) = workers["spec"]["template"]["spec"]["containers"]
    (serving,) = servers["spec"]["template"]["spec"]["containers"]
    role = {"name": "AGENTSERVICE_ROLE", "value": "worker"}
    assert role in container["env"]
    assert {**container, "env": [entry for entry in container["env"] if entry != role]} == serving
    labels = workers["spec"]["template"]["metadata"]["labels"]
    selector = workers["spec"]["selector"]["matchLabels"]
    assert selector == {"agentservice.dev/workers": "support"}
    assert selector.items() <= labels.items()
    for selecting in (of(result, "Service", "support")["spec"]["selector"], servers["spec"]["selector"]["matchLabels"]):
        assert not selecting.keys() & labels.keys(), "of whatever name another agent is"
    assert not selector.keys() & servers["spec"]["template"]["metadata"]["labels"].keys()
    assert labels[names.LABEL_REVISION] == result.workers_revision != result.revision
    assert of(result, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
    assert index_by_service({"metadata": {"namespace": "team-a", "labels": labels}}) == (Key("team-a", "support"),)


def test_workers_may_be_larger_and_are_bound_by_the_same_network_policy() -> None:
    large = {"requests": {"cpu": "2"}}
    queue = {"enabled": True, "workers": {"resources": large}}
    result = rendered(**QUEUE | {"queue": queue}, network={"policy": {"enabled": True}})
    (container,) = of(result, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == large
    ours, theirs = of(result, "NetworkPolicy", "support")["spec"], of(result, "NetworkPolicy")["spec"]
    assert theirs == {**ours, "podSelector": {"matchLabels": {"agentservice.dev/workers": "support"}}}
    assert not has(result, "PodDisruptionBudget"), "one worker never blocks a drain"


def test_without_workers_nothing_of_them_is_made_and_those_that_serve_are_as_they_were() -> None:
    plain = rendered(redis=REDIS, queue={"enabled": True})
    assert not [c for c in plain.children if "workers" in c["metadata"]["name"]]
    assert plain.workers_revision is None
    off = rendered(redis=REDIS, queue={"enabled": False, "workers": {}})
    assert not has(off, "Deployment")
    assert rendered(redis=REDIS).revision == rendered(redis=REDIS, queue={"enabled": False}).revision


def test_more_workers_are_no_new_revision() -> None:
    more = {"enabled": True, "workers": {"replicas": 7}}
    before, after = rendered(**QUEUE), rendered(**QUEUE | {"queue": more})
    assert (before.revision, before.workers_revision) == (after.revision, after.workers_revision)


def test_keda_scales_the_workers_from_none_by_the_length_of_the_queue_and_those_that_serve_by_their_load() -> None:
    result = rendered(**QUEUE, autoscaling=KEDA)
    scaled = of(result, "ScaledObject")["spec"]
    assert (scaled["scaleTargetRef"]["name"], scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (
        "support-workers",
        0,
        9,
    )
    assert (scaled["cooldownPeriod"], scaled["initialCooldownPeriod"]) == (300, 300), "no worker goes before that"
    assert scaled["pollingInterval"] == 5
    trigger = {
        "type": "redis-streams",
        "metricType": "AverageValue",
        "metadata": {"stream": STREAM, "streamLength": "5"},
        "authenticationRef": {"name": "support"},
    }
    assert scaled["triggers"] == [trigger]
    assert "replicas" not in of(result, "Deployment")["spec"]
    assert result.first_replicas == {"support": 1, "support-workers": 3}
    serving = of(result, "ScaledObject", "support")["spec"]
    assert [t["type"] for t in serving["triggers"]] == ["cpu"]
    assert serving["minReplicaCount"] == 1
    assert not {"cooldownPeriod", "initialCooldownPeriod", "pollingInterval"} & serving.keys(), "KEDA warns of them"

    keys = of(result, "TriggerAuthentication", "support")["spec"]["secretTargetRef"]
    assert [(key["name"], key["key"]) for key in keys] == [
        ("redis", k) for k in ("address", "username", "password", "tls")
    ]

    alone = rendered(redis=REDIS, queue={"enabled": True}, autoscaling=KEDA)
    serving = of(alone, "ScaledObject", "support")["spec"]
    assert serving["triggers"] == [trigger]
    assert serving["minReplicaCount"] == 1, "they serve, too"
    suspended = rendered(**QUEUE, autoscaling=KEDA, suspend=True)
    assert not [c for c in suspended.children if c["kind"] in ("ScaledObject", "TriggerAuthentication")]
    assert of(suspended, "Deployment")["spec"]["replicas"] == 0


def test_the_autoscaler_of_the_longest_names_workers_has_a_name_that_fits_into_a_label() -> None:
    """KEDA's admission refuses it else, and what we hold back keeps that name."""
    names_of: dict[int, str | None] = {}
    for length in (46, names.MAX_NAME_LENGTH):
        agent = agent_service(**QUEUE, autoscaling=KEDA)
        metadata = agent.metadata.model_copy(update={"name": "a" * length})
        result = render(agent.model_copy(update={"metadata": metadata}), platform=PLATFORM)
        scaled, held = (of(each, "ScaledObject", f"{'a' * length}-workers") for each in (result, hold_back(result)))
        config, held_config = (s["spec"]["advanced"]["horizontalPodAutoscalerConfig"] for s in (scaled, held))
        assert held_config.get("name") == config.get("name")
        names_of[length] = config.get("name")
    assert names_of == {46: None, 52: f"{'a' * 52}-workers"}
    assert len("keda-hpa-" + "a" * 46 + "-workers") == 63


def test_workers_that_nothing_scales_are_as_many_as_declared_beside_any_autoscaler() -> None:
    for autoscaling in ({"maxReplicas": 9}, {"provider": "External"}, {"provider": "KEDA", "maxReplicas": 9}):
        result = rendered(**QUEUE, autoscaling=autoscaling)
        assert of(result, "Deployment")["spec"]["replicas"] == 3
        assert not has(result, "ScaledObject")


def deployed(result: Rendered, name: str, count: int, **status: int) -> dict[str, Any]:
    made = of(result, "Deployment", name)
    told = {"replicas": count, "updatedReplicas": count, "readyReplicas": count, "availableReplicas": count, **status}
    metadata = {**made["metadata"], "generation": 1}
    return {
        **made,
        "metadata": metadata,
        "spec": {**made["spec"], "replicas": count},
        "status": {"observedGeneration": 1, **told},
    }


@pytest.mark.parametrize("was_ready", [False, True])
@pytest.mark.parametrize(
    ("scaled", "count", "status", "ready"),
    [
        (False, 3, {}, "True"),
        (False, 3, {"readyReplicas": 2, "availableReplicas": 2}, "scale-out"),
        (False, 2, {}, "scale-out"),
        (True, 0, {}, "True"),
        (True, 4, {}, "True"),
        (True, 1, {"readyReplicas": 0, "availableReplicas": 0}, "scale-out"),
    ],
)
def test_ready_speaks_for_workers_too_and_the_first_of_them_takes_it_from_nobody(
    scaled: bool, count: int, status: dict[str, int], ready: str, was_ready: bool
) -> None:
    spec = {**QUEUE, **({"autoscaling": KEDA} if scaled else {})}
    result = rendered(**spec)
    seen = Observation(
        deployment=deployed(result, "support", 1),
        workers=Observation(deployment=deployed(result, "support-workers", count, **status)),
    )
    condition = Condition(type="Ready", status="True", reason="Available", message="", last_transition_time="x")
    previous = AgentServiceStatus(revision=result.revision, ready_replicas=1, conditions=(condition,))
    verdict = judge_rollout(
        spec=agent_service(**spec).spec,
        revision=result.revision,
        observation=seen,
        previous=previous if was_ready else AgentServiceStatus(),
        paused=False,
        workers_revision=result.workers_revision,
    )
    expected = ("True" if was_ready else "False") if ready == "scale-out" else ready
    assert verdict.status == expected, verdict
    assert "workers: " in verdict.message


def test_scaling_active_speaks_for_workers_too() -> None:
    spec = {**QUEUE, "autoscaling": KEDA}
    result = rendered(**spec)

    def saying(name: str, status: str) -> dict[str, Any]:
        told = {"type": "Ready", "status": status, "reason": "TriggerError", "message": "no address"}
        return {**of(result, "ScaledObject", name), "status": {"conditions": [told]}}

    def verdict(workers: dict[str, Any] | None) -> tuple[str, Reason, str]:
        seen = Observation(autoscaler=saying("support", "True"), workers=Observation(autoscaler=workers))
        found = scaling_active(agent_service(**spec).spec, seen)
        assert found is not None
        return found.status, found.reason, found.message

    assert verdict(saying("support-workers", "True"))[0] == "True"
    assert verdict(saying("support-workers", "False")) == (
        "False",
        Reason.NOT_SCALING,
        "workers: TriggerError: no address",
    )
    assert verdict(None)[1] is Reason.AUTOSCALER_PENDING
