"""How long until a child that somebody deleted or edited is as declared again, for every kind of child."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agentservice_operator.kube.resources import KNOWN
from devcluster.api import Api

Live = dict[str, Any]
JSON_PATCH = "application/json-patch+json"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Somebody's change of a child, and what of the object it changes."""

    patch: Callable[[Live], list[Live]]
    value: Callable[[Live], Any]


def _label(live: Live) -> Any:
    return live["metadata"].get("labels", {}).get("app.kubernetes.io/name")


def _env(live: Live) -> Any:
    return [entry["name"] for entry in live["spec"]["template"]["spec"]["containers"][0]["env"]]


NO_LABEL = Edit(
    patch=lambda _: [{"op": "remove", "path": "/metadata/labels/app.kubernetes.io~1name"}],
    value=_label,
)
"""What can be done to any child."""
EDITS: dict[str, Edit] = {
    "ServiceAccount": Edit(
        patch=lambda _: [{"op": "replace", "path": "/automountServiceAccountToken", "value": True}],
        value=lambda live: live.get("automountServiceAccountToken"),
    ),
    "Service": Edit(
        patch=lambda _: [{"op": "replace", "path": "/spec/ports/0/port", "value": 8999}],
        value=lambda live: live["spec"]["ports"][0]["port"],
    ),
    "Deployment": Edit(
        patch=lambda _: [
            {
                "op": "add",
                "path": "/spec/template/spec/containers/0/env/-",
                "value": {"name": "EXTRA", "value": "1"},
            }
        ],
        value=_env,
    ),
    "Role": Edit(
        patch=lambda _: [{"op": "replace", "path": "/rules", "value": []}],
        value=lambda live: live["rules"],
    ),
    "RoleBinding": Edit(
        patch=lambda _: [{"op": "replace", "path": "/subjects", "value": []}],
        value=lambda live: live.get("subjects"),
    ),
    "PodDisruptionBudget": Edit(
        patch=lambda _: [{"op": "replace", "path": "/spec/maxUnavailable", "value": 2}],
        value=lambda live: live["spec"]["maxUnavailable"],
    ),
    "HorizontalPodAutoscaler": Edit(
        patch=lambda _: [{"op": "replace", "path": "/spec/maxReplicas", "value": 99}],
        value=lambda live: live["spec"]["maxReplicas"],
    ),
    "NetworkPolicy": Edit(
        patch=lambda _: [{"op": "replace", "path": "/spec/egress", "value": [{}]}],
        value=lambda live: live["spec"].get("egress"),
    ),
}
"""By kind: the edit that matters most; NO_LABEL for the others."""


@dataclass(frozen=True, kw_only=True)
class Healing:
    """Milliseconds from the API server's answer to the deletion or edit to the watch event of the healed object."""

    kind: str
    what: str
    took: tuple[float, ...]

    @property
    def p50(self) -> float:
        return statistics.median(self.took)

    @property
    def p95(self) -> float:
        return sorted(self.took)[max(0, round(len(self.took) * 0.95) - 1)]


def measure(api: Api, namespace: str, name: str, kinds: tuple[str, ...], *, tries: int) -> Iterator[Healing]:
    """Delete and edit each kind of child of the AgentService ``name``, so many times."""
    for kind in kinds:
        collection = next(resource for resource in KNOWN if resource.kind == kind).path(namespace)
        with _watch(api, collection, name) as events:
            for what, attempt in (("deleted", _delete), ("edited", _edit)):
                took = tuple(attempt(api, collection, name, kind, events) for _ in range(tries))
                yield Healing(kind=kind, what=what, took=took)


def _child(api: Api, collection: str, name: str) -> Live:
    (found,) = api.request("GET", f"{collection}?labelSelector=agentservice.dev/name={name}")["items"]
    return found


Events = queue.Queue[tuple[float, Live]]


def _delete(api: Api, collection: str, name: str, _: str, events: Events) -> float:
    before = _child(api, collection, name)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    api.request("DELETE", f"{collection}/{before['metadata']['name']}", options)
    return _until(events, lambda live: live["metadata"]["uid"] != before["metadata"]["uid"], time.monotonic())


def _edit(api: Api, collection: str, name: str, kind: str, events: Events) -> float:
    edit = EDITS.get(kind, NO_LABEL)
    before = _child(api, collection, name)
    path = f"{collection}/{before['metadata']['name']}"
    edited = api.request("PATCH", path, edit.patch(before), content_type=JSON_PATCH)
    began, after = time.monotonic(), int(edited["metadata"]["resourceVersion"])

    def healed(live: Live) -> bool:
        return int(live["metadata"]["resourceVersion"]) > after and edit.value(live) == edit.value(before)

    return _until(events, healed, began)


def _until(events: Events, done: Callable[[Live], bool], began: float) -> float:
    while True:
        seen, live = events.get(timeout=60)
        if seen >= began - 0.5 and done(live):
            time.sleep(0.2)  # so that the next try does not meet the tail of this one
            return max(0.0, seen - began) * 1000


@contextmanager
def _watch(api: Api, collection: str, name: str) -> Iterator[Events]:
    """Each event that adds or changes a child of ``name``, with the time at which it arrived here."""
    context = ssl.create_default_context(cafile=str(api.authority))
    context.load_cert_chain(api.pair.certificate, api.pair.key)
    url = urlsplit(api.server)
    version = api.request("GET", f"{collection}?limit=1")["metadata"]["resourceVersion"]
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context)
    connection.request("GET", f"{collection}?watch=true&resourceVersion={version}")
    stream = connection.sock
    answer = connection.getresponse()
    found: Events = queue.Queue()

    def read() -> None:
        with suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
            for line in answer:
                event = json.loads(line)
                references = event["object"]["metadata"].get("ownerReferences") or []
                if event["type"] in ("ADDED", "MODIFIED") and any(r["name"] == name for r in references):
                    found.put((time.monotonic(), event["object"]))

    threading.Thread(target=read, daemon=True).start()
    try:
        yield found
    finally:
        stream.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the reader
