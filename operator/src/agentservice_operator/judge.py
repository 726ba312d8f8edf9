"""Decides the status: what is true of an AgentService now, in conditions that tools and people can trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from agentservice_api import AgentServiceSpec, AgentServiceStatus, Condition, ConditionType, Reason
from agentservice_operator import pods as pod_facts
from agentservice_operator.budget import Standing, budget_available, budget_status
from agentservice_operator.manifest import Manifest
from agentservice_operator.render import Rendered
from agentservice_operator.rollout import STALLING, Observation, Verdict, judge_rollout
from agentservice_operator.routing import route_accepted
from agentservice_operator.scaling import scaling_active
from agentservice_operator.secret_keys import Followed

MESSAGE_LIMIT: Final = 2048
"""Characters of a condition's message; the CRD would take more, a person would not."""


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """What kept the operator from making the children as the specification says."""

    reason: Reason
    message: str
    stalls: bool
    """Waiting cannot mend it."""
    rejects: bool = False
    """The specification is at fault: SpecAccepted is False."""


@dataclass(frozen=True, kw_only=True)
class Desired:
    """A specification that could be rendered."""

    spec: AgentServiceSpec
    rendered: Rendered
    references_secrets: bool
    secret_changes: Followed | None = None
    """None where a change of a Secret does nothing."""


def judge(
    *,
    generation: int,
    previous: AgentServiceStatus,
    desired: Desired | None,
    obstacle: Obstacle | None,
    observation: Observation,
    paused: bool,
    secret_name: str | None,
    standing: Standing | None = None,
    now: str,
) -> Manifest:
    """Return the whole status.

    ``desired`` is None when the specification could not be used, and then ``obstacle`` says why. ``secret_name``
    is the generated Secret, once it exists. ``standing`` is how the budget stands, None without one. ``now`` (RFC 3339) dates the conditions whose status changed.
    """
    ready = _ready(desired, obstacle, observation, previous, paused=paused)
    verdicts: dict[ConditionType, Verdict] = {
        ConditionType.READY: ready,
        ConditionType.SPEC_ACCEPTED: _spec_accepted(obstacle),
        ConditionType.SECRETS_READY: _secrets_ready(desired, observation),
        **_secret_changes(desired, previous),
        **_scaling(desired, observation, previous),
        **_routing(desired, observation, previous),
        **_budget(desired, standing, previous),
        **dict(_progress(ready, obstacle)),
    }
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "replicas": int(observation.status.get("replicas") or 0),
        "readyReplicas": int(observation.status.get("readyReplicas") or 0),
        "conditions": [_condition(kind, verdict, previous, generation, now) for kind, verdict in verdicts.items()],
    }
    if desired is not None:
        status |= {
            "url": desired.rendered.url,
            "selector": desired.rendered.selector,
            "revision": desired.rendered.revision,
        }
    else:
        kept = {"url": previous.url, "selector": previous.selector, "revision": previous.revision}
        status |= {key: value for key, value in kept.items() if value is not None}
    if secret_name is not None:
        status["auth"] = {"secretName": secret_name}
    if standing is not None:
        status["budget"] = budget_status(standing, previous.budget)
    elif desired is None and previous.budget is not None:
        status["budget"] = previous.budget.model_dump(mode="json", by_alias=True, exclude_none=True)
    return status


def _ready(
    desired: Desired | None,
    obstacle: Obstacle | None,
    observation: Observation,
    previous: AgentServiceStatus,
    *,
    paused: bool,
) -> Verdict:
    if obstacle is not None or desired is None:
        assert obstacle is not None, "a specification that was not rendered has an obstacle"  # noqa: S101
        return Verdict(status="False", reason=obstacle.reason, message=obstacle.message + _still_serving(observation))
    return judge_rollout(
        spec=desired.spec,
        revision=desired.rendered.revision,
        observation=observation,
        previous=previous,
        paused=paused,
        workers_revision=desired.rendered.workers_revision,
    )


def _still_serving(observation: Observation) -> str:
    available = int(observation.status.get("availableReplicas") or 0)
    return (
        f" (revision {observation.revision} serves on in {available} {'pod' if available == 1 else 'pods'})"
        if available
        else ""
    )


def _spec_accepted(obstacle: Obstacle | None) -> Verdict:
    if obstacle is not None and obstacle.rejects:
        return Verdict(status="False", reason=obstacle.reason, message=obstacle.message)
    return Verdict(status="True", reason=Reason.ACCEPTED, message="the specification is accepted")


def _progress(ready: Verdict, obstacle: Obstacle | None) -> Iterator[tuple[ConditionType, Verdict]]:
    """Yield Stalled or Reconciling; neither when the work is done."""
    if ready.status == "True":
        return
    stalled = obstacle.stalls if obstacle is not None else ready.reason in STALLING
    kind = ConditionType.STALLED if stalled else ConditionType.RECONCILING
    yield kind, Verdict(status="True", reason=ready.reason, message=ready.message)


def _secrets_ready(desired: Desired | None, observation: Observation) -> Verdict:
    if desired is None:
        return Verdict(status="Unknown", reason=Reason.NO_PODS, message="the specification could not be used")
    if not desired.references_secrets:
        return Verdict(status="True", reason=Reason.NOT_REFERENCED, message="the specification names no Secret")
    revision = desired.rendered.revision
    missing = pod_facts.waits_for_secret(observation.troubles(revision))
    if missing is not None:
        return Verdict(status="False", reason=missing.reason, message=missing.message)
    if any(pod_facts.has_started(pod) for pod in observation.of_revision(revision)):
        return Verdict(status="True", reason=Reason.MOUNTED, message="every referenced Secret is there")
    return Verdict(
        status="Unknown",
        reason=Reason.NO_PODS,
        message=f"no pod of revision {revision} has mounted the referenced Secrets yet",
    )


def _secret_changes(desired: Desired | None, previous: AgentServiceStatus) -> dict[ConditionType, Verdict]:
    if desired is None:  # the pods go on with what they were started with
        return _as_known(previous, ConditionType.SECRET_CHANGES_FOLLOWED)
    followed = desired.secret_changes
    return {} if followed is None else {ConditionType.SECRET_CHANGES_FOLLOWED: followed.verdict}


def _scaling(
    desired: Desired | None, observation: Observation, previous: AgentServiceStatus
) -> dict[ConditionType, Verdict]:
    if desired is None:  # the autoscaler goes on as before
        return _as_known(previous, ConditionType.SCALING_ACTIVE)
    verdict = scaling_active(desired.spec, observation, has_prometheus=desired.rendered.has_prometheus)
    return {} if verdict is None else {ConditionType.SCALING_ACTIVE: verdict}


def _routing(
    desired: Desired | None, observation: Observation, previous: AgentServiceStatus
) -> dict[ConditionType, Verdict]:
    if desired is None:  # the route goes on as before
        return _as_known(previous, ConditionType.ROUTE_ACCEPTED)
    verdict = route_accepted(desired.spec, observation.route, has_gateway_api=observation.has_gateway_api)
    return {} if verdict is None else {ConditionType.ROUTE_ACCEPTED: verdict}


def _budget(
    desired: Desired | None, standing: Standing | None, previous: AgentServiceStatus
) -> dict[ConditionType, Verdict]:
    if desired is None:  # the pods go on under the terms of before, and so does what was last known of them
        return _as_known(previous, ConditionType.PRICES_RESOLVED, ConditionType.BUDGET_AVAILABLE)
    if standing is None:
        return {}
    return {
        ConditionType.PRICES_RESOLVED: standing.prices,
        ConditionType.BUDGET_AVAILABLE: budget_available(standing),
    }


def _as_known(previous: AgentServiceStatus, *kinds: ConditionType) -> dict[ConditionType, Verdict]:
    """Return what was last said of these, in their order."""
    known = {condition.type: condition for condition in previous.conditions}
    return {kind: _again(known[kind.value]) for kind in kinds if kind.value in known}


def _again(condition: Condition) -> Verdict:
    return Verdict(status=condition.status, reason=Reason(condition.reason), message=condition.message)


def _condition(
    kind: ConditionType, verdict: Verdict, previous: AgentServiceStatus, generation: int, now: str
) -> Manifest:
    before = next((c for c in previous.conditions if c.type == kind.value), None)
    since = before.last_transition_time if before is not None and before.status == verdict.status else now
    return {
        "type": kind.value,
        "status": verdict.status,
        "reason": verdict.reason.value,
        "message": verdict.message[:MESSAGE_LIMIT],
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
