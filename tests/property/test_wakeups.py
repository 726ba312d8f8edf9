"""Whatever the order of events, answers, losses and deletions: in the end nobody sleeps on a change that was not looked at.

The wiring, the stores and the queue are the real ones. Around them stand a toy reconciler of one child, and a model of a server
whose watches lag, break and list anew, and whose answers are late, lost or refusals. Time is the model's: hours take
milliseconds, and a seed always tells the same story.
"""

import asyncio
import copy
import random
import selectors
from collections.abc import Callable
from typing import Any

import pytest

from agentservice_api import names
from agentservice_operator.kube.errors import AlreadyExists, Conflict, KubeError, NotFound, TransportError
from agentservice_operator.kube.store import ObjectStore
from agentservice_operator.manifest import Key
from agentservice_operator.observe import intent
from agentservice_operator.queue import WorkQueue
from agentservice_operator.shell.wiring import Wiring

KEYS = [Key("ns", name) for name in "ab"]
STEPS = 40
Live = dict[str, Any]


class Skipping(selectors.SelectSelector):
    """Does not wait: it says that the time has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.now += max(0.0, timeout)
        return super().select(0)


class ModelTime(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


class Server:
    """Objects of two kinds, every state that they had, and the writes of ours."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.objects: dict[str, dict[Key, Live]] = {"AgentService": {}, "Deployment": {}}
        self.log: dict[str, list[tuple[str, Live]]] = {"AgentService": [], "Deployment": []}
        self.news = {kind: asyncio.Event() for kind in self.objects}
        self.version = 0
        self._uids = 0

    def read(self, kind: str, key: Key) -> Live | None:
        return copy.deepcopy(self.objects[kind].get(key))

    def store(self, kind: str, key: Key, content: Live) -> Live:
        """Create or replace; what changes nothing makes no new version."""
        before = self.objects[kind].get(key)
        if before is not None and before == content:
            return copy.deepcopy(before)
        self.version += 1
        made = copy.deepcopy(content)
        if before is None:
            self._uids += 1
            made["metadata"]["uid"] = f"uid-{self._uids}"
        made["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind][key] = made
        self._tell(kind, before, made)
        return copy.deepcopy(made)

    def remove(self, kind: str, key: Key) -> None:
        before = self.objects[kind].pop(key, None)
        if before is None:
            return
        self.version += 1
        last = copy.deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.version)
        if selected(before):
            self._append(kind, "DELETED", last)

    def _tell(self, kind: str, before: Live | None, now: Live) -> None:
        was = before is not None and selected(before)
        if selected(now):
            self._append(kind, "MODIFIED" if was else "ADDED", now)
        elif was:
            self._append(kind, "DELETED", now)

    def _append(self, kind: str, event: str, content: Live) -> None:
        self.log[kind].append((event, copy.deepcopy(content)))
        self.news[kind].set()

    async def pause(self) -> None:
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.01, 0.1, 3]))

    async def write(self, change: Callable[[], Live]) -> Live:
        """Carry out a write of ours. Raises what `change` raises, or TransportError: before it, or after it was done."""
        await self.pause()
        fate = self.chance.random()
        if fate < 0.05:
            raise TransportError("not sent")
        answer = change()
        await self.pause()
        if fate < 0.12:
            raise TransportError("answer lost")
        return answer


def selected(content: Live) -> bool:
    """Whether the watch's label selector matches; AgentServices are watched without one."""
    return content["kind"] == "AgentService" or names.LABEL_NAME in content["metadata"]["labels"]


class Feed:
    """A watch of one kind: in order, late, and now and then broken; it lists then, which tells no deletions."""

    def __init__(self, server: Server, kind: str, store: ObjectStore) -> None:
        self._server, self._kind, self._store = server, kind, store
        self._position = 0

    async def run(self) -> None:
        while True:
            log = self._server.log[self._kind]
            if self._server.chance.random() < 0.03:
                await self._list()
            if self._position < len(log):
                event, content = log[self._position]
                self._position += 1
                if event == "DELETED":
                    self._store.bury(copy.deepcopy(content))
                else:
                    self._store.put(copy.deepcopy(content))
                await self._server.pause()
            else:
                self._server.news[self._kind].clear()
                await self._server.news[self._kind].wait()

    async def _list(self) -> None:
        await self._server.pause()
        version, self._position = str(self._server.version), len(self._server.log[self._kind])
        items = [copy.deepcopy(item) for item in self._server.objects[self._kind].values() if selected(item)]
        seen: set[Key] = set()
        for item in items:
            await self._server.pause()
            seen.add(Key(item["metadata"]["namespace"], item["metadata"]["name"]))
            self._store.put(item)
        self._store.prune(seen=seen, version=version, namespace="")


class Toy:
    """Reads, writes one child, judges, reports: the reconciler's use of the stores, without what it decides."""

    def __init__(self, server: Server, wiring: Wiring) -> None:
        self._server = server
        self._services = wiring.agent_services
        self._children = wiring.caches.children["Deployment"]

    async def process(self, key: Key) -> float | None:
        live = self._services.get(*key)
        if live is None:
            return None
        child = self._children.get(*key)
        if child is None or child["spec"] != live["spec"] or owner_of(child) != live["metadata"]["uid"]:
            # Several chains of one reconcile may write one object at once: all of them end before one's error counts.
            writes = [self._write(key, live, child) for _ in range(self._server.chance.choice([1, 1, 1, 2]))]
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                if outcome is not None:
                    raise outcome
        status = judged(live, self._children.get(*key))
        if status == live.get("status"):
            return None
        with self._services.writing(*key) as answered:
            try:
                answer = await self._server.write(lambda: self._report(key, live, status))
            except NotFound:
                return None
            if intent(answer) == intent(live):
                answered(answer)
        return None

    async def _write(self, key: Key, live: Live, child: Live | None) -> None:
        uid = live["metadata"]["uid"]
        with self._children.writing(*key) as answered:
            if child is None:
                try:
                    answered(await self._server.write(lambda: self._create(key, child_of(key, live))))
                    return
                except AlreadyExists:
                    child = await self._server.write(lambda: self._read(key))
            if owner_of(child) != uid:
                raise Conflict(status=409, reason="Conflict", message="the predecessor's child is still there")
            held = child["metadata"]["uid"]
            answer = await self._server.write(lambda: self._apply(key, held, child_of(key, live)))
            if answer["spec"] == live["spec"]:
                answered(answer)

    def _create(self, key: Key, content: Live) -> Live:
        if key in self._server.objects["Deployment"]:
            raise AlreadyExists(status=409, reason="AlreadyExists", message="it exists")
        return self._server.store("Deployment", key, content)

    def _read(self, key: Key) -> Live:
        found = self._server.read("Deployment", key)
        if found is None:
            raise NotFound(status=404, reason="NotFound", message="it is gone")
        return found

    def _apply(self, key: Key, uid: str, content: Live) -> Live:
        now = self._server.read("Deployment", key)
        if now is None or now["metadata"]["uid"] != uid:
            raise Conflict(status=409, reason="Conflict", message="another one")
        metadata = {**now["metadata"], **content["metadata"]}
        return self._server.store("Deployment", key, {**now, "spec": content["spec"], "metadata": metadata})

    def _report(self, key: Key, live: Live, status: Live) -> Live:
        now = self._server.read("AgentService", key)
        if now is None or now["metadata"]["uid"] != live["metadata"]["uid"]:
            raise NotFound(status=404, reason="NotFound", message="it is gone")
        return self._server.store("AgentService", key, {**now, "status": status})


def owner_of(child: Live) -> str:
    return child["metadata"]["ownerReferences"][0]["uid"]


def child_of(key: Key, live: Live) -> Live:
    reference = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": key.name, "controller": True}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "namespace": key.namespace,
            "name": key.name,
            "labels": {names.LABEL_NAME: key.name},
            "ownerReferences": [{**reference, "uid": live["metadata"]["uid"]}],
        },
        "spec": live["spec"],
        "status": {},
    }


def judged(live: Live, child: Live | None) -> Live:
    return {"observedGeneration": live["metadata"]["generation"], "seen": child and child["status"]}


class World:
    """Users, controllers and vandals."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._acts = [self._declare, self._declare, self._ready, self._ready, self._ready, self._edit, self._unlabel]
        self._acts += [self._delete_child, self._delete]

    async def run(self) -> None:
        for _ in range(STEPS):
            self._server.chance.choice(self._acts)(self._server.chance.choice(KEYS))
            await self._server.pause()
        for key in KEYS:
            self._declare(key)

    async def collect(self) -> None:
        """The garbage collector, and the controller that tells how a Deployment fares in the end."""
        while True:
            await asyncio.sleep(self._server.chance.random() * 10)
            for key, child in list(self._server.objects["Deployment"].items()):
                parent = self._server.objects["AgentService"].get(key)
                if parent is None or parent["metadata"]["uid"] != owner_of(child):
                    self._server.remove("Deployment", key)

    def _declare(self, key: Key) -> None:
        now = self._server.read("AgentService", key)
        spec = {"value": self._server.chance.randrange(3)}
        if now is None:
            metadata = {"namespace": key.namespace, "name": key.name, "generation": 1}
            now = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
        elif now["spec"] != spec:
            now["spec"] = spec
            now["metadata"]["generation"] += 1
        self._server.store("AgentService", key, now)

    def _ready(self, key: Key) -> None:
        child = self._server.read("Deployment", key)
        if child is not None:
            child["status"] = {"ready": self._server.chance.randrange(3)}
            self._server.store("Deployment", key, child)

    def _edit(self, key: Key) -> None:
        child = self._server.read("Deployment", key)
        if child is not None:
            child["spec"] = {"value": "edited"}
            self._server.store("Deployment", key, child)

    def _unlabel(self, key: Key) -> None:
        child = self._server.read("Deployment", key)
        if child is not None:
            child["metadata"]["labels"] = {}
            self._server.store("Deployment", key, child)

    def _delete_child(self, key: Key) -> None:
        self._server.remove("Deployment", key)

    def _delete(self, key: Key) -> None:
        self._server.remove("AgentService", key)


async def story(seed: int) -> None:
    chance = random.Random(seed)
    server = Server(chance)
    loop = asyncio.get_running_loop()
    queue = WorkQueue(clock=loop.time, random=chance.random)
    wiring = Wiring(client=None, queue=queue, namespaces=(), clock=loop.time, random=chance.random)  # type: ignore[arg-type]
    stores: dict[str, Any] = {
        "AgentService": wiring.agent_services,
        "Deployment": wiring.caches.children["Deployment"],
    }
    world = World(server)
    tasks = [asyncio.create_task(Feed(server, kind, store).run()) for kind, store in stores.items()]
    tasks.append(asyncio.create_task(world.collect()))
    working = asyncio.create_task(queue.run(Toy(server, wiring).process, workers=2))
    await world.run()
    await asyncio.sleep(3600)
    queue.stop()
    await working
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for key in KEYS:
        service, child = server.objects["AgentService"][key], server.objects["Deployment"].get(key)
        assert child is not None, "its child was never made again"
        assert child["spec"] == service["spec"], "an edit or a change of the specification was not looked at"
        assert selected(child), "a label that was taken away was not given back"
        assert service["status"] == judged(service, child), "a state of the child was not reported"
    for kind, store in stores.items():
        held = {key: store.get(*key)["metadata"]["resourceVersion"] for key in store.keys()}  # noqa: SIM118 - a store is no dict
        there = {key: content["metadata"]["resourceVersion"] for key, content in server.objects[kind].items()}
        assert held == there, "what is believed is not what is there"


@pytest.mark.parametrize("start", range(0, 320, 40))
def test_in_the_end_every_change_was_looked_at_whatever_the_order_in_which_it_was_told(start: int) -> None:
    for seed in range(start, start + 40):
        with asyncio.Runner(loop_factory=ModelTime) as runner:
            try:
                runner.run(story(seed))
            except (AssertionError, KubeError) as error:
                pytest.fail(f"seed {seed}: {error}")
