"""A small API server in this process whose faults are chosen: what the real one does rarely, it does when told.

It knows get, paged list, watch with bookmarks, create, replace, apply (merged, without ownership) and delete with
preconditions. Whatever depends on what a real server answers is tested in tests/apiserver instead.
"""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.retry import RetryPolicy
from agentservice_operator.kube.wire import Wire

KINDS = {
    "configmaps": "ConfigMap",
    "leases": "Lease",
    "events": "Event",
    "agentservices": "AgentService",
    "secrets": "Secret",
}


@dataclass
class Fault:
    """Answer requests that `verb` and `plural` match, `times` often, with a status, or by cutting the connection.

    `action`: an int is a status; "reset" cuts before, "lost" after the request was carried out; "hang" never answers.
    """

    verb: str
    plural: str
    action: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class FaultyApi:
    """The server. `sent` lists every request as (verb, plural, query)."""

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    sent: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    version: int = 100
    oldest: int = 0
    url: str = ""
    unnamed: int = 0
    """How often the groups are told without ours, though it is served: a real server does so in its first moments."""
    _log: list[tuple[int, str, bytes]] = field(default_factory=list)
    _watchers: set[tuple[str, asyncio.Queue[bytes | str]]] = field(default_factory=set)
    _uids: int = 0

    def put(self, plural: str, name: str, *, namespace: str = "ns", **content: Any) -> dict[str, Any]:
        """Create or change an object, as somebody else would."""
        key = (plural, namespace, name)
        old = self.objects.get(key)
        self.version += 1
        if old is None:
            self._uids += 1
        made = {
            "metadata": {
                **(content.pop("metadata", None) or {}),
                "name": name,
                "namespace": namespace,
                "uid": old["metadata"]["uid"] if old else f"uid-{self._uids}",
                "resourceVersion": str(self.version),
            },
            **content,
        }
        self.objects[key] = made
        self._emit(plural, "MODIFIED" if old else "ADDED", made)
        return made

    def remove(self, plural: str, name: str, *, namespace: str = "ns") -> None:
        gone = copy.deepcopy(self.objects.pop((plural, namespace, name)))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._emit(plural, "DELETED", gone)

    def compact(self) -> None:
        """Forget the history: a watch from before now is answered 410."""
        self.oldest = self.version
        self._log.clear()

    def end_watches(self, how: str = "end") -> None:
        """`end` closes the streams properly, `reset` cuts the connections."""
        for _, queue in list(self._watchers):
            queue.put_nowait(how)

    def send_in_watches(self, event: dict[str, Any], *, plural: str) -> None:
        """An event that is not of an object: a bookmark or an ERROR."""
        for kind, queue in list(self._watchers):
            if kind == plural:
                queue.put_nowait(json.dumps(event).encode() + b"\n")

    def count(self, verb: str, plural: str) -> int:
        return sum(1 for sent in self.sent if sent[:2] == (verb, plural))

    def watching(self, plural: str) -> int:
        return sum(1 for kind, _ in self._watchers if kind == plural)

    def _emit(self, plural: str, event_type: str, content: dict[str, Any]) -> None:
        line = json.dumps({"type": event_type, "object": _typed(plural, content)}).encode() + b"\n"
        self._log.append((self.version, plural, line))
        for kind, queue in list(self._watchers):
            if kind == plural:
                queue.put_nowait(line)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/apis", "/api", "/api/v1", "/version") or (
            request.path.startswith("/apis/") and request.path.count("/") == 3
        ):
            return self._discovery(request.path)
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        plural, name = parts[0], parts[1] if len(parts) > 1 else ""
        watch = request.query.get("watch") == "true"
        verb = {
            "GET": "watch" if watch else "get" if name else "list",
            "POST": "create",
            "PUT": "update",
            "PATCH": "apply" if "apply" in request.content_type else "patch",
            "DELETE": "delete",
        }[request.method]
        self.sent.append((verb, plural, dict(request.query)))
        self.headers.append(dict(request.headers))
        fault = next(
            (f for f in self.faults if f.verb in (verb, "*") and f.plural in (plural, "*") and f.times > 0), None
        )
        if fault is not None:
            fault.times -= 1
            if isinstance(fault.action, int):
                return _status(fault.action, headers=fault.headers, **fault.body)
            if fault.action == "hang":
                await asyncio.sleep(3600)
            if fault.action == "reset":
                return self._cut(request)
        answer = await self._carry_out(verb, plural, namespace, name, request)
        if fault is not None and fault.action == "lost":
            return self._cut(request)
        return answer

    def _cut(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _discovery(self, path: str) -> web.Response:
        groups = {"agentservice.dev": "v1alpha1", "apiextensions.k8s.io": "v1"}
        if self.unnamed:
            del groups["agentservice.dev"]
            self.unnamed -= path == "/apis"
        kinds = {
            "/apis/agentservice.dev/v1alpha1": ["agentservices"],
            "/apis/apiextensions.k8s.io/v1": ["customresourcedefinitions"],
            "/api/v1": ["namespaces", "events"],
        }
        if path == "/apis":
            named = {
                name: {"groupVersion": f"{name}/{version}", "version": version} for name, version in groups.items()
            }
            listed = [{"name": name, "versions": [it], "preferredVersion": it} for name, it in named.items()]
            return web.json_response({"groups": listed})
        if path in kinds:
            verbs = ["get", "list", "watch", "patch"]
            resources = [
                {"name": name, "singularName": "", "kind": name.title(), "namespaced": name in KINDS, "verbs": verbs}
                for name in kinds[path]
            ]
            return web.json_response({"resources": resources})
        return web.json_response({"versions": ["v1"]})

    async def _carry_out(
        self, verb: str, plural: str, namespace: str, name: str, request: web.Request
    ) -> web.StreamResponse:
        key = (plural, namespace, name)
        if verb == "watch":
            return await self._watch(plural, namespace, request)
        if verb == "list":
            return self._list(plural, namespace, request)
        body = await request.json() if request.can_read_body else {}
        if verb == "create":
            metadata = dict(body.pop("metadata"))
            if (plural, namespace, metadata["name"]) in self.objects:
                return _status(409, reason="AlreadyExists", message="it exists")
            made = self.put(plural, metadata.pop("name"), namespace=namespace, metadata=metadata, **_content(body))
            return web.json_response(_typed(plural, made), status=201)
        live = self.objects.get(key)
        if live is None and verb != "apply":
            return _status(404, reason="NotFound", message=f'{plural} "{name}" not found', details={"name": name})
        if verb == "get":
            assert live is not None
            return web.json_response(_typed(plural, live))
        if verb == "delete":
            assert live is not None
            wanted = body.get("preconditions") or {}
            if any(live["metadata"][member] != value for member, value in wanted.items()):
                return _status(409, reason="Conflict", message="precondition failed")
            self.remove(plural, name, namespace=namespace)
            return web.json_response({"kind": "Status", "status": "Success"})
        metadata = dict(body.pop("metadata"))
        asked = metadata.get("resourceVersion")
        if live is not None and asked is not None and asked != live["metadata"]["resourceVersion"]:
            return _status(409, reason="Conflict", message="the object has been modified")
        return web.json_response(
            _typed(plural, self.put(plural, name, namespace=namespace, metadata=metadata, **_content(body)))
        )

    def _list(self, plural: str, namespace: str, request: web.Request) -> web.Response:
        found = [
            _typed(plural, content)
            for (kind, inside, _), content in sorted(self.objects.items())
            if kind == plural and namespace in ("", inside)
        ]
        for item in found:
            item.pop("kind")
        start = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0) or len(found) + 1
        metadata = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return web.json_response({"kind": "List", "metadata": metadata, "items": found[start : start + limit]})

    async def _watch(self, plural: str, namespace: str, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            return web.Response(body=json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        queue: asyncio.Queue[bytes | str] = asyncio.Queue()
        for version, kind, line in self._log:
            if version > since and kind == plural:
                queue.put_nowait(line)
        watcher = (plural, queue)
        self._watchers.add(watcher)
        try:
            while isinstance(line := await queue.get(), bytes):
                if (
                    namespace
                    and json.loads(line)["object"].get("metadata", {}).get("namespace", namespace) != namespace
                ):
                    continue
                await response.write(line)
            if line == "reset":
                self._cut(request)
        except ConnectionResetError:
            pass
        finally:
            self._watchers.discard(watcher)
        return response


def _typed(plural: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": KINDS.get(plural, plural.title()), **copy.deepcopy(content)}


def _content(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}


def _status(code: int, *, headers: dict[str, str] | None = None, **status: Any) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "message": "chosen by the test", **status}
    return web.json_response(body, status=code, headers=headers)


@pytest.fixture
async def api() -> AsyncIterator[FaultyApi]:
    """The server, listening on this machine only."""
    faulty = FaultyApi()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", faulty.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    faulty.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield faulty
    faulty.end_watches()
    await runner.cleanup()


@pytest.fixture
def fault() -> type[Fault]:
    return Fault


@pytest.fixture
async def make_client(api: FaultyApi) -> AsyncIterator[Callable[..., Client]]:
    """Clients of the faulty server that retry without waiting; what they would have waited is in `client.slept`."""
    sessions: list[aiohttp.ClientSession] = []
    wires: list[Wire] = []

    def make(**changes: Any) -> Client:
        session = aiohttp.ClientSession()
        sessions.append(session)
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0)

        arguments: dict[str, Any] = {
            "session": session,
            "server": api.url,
            "clock": time.monotonic,
            "random": lambda: 0.5,
            "sleep": sleep,
            "policy": RetryPolicy(attempts=3),
        }
        if "wire" not in changes:
            arguments["wire"] = Wire(changes.get("server", api.url), clock=time.monotonic)
            wires.append(arguments["wire"])
        made = Client(**(arguments | changes))
        made.slept = slept  # type: ignore[attr-defined]
        return made

    yield make
    for session in sessions:
        await session.close()
    for wire in wires:
        await wire.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Any]:
    """Wait until a condition holds; a test that waits two minutes has failed."""

    async def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, "it never came to hold"
            await asyncio.sleep(0.005)

    return wait
