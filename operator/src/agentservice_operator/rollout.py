"""Decides whether the pods of a revision serve, and if not, why.

Ready means: the Deployment runs the wanted revision, no pod of another one is left, and at least `desired -
maxUnavailable` pods are available. A scale-out of a revision that served completely does not take Ready away:
nobody loses anything while the new pods start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from agentservice_api import AgentServiceSpec, AgentServiceStatus, ConditionType, Reason, names
from agentservice_operator import pods as pod_facts
from agentservice_operator.manifest import Manifest
from agentservice_operator.pods import Trouble
from agentservice_operator.render.fleet import scales_workers

STALLING = frozenset({Reason.CONFIGURATION_REJECTED, Reason.PROGRESS_DEADLINE_EXCEEDED})
"""Reasons that waiting cannot mend, or has not for the whole progress deadline."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The status of one condition."""

    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What runs: the Deployment, its pods, and the kubelet's last word on volumes by pod UID."""

    deployment: Manifest | None = None
    autoscaler: Manifest | None = None
    """The HorizontalPodAutoscaler, or the ScaledObject where there is one."""
    has_keda: bool = True
    """Whether the cluster has the kind ScaledObject."""
    has_custom_metrics: bool = True
    """Whether the cluster serves metrics of pods to HorizontalPodAutoscalers; asked only where one needs them."""
    workers: Observation | None = None
    """The same of the pods that only work off the queue: their Deployment, autoscaler, pods and mounts."""
    route: Manifest | None = None
    """The HTTPRoute."""
    has_gateway_api: bool = True
    """Whether the cluster has the kind HTTPRoute."""
    pods: tuple[Manifest, ...] = ()
    failed_mounts: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def status(self) -> Manifest:
        """Status of the Deployment, empty without one."""
        return (self.deployment or {}).get("status") or {}

    @property
    def revision(self) -> str:
        """Revision of the Deployment's template."""
        if self.deployment is None:
            return ""
        labels: Mapping[str, str] = self.deployment["spec"]["template"]["metadata"].get("labels") or {}
        return labels.get(names.LABEL_REVISION, "")

    def of_revision(self, revision: str) -> tuple[Manifest, ...]:
        """Return the pods of ``revision`` that are not going away."""
        return tuple(p for p in self.pods if pod_facts.revision(p) == revision and not pod_facts.is_dying(p))

    def troubles(self, revision: str) -> tuple[Trouble, ...]:
        """Return what is wrong with the pods of ``revision``."""
        found = (
            pod_facts.trouble(pod, self.failed_mounts.get(pod["metadata"]["uid"], ""))
            for pod in self.of_revision(revision)
        )
        return tuple(t for t in found if t is not None)


def judge_rollout(
    *,
    spec: AgentServiceSpec,
    revision: str,
    observation: Observation,
    previous: AgentServiceStatus,
    paused: bool,
    workers_revision: str | None = None,
) -> Verdict:
    """Return the verdict on Ready for a specification that is accepted and applied (unless paused).

    ``workers_revision`` is that of the pods that only work off the queue, None where there are none.
    """
    was_ready = _was_ready(previous, revision)
    servers = _judge(
        spec=spec,
        revision=revision,
        observation=observation,
        count=None if spec.autoscaling is not None else spec.replicas,
        before=max(1, previous.ready_replicas or 0) if was_ready else None,
        paused=paused,
    )
    if workers_revision is None or servers.status != "True":
        return servers
    declared = spec.queue.workers
    workers = _judge(
        spec=spec,
        revision=workers_revision,
        observation=observation.workers or Observation(),
        count=None if declared is None or scales_workers(spec) else declared.replicas,
        before=0 if was_ready else None,
        paused=paused,
    )
    if workers.status != "True":
        return replace(workers, message=f"workers: {workers.message}")
    return servers if spec.suspend else replace(servers, message=f"{servers.message}; workers: {workers.message}")


def _judge(
    *,
    spec: AgentServiceSpec,
    revision: str,
    observation: Observation,
    count: int | None,
    before: int | None,
    paused: bool,
) -> Verdict:
    """Return the verdict on one Deployment. ``count`` None: it says itself how many pods are wanted, for an autoscaler decides it.

    ``before``: so many pods were ready when this revision was last seen complete; None: it was not.
    """
    deployment = observation.deployment
    if deployment is None:
        return _paused("nothing was created yet") if paused else _progressing("the Deployment is being created")
    if observation.revision != revision:
        if paused:
            return _paused(f"the pods run revision {observation.revision}, the specification asks for {revision}")
        return _progressing(f"revision {revision} is being applied")
    desired = 0 if spec.suspend else int(deployment["spec"].get("replicas") or 0) if count is None else count
    current = deployment["spec"].get("replicas") == desired
    if not current and paused:
        return _paused(
            f"the Deployment wants {deployment['spec'].get('replicas')} pods, the specification asks for {desired}"
        )
    status = observation.status
    seen = current and int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    total, updated = int(status.get("replicas") or 0), int(status.get("updatedReplicas") or 0)
    available = min(int(status.get("availableReplicas") or 0), desired)
    old = total - updated
    if seen and old == 0 and (total == 0 if desired == 0 else available >= desired - _unavailable(spec, desired)):
        return _available(spec, revision, desired, available)
    trouble = _why_not(observation, revision)
    if trouble is None and before is not None and _is_scale_out(observation, revision, before, old=old):
        serving = int(status.get("readyReplicas") or 0)
        return Verdict(
            status="True",
            reason=Reason.AVAILABLE,
            message=f"{serving} of {desired} pods serve revision {revision}; the others start",
        )
    complete = seen and _condition(observation, "Progressing").get("reason") == "NewReplicaSetAvailable"
    return _not_ready(
        desired=desired, revision=revision, available=available, old=old, trouble=trouble, was_complete=complete
    )


def _was_ready(previous: AgentServiceStatus, revision: str) -> bool:
    ready = any(c.type == ConditionType.READY.value and c.status == "True" for c in previous.conditions)
    return ready and previous.revision == revision


def _available(spec: AgentServiceSpec, revision: str, desired: int, available: int) -> Verdict:
    if spec.suspend:
        return Verdict(status="True", reason=Reason.SUSPENDED, message="no pods run, because spec.suspend is true")
    return Verdict(
        status="True", reason=Reason.AVAILABLE, message=f"{available} of {desired} pods serve revision {revision}"
    )


def _not_ready(
    *, desired: int, revision: str, available: int, old: int, trouble: Trouble | None, was_complete: bool
) -> Verdict:
    serve = (
        f"{max(0, available - max(0, old))} of {desired} pods serve revision {revision}"
        if desired
        else "pods are being stopped"
    )
    if old > 0:
        serve = (
            f"{old} {'pod' if old == 1 else 'pods'} of an old revision serve on while revision {revision} starts"
            if desired
            else "pods are being stopped"
        )
    if trouble is not None:
        return Verdict(status="False", reason=trouble.reason, message=f"{trouble.message} ({serve})")
    if was_complete and old <= 0:
        return Verdict(status="False", reason=Reason.UNAVAILABLE, message=f"{serve}; the others are being replaced")
    return _progressing(serve)


def _why_not(observation: Observation, revision: str) -> Trouble | None:
    trouble = pod_facts.worst(observation.troubles(revision))
    refused, progressing = _condition(observation, "ReplicaFailure"), _condition(observation, "Progressing")
    if trouble is None and refused.get("status") == "True":
        return Trouble(
            reason=Reason.PODS_REFUSED,
            message=f"pods are refused: {refused.get('message')}: raise the quota or change the pods",
        )
    if progressing.get("reason") == "ProgressDeadlineExceeded" and progressing.get("status") == "False":
        why = trouble.message if trouble else "the pods do not become ready; see their logs"
        reason = trouble.reason if trouble else Reason.PROGRESS_DEADLINE_EXCEEDED
        return Trouble(reason=reason, message=f"{why}; no progress for rollout.progressDeadlineSeconds")
    return trouble


def _condition(observation: Observation, kind: str) -> Manifest:
    conditions = cast("list[Manifest]", observation.status.get("conditions") or [])
    return next((c for c in conditions if c["type"] == kind), Manifest())


def _is_scale_out(observation: Observation, revision: str, before: int, *, old: int) -> bool:
    ready = int(observation.status.get("readyReplicas") or 0)
    return (
        old == 0
        and ready >= before
        and all(pod_facts.is_ready(pod) or pod_facts.is_starting(pod) for pod in observation.of_revision(revision))
    )


def _unavailable(spec: AgentServiceSpec, desired: int) -> int:
    """Return maxUnavailable in pods. A percentage rounds down, as the Deployment controller does it."""
    value = spec.rollout.max_unavailable
    if isinstance(value, int):
        return min(value, desired - 1) if desired else 0
    return min(math.floor(desired * int(value.rstrip("%")) / 100), max(desired - 1, 0))


def _progressing(message: str) -> Verdict:
    return Verdict(status="False", reason=Reason.PROGRESSING, message=message)


def _paused(message: str) -> Verdict:
    return Verdict(
        status="False",
        reason=Reason.PAUSED,
        message=f"paused by the annotation {names.ANNOTATION_PAUSED}: {message}; remove the annotation to go on",
    )
