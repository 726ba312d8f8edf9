"""`agentservice status`: reads what `report` judges, and shows it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from agentservice_api.names import API_VERSION, KIND, LABEL_NAME, LABEL_WORKERS, workers_name
from agentservice_cli.cluster.client import Cluster, RefusedError
from agentservice_cli.cluster.plain import Manifest, member
from agentservice_cli.cluster.report import Report, report
from agentservice_cli.exits import CliError
from agentservice_cli.terminal import Cell, Tone, age, note, say, table, waiting

_POLL_SECONDS = 1.0


def status_of(cluster: Cluster, *, namespace: str, name: str) -> Report:
    """Return the report on one AgentService. Raises CliError; pods and events that may not be read are left out."""
    live = agent_service(cluster, namespace=namespace, name=name)
    pods = _if_allowed(cluster, "v1", "Pod", namespace, labelSelector=f"{LABEL_NAME}={name}")
    workers = list[Manifest]()
    if member(live, "spec", "queue", "enabled") and member(live, "spec", "queue", "workers") is not None:
        pods += _if_allowed(cluster, "v1", "Pod", namespace, labelSelector=f"{LABEL_WORKERS}={name}")
        only = f"metadata.name={workers_name(name)}"
        workers = _if_allowed(cluster, "apps/v1", "Deployment", namespace, fieldSelector=only)
    uids = {live["metadata"]["uid"], *(pod["metadata"]["uid"] for pod in pods)}
    events = _if_allowed(cluster, "v1", "Event", namespace)
    mine = [event for event in events if (event.get("involvedObject") or {}).get("uid") in uids]
    return report(live, pods=pods, events=mine, workers=workers[0] if workers else None, now=datetime.now(tz=UTC))


def status_of_all(cluster: Cluster, *, namespace: str | None) -> list[Report]:
    """Return a short report on each AgentService of a namespace, or of all (None). Raises CliError."""
    now = datetime.now(tz=UTC)
    return [report(live, now=now) for live in cluster.items(API_VERSION, KIND, namespace)]


def wait_until_ready(cluster: Cluster, *, namespace: str, name: str, seconds: float) -> Report:
    """Look again until the AgentService is Ready or the time is over, and return the last report. Raises CliError."""
    deadline = time.monotonic() + seconds
    shown = ""
    with waiting(f"waiting for {name} …") as update:
        while True:
            found = status_of(cluster, namespace=namespace, name=name)
            text = f"{name}: {found.reason}: {found.message}"
            update(text)
            if text != shown and not found.ready:
                shown = text
            if found.ready or time.monotonic() >= deadline:
                return found
            time.sleep(_POLL_SECONDS)


def agent_service(cluster: Cluster, *, namespace: str, name: str) -> Manifest:
    """Return the live AgentService. Raises CliError that lists what there is instead."""
    live = cluster.find(API_VERSION, KIND, namespace, name)
    if live is not None:
        return live
    others = sorted(item["metadata"]["name"] for item in cluster.items(API_VERSION, KIND, namespace))
    there = f"there: {', '.join(others[:10])}" if others else "there are none in that namespace"
    raise CliError(f"there is no AgentService {name} in namespace {namespace}", mend=f"{there}; choose another with -n")


def show_all(reports: Sequence[Report], *, with_namespace: bool, scope: str) -> None:
    """Write a table, the ones that need somebody first."""
    if not reports:
        note(f"no AgentServices in {scope}")
        return
    headings = ["NAME", "READY", "STATUS", "MODEL", "REPLICAS", "AGE", "MESSAGE"]
    rows: list[list[Cell | str]] = []
    for found in sorted(reports, key=lambda r: (r.ready is True, r.namespace, r.name)):
        row: list[Cell | str] = [
            Cell(found.name, Tone.STRONG),
            _ready(found.ready),
            found.reason,
            found.model or "(its own)",
            f"{found.replicas}/{found.wanted}",
            _age(found.age),
            "" if found.ready else found.message,
        ]
        rows.append([found.namespace, *row] if with_namespace else row)
    table(["NAMESPACE", *headings] if with_namespace else headings, rows)


def show(found: Report) -> None:
    """Write everything about one AgentService: what it is, why it waits, what to do."""
    say(f"{found.namespace}/{found.name}  ", Tone.STRONG, end="")
    words = {True: "Ready", False: f"not ready: {found.reason}", None: "not looked at yet"}
    say(words[found.ready], _ready(found.ready).tone)
    say(found.message)
    facts = {
        "model": found.model or "the agent's own",
        "replicas": f"{found.replicas} of {found.wanted} ready",
        "workers": f"{found.workers.ready} of {found.workers.wanted} ready" if found.workers else "",
        "revision": found.revision,
        "url": found.url,
        "token": f"Secret {found.token_secret}" if found.token_secret else "",
        "budget": f"{found.budget} (agentservice budget {found.name})" if found.budget else "",
        "age": _age(found.age),
    }
    for key, value in facts.items():
        if value:
            say(f"  {key.ljust(9)} ", Tone.QUIET, end="")
            say(value)
    if found.conditions:
        _heading("Conditions")
        table(
            ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"],
            [[c.type, c.status, c.reason, _age(c.age), _once(c.message, found)] for c in found.conditions],
        )
    if found.pods:
        _heading("Pods")
        table(
            ["NAME", "REVISION", "READY", "RESTARTS", "AGE", "STATE", "TROUBLE"],
            [
                [p.name, p.revision, _ready(p.ready), str(p.restarts), _age(p.age), p.state, _once(p.trouble, found)]
                for p in found.pods
            ],
        )
    if found.events and not found.ready:
        _heading("Events")
        rows = [
            [
                _age(e.age),
                Cell(e.type, Tone.CAUTION if e.type == "Warning" else Tone.PLAIN),
                e.reason,
                e.about,
                e.message,
            ]
            for e in found.events
            if _once(e.message, found) == e.message
        ]
        table(["AGE", "TYPE", "REASON", "ABOUT", "MESSAGE"], rows)
    if found.advice:
        _heading("What to do")
        for text in found.advice:
            say(f"  {text}")


def _once(message: str, found: Report) -> str:
    """Return the message, unless the headline says the same already."""
    return "(see above)" if message and found.message.startswith(message) else message


def _heading(text: str) -> None:
    say()
    say(text, Tone.HEADING)


def _ready(ready: bool | None) -> Cell:
    return {True: Cell("True", Tone.GOOD), False: Cell("False", Tone.BAD), None: Cell("Unknown", Tone.CAUTION)}[ready]


def _age(seconds: float | None) -> str:
    return "" if seconds is None else age(seconds)


def _if_allowed(cluster: Cluster, api_version: str, kind: str, namespace: str, **query: str) -> list[Manifest]:
    try:
        return cluster.items(api_version, kind, namespace, **query)
    except RefusedError as error:
        if error.status == 403:
            note(f"{kind}s may not be read: {error.message}")
            return []
        raise
