"""Decides what `agentservice status` says of one AgentService: from its conditions, its pods and recent events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from agentservice_api.names import ANNOTATION_PAUSED, LABEL_REVISION
from agentservice_cli.cluster.advice import UNSEEN, advice
from agentservice_cli.cluster.plain import Manifest, entries, member, number, part, text
from agentservice_operator import pods as pod_facts

_EVENTS_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class ConditionLine:
    """One condition; `age` in seconds since its status changed, None when unknown."""

    type: str
    status: str
    reason: str
    message: str
    age: float | None


@dataclass(frozen=True, kw_only=True)
class PodLine:
    """One pod; `trouble` says why it does not serve and what to do, empty when it does."""

    name: str
    revision: str
    ready: bool
    restarts: int
    state: str
    age: float | None
    trouble: str


@dataclass(frozen=True, kw_only=True)
class EventLine:
    """One event of the AgentService or its pods; `count` is how often it was seen."""

    type: str
    reason: str
    about: str
    message: str
    count: int
    age: float | None


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The pods that only work off the queue: how many are ready, and how many there are to be."""

    ready: int
    wanted: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything about one AgentService that a person asks for. `ready` is None before the operator has looked."""

    namespace: str
    name: str
    ready: bool | None
    reason: str
    message: str
    model: str
    replicas: int
    wanted: int
    revision: str
    url: str
    age: float | None
    token_secret: str
    budget: str = ""
    workers: Workers | None = None
    """None where the queue has none of its own, or they may not be read."""
    conditions: tuple[ConditionLine, ...] = ()
    pods: tuple[PodLine, ...] = ()
    events: tuple[EventLine, ...] = ()
    advice: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the report as `-o json` shows it."""
        return asdict(self)


def report(
    live: Manifest,
    *,
    pods: Sequence[Manifest] = (),
    events: Sequence[Manifest] = (),
    workers: Manifest | None = None,
    now: datetime,
) -> Report:
    """Return the report on `live`.

    `pods`, those of workers among them, and `events` may be empty where they cannot be read; `workers` is the workers' Deployment.
    """
    metadata, status, spec = part(live, "metadata"), part(live, "status"), part(live, "spec")
    seen = number(status, "observedGeneration") >= max(1, number(metadata, "generation"))
    conditions = tuple(_condition(condition, now) for condition in entries(status, "conditions"))
    summary = next((c for c in conditions if c.type == "Ready"), None) if seen else None
    pod_lines = tuple(sorted((_pod(pod, events, now) for pod in pods), key=lambda line: (line.ready, line.name)))
    name, namespace = str(metadata["name"]), str(metadata["namespace"])
    if summary is None:
        todo = UNSEEN
    else:
        troubled = next((line.name for line in pod_lines if not line.ready), "")
        todo = tuple(
            advice(
                summary.reason,
                namespace=namespace,
                name=name,
                pod=troubled,
                secret=_missing_secret(summary.message, spec),
            )
        )
    if text(metadata, "annotations", ANNOTATION_PAUSED) == "true":
        todo = (f"it is paused; go on: kubectl -n {namespace} annotate ags {name} {ANNOTATION_PAUSED}-", *todo)
    return Report(
        namespace=namespace,
        name=name,
        ready=None if summary is None else summary.status == "True",
        reason=summary.reason if summary else "Unseen",
        message=summary.message if summary else "the operator has not looked at this version yet",
        model=text(spec, "model", "name"),
        replicas=number(status, "readyReplicas"),
        wanted=_wanted(spec, status),
        revision=text(status, "revision"),
        url=text(status, "url"),
        age=_since(metadata.get("creationTimestamp"), now),
        token_secret=text(status, "auth", "secretName"),
        budget=_budget(part(status, "budget")),
        workers=None
        if workers is None
        else Workers(ready=number(workers, "status", "readyReplicas"), wanted=number(workers, "spec", "replicas")),
        conditions=conditions,
        pods=pod_lines,
        events=_events(events, now),
        advice=tuple(dict.fromkeys(todo)),
    )


def _wanted(spec: Manifest, status: Manifest) -> int:
    """Return the number of pods that are wanted; beside an autoscaler those that exist."""
    if member(spec, "suspend"):
        return 0
    return number(status, "replicas") if member(spec, "autoscaling") is not None else number(spec, "replicas")


def _budget(budget: Manifest) -> str:
    """Return how the budget stands, empty without one."""
    shares = [
        f"{words} {number(budget, window, 'percent')} %"
        for window, words in (("daily", "today"), ("monthly", "this month"))
        if member(budget, window, "percent") is not None
    ]
    return f"{text(budget, 'state')}: {', '.join(shares)}" if shares else text(budget, "state")


def _missing_secret(message: str, spec: Manifest) -> Mapping[str, str]:
    """Return the Secret that the kubelet misses, in its words `secret "x" not found`, with a key that the spec wants."""
    found = re.search(r'secret "([^"]+)" not found', message)
    if found is None:
        return {}
    keys = [key for name, key in _secret_keys(spec) if name == found[1]]
    return {"name": found[1], **({"key": keys[0]} if keys else {})}


def _secret_keys(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in cast("Manifest", value).items():
            if name == "secretKeyRef":
                yield text(inner, "name"), text(inner, "key")
            else:
                yield from _secret_keys(inner)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _secret_keys(item)


def _condition(condition: Manifest, now: datetime) -> ConditionLine:
    return ConditionLine(
        type=text(condition, "type"),
        status=text(condition, "status"),
        reason=text(condition, "reason"),
        message=text(condition, "message"),
        age=_since(condition.get("lastTransitionTime"), now),
    )


def _pod(pod: Manifest, events: Sequence[Manifest], now: datetime) -> PodLine:
    metadata, status = part(pod, "metadata"), part(pod, "status")
    whole = {"metadata": metadata, "status": status}
    mount = next((text(e, "message") for e in events if _is_failed_mount(e, metadata.get("uid"))), "")
    trouble = pod_facts.trouble(whole, mount)
    state = "Terminating" if metadata.get("deletionTimestamp") else text(status, "phase")
    return PodLine(
        name=str(metadata["name"]),
        revision=text(metadata, "labels", LABEL_REVISION),
        ready=pod_facts.is_ready(whole),
        restarts=sum(number(container, "restartCount") for container in entries(status, "containerStatuses")),
        state=str(trouble.reason) if trouble else state,
        age=_since(metadata.get("creationTimestamp"), now),
        trouble=trouble.message if trouble else "",
    )


def _is_failed_mount(event: Manifest, uid: object) -> bool:
    return event.get("reason") == "FailedMount" and member(event, "involvedObject", "uid") == uid


def _events(events: Sequence[Manifest], now: datetime) -> tuple[EventLine, ...]:
    lines = [
        EventLine(
            type=text(event, "type") or "Normal",
            reason=text(event, "reason"),
            about=f"{text(event, 'involvedObject', 'kind')} {text(event, 'involvedObject', 'name')}",
            message=" ".join(text(event, "message").split()),
            count=number(event, "series", "count") or number(event, "count") or 1,
            age=_since(_when(event), now),
        )
        for event in events
    ]
    newest = sorted(lines, key=lambda line: line.age if line.age is not None else float("inf"))
    return tuple(reversed(newest[:_EVENTS_SHOWN]))


def _when(event: Manifest) -> str:
    return text(event, "series", "lastObservedTime") or text(event, "lastTimestamp") or text(event, "eventTime")


def _since(timestamp: object, now: datetime) -> float | None:
    if not timestamp:
        return None
    try:
        return (now - datetime.fromisoformat(str(timestamp))).total_seconds()
    except ValueError:
        return None
