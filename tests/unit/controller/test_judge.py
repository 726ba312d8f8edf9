"""Ready tells the truth, and why not is said in words that mend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentservice_api import AgentServiceStatus, Reason, names
from agentservice_operator.judge import Desired, Obstacle, judge
from agentservice_operator.manifest import Manifest
from agentservice_operator.rollout import Observation
from agentservice_operator.secret_keys import Followed, is_unreadable

from .builders import agent_service, rendered

NOW = "2026-11-23T12:00:00Z"


def desired(**spec: Any) -> Desired:
    return Desired(spec=agent_service(**spec).spec, rendered=rendered(**spec), references_secrets="model" in spec)


def deployment(want: Desired, *, revision: str | None = None, replicas: int | None = None, **status: Any) -> Manifest:
    count = want.spec.replicas if replicas is None else replicas
    full = {
        "observedGeneration": 1,
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": count,
        "availableReplicas": count,
    }
    return {
        "metadata": {"name": "support", "generation": 1},
        "spec": {
            "replicas": count,
            "template": {"metadata": {"labels": {names.LABEL_REVISION: revision or want.rendered.revision}}},
        },
        "status": {**full, **status},
    }


def pod(
    want: Desired, *, ready: bool = False, name: str = "p", revision: str | None = None, **container: Any
) -> Manifest:
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": name,
            "labels": {names.LABEL_REVISION: revision or want.rendered.revision},
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "agent", "restartCount": 0, "state": {}, **container}],
        },
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def conditions(
    want: Desired | None,
    observation: Observation,
    *,
    obstacle: Obstacle | None = None,
    previous: AgentServiceStatus | None = None,
    paused: bool = False,
) -> dict[str, dict[str, Any]]:
    status = judge(
        generation=4,
        previous=previous or AgentServiceStatus(),
        desired=want,
        obstacle=obstacle,
        observation=observation,
        paused=paused,
        secret_name=None,
        now=NOW,
    )
    assert status["observedGeneration"] == 4
    assert all(c["observedGeneration"] == 4 and c["reason"] in {r.value for r in Reason} for c in status["conditions"])
    return {c["type"]: c for c in status["conditions"]}


def was_ready(want: Desired, *, replicas: int) -> AgentServiceStatus:
    return AgentServiceStatus.model_validate({
        "revision": want.rendered.revision, "readyReplicas": replicas,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Available", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    })  # fmt: skip


def test_all_pods_of_the_revision_serving_is_ready() -> None:
    want = desired(replicas=3)
    found = conditions(want, Observation(deployment=deployment(want)))
    assert found["Ready"]["status"] == "True"
    assert found["Ready"]["message"] == f"3 of 3 pods serve revision {want.rendered.revision}"
    assert "Reconciling" not in found
    assert "Stalled" not in found


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 0},
        {"updatedReplicas": 2},
        {"availableReplicas": 2},
        {"replicas": 4},
    ],
)
def test_anything_less_is_not_ready_and_reconciling(status: dict[str, int]) -> None:
    want = desired(replicas=3)
    found = conditions(want, Observation(deployment=deployment(want, **status)))
    assert found["Ready"]["status"] == "False"
    assert found["Reconciling"]["status"] == "True"


def test_an_old_revision_that_serves_completely_is_not_ready() -> None:
    want = desired(replicas=3)
    assert conditions(want, Observation(deployment=deployment(want, revision="older")))["Ready"]["status"] == "False"


def test_beside_an_autoscaler_the_deployment_says_how_many_pods_are_wanted() -> None:
    want = desired(replicas=3, autoscaling={"maxReplicas": 9})
    ready = conditions(want, Observation(deployment=deployment(want, replicas=5)))["Ready"]
    assert ready["message"] == f"5 of 5 pods serve revision {want.rendered.revision}"
    less = conditions(want, Observation(deployment=deployment(want, replicas=5, availableReplicas=4)))["Ready"]
    assert less["status"] == "False"


def test_an_autoscaler_that_cannot_act_is_no_reason_not_to_be_ready() -> None:
    want = desired(autoscaling={"maxReplicas": 9})
    told = [
        {"type": "AbleToScale", "status": "True", "reason": "SucceededGetScale", "message": "got it"},
        {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": "no metrics"},
    ]
    seen = Observation(
        deployment=deployment(want),
        autoscaler={"kind": "HorizontalPodAutoscaler", "spec": {}, "status": {"conditions": told}},
    )
    found = conditions(want, seen)
    assert found["ScalingActive"]["reason"] == Reason.NOT_SCALING
    assert found["ScalingActive"]["message"] == "FailedGetResourceMetric: no metrics"
    assert found["Ready"]["status"] == "True"
    assert "ScalingActive" not in conditions(desired(), Observation(deployment=deployment(want)))


def test_max_unavailable_may_be_missing() -> None:
    want = desired(replicas=4, rollout={"maxUnavailable": "25%"})
    assert conditions(want, Observation(deployment=deployment(want, availableReplicas=3)))["Ready"]["status"] == "True"
    assert conditions(want, Observation(deployment=deployment(want, availableReplicas=2)))["Ready"]["status"] == "False"


def test_a_scale_out_of_a_complete_revision_stays_ready() -> None:
    want = desired(replicas=5)
    live = deployment(want, replicas=5, readyReplicas=3, availableReplicas=3)
    pods = tuple(pod(want, ready=i < 3, name=str(i)) for i in range(5))
    found = conditions(want, Observation(deployment=live, pods=pods), previous=was_ready(want, replicas=3))
    assert found["Ready"]["status"] == "True"
    assert found["Ready"]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_a_pod_lost_at_rest_takes_ready_away() -> None:
    want = desired(replicas=3)
    live = deployment(want, readyReplicas=2, availableReplicas=2)
    pods = tuple(pod(want, ready=i < 2, name=str(i)) for i in range(3))
    found = conditions(want, Observation(deployment=live, pods=pods), previous=was_ready(want, replicas=3))
    assert found["Ready"]["status"] == "False"
    assert found["Ready"]["lastTransitionTime"] == NOW


def test_suspended_is_ready_once_no_pod_is_left() -> None:
    want = desired(replicas=3, suspend=True)
    gone = conditions(want, Observation(deployment=deployment(want, replicas=0)))
    assert (gone["Ready"]["status"], gone["Ready"]["reason"]) == ("True", "Suspended")
    going = conditions(
        want,
        Observation(deployment={**deployment(want, replicas=0), "status": {"observedGeneration": 1, "replicas": 1}}),
    )
    assert going["Ready"]["status"] == "False"


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        (waiting("ImagePullBackOff", "not found"), "ImagePullFailed", "runtime.image"),
        (waiting("CreateContainerConfigError", 'secret "db" not found'), "SecretNotFound", "create it with that key"),
        (waiting("CreateContainerConfigError", 'configmap "c" not found'), "ReferenceNotFound", "create it"),
        (
            {"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            "CrashLooping",
            "logs p --previous",
        ),
        (
            {"restartCount": 1, "state": {}, "lastState": {"terminated": {"exitCode": 78, "message": "agent.tools: no module acme\n"}}},
            "ConfigurationRejected",
            "agent.tools: no module acme",
        ),
    ],
)  # fmt: skip
def test_a_broken_revision_names_the_cause_and_the_mend(container: dict[str, Any], reason: str, words: str) -> None:
    want = desired(replicas=3)
    live = deployment(want, updatedReplicas=1, replicas=4, availableReplicas=3)
    found = conditions(want, Observation(deployment=live, pods=(pod(want, **container),)))
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", reason)
    assert words in found["Ready"]["message"]
    assert "serve on" in found["Ready"]["message"]
    assert ("Stalled" in found) == (reason == "ConfigurationRejected")


def test_a_volume_that_cannot_be_mounted_names_the_secret() -> None:
    want = desired(model={"name": "openai-chat:m", "apiKey": {"secretKeyRef": {"name": "openai", "key": "k"}}})
    stuck = pod(want, **waiting("ContainerCreating"))
    note = 'MountVolume.SetUp failed for volume "secrets" : secret "openai" not found'
    live = deployment(want, availableReplicas=0, readyReplicas=0)
    found = conditions(want, Observation(deployment=live, pods=(stuck,), failed_mounts={"p": note}))
    assert found["Ready"]["reason"] == "SecretNotFound"
    assert found["SecretsReady"]["status"] == "False"
    assert 'secret "openai" not found' in found["SecretsReady"]["message"]


def test_secrets_are_ready_once_a_container_has_run_whatever_was_said_before() -> None:
    want = desired(model={"name": "openai-chat:m", "apiKey": {"secretKeyRef": {"name": "openai", "key": "k"}}})
    running = pod(want, ready=True, state={"running": {}})
    found = conditions(want, Observation(deployment=deployment(want), pods=(running,), failed_mounts={"p": "secret"}))
    assert found["SecretsReady"]["status"] == "True"


def test_secrets_are_unknown_without_pods() -> None:
    want = desired(model={"name": "openai-chat:m", "apiKey": {"secretKeyRef": {"name": "openai", "key": "k"}}})
    assert conditions(want, Observation())["SecretsReady"]["status"] == "Unknown"


def test_a_quota_that_refuses_pods_is_told() -> None:
    want = desired(replicas=2)
    refused = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}]
    live = deployment(want, replicas=2, updatedReplicas=0, availableReplicas=0, conditions=refused)
    live["status"]["replicas"] = 0
    found = conditions(want, Observation(deployment=live))
    assert found["Ready"]["reason"] == "PodsRefused"
    assert "exceeded quota" in found["Ready"]["message"]


def test_an_invalid_specification_stalls_and_says_what_serves_on() -> None:
    want = desired()
    obstacle = Obstacle(reason=Reason.INVALID_SPEC, message="agent.input: wrong", stalls=True, rejects=True)
    previous = was_ready(want, replicas=1)
    found = conditions(None, Observation(deployment=deployment(want)), obstacle=obstacle, previous=previous)
    assert found["SpecAccepted"]["status"] == "False"
    assert found["Stalled"]["status"] == "True"
    assert "serves on" in found["Ready"]["message"]


def test_paused_says_what_differs() -> None:
    want = desired()
    found = conditions(want, Observation(deployment=deployment(want, revision="older")), paused=True)
    assert found["Ready"]["reason"] == "Paused"
    assert "older" in found["Ready"]["message"]


def test_paused_with_nothing_to_do_is_ready() -> None:
    want = desired()
    assert conditions(want, Observation(deployment=deployment(want)), paused=True)["Ready"]["status"] == "True"


def test_a_missed_progress_deadline_stalls() -> None:
    want = desired(replicas=1)
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    live = deployment(want, availableReplicas=0, readyReplicas=0, conditions=late)
    found = conditions(want, Observation(deployment=live))
    assert found["Stalled"]["reason"] == "ProgressDeadlineExceeded"


def test_secrets_that_cannot_be_read_take_nothing_from_ready_and_are_told_on_while_a_specification_is_refused() -> None:
    verdict = is_unreadable("team-a/openai", why="", forbidden=True)
    want = replace(desired(), secret_changes=Followed(verdict=verdict))
    observation = Observation(deployment=deployment(want))
    found = conditions(want, observation)
    assert found["Ready"]["status"] == "True"
    assert (found["SecretChangesFollowed"]["status"], found["SecretChangesFollowed"]["message"]) == (
        "False",
        verdict.message,
    )
    assert "SecretChangesFollowed" not in conditions(desired(), observation)
    refused = Obstacle(reason=Reason.INVALID_SPEC, message="no", stalls=True, rejects=True)
    before = AgentServiceStatus.model_validate({"conditions": list(found.values())})
    again = conditions(None, observation, obstacle=refused, previous=before)
    assert again["SecretChangesFollowed"]["message"] == verdict.message
