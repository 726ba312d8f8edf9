"""Decides how kopf is used: as the AgentService event stream, and as nothing else.

Its handler only hands the object to the store. No create/update/delete handlers, timers, finalizers, annotations or
patches: with null storages kopf has nothing to write. What kopf 1.45 does not do is done here (facts measured on it):

- after a 410 it does not tell of objects deleted meanwhile: whenever it lists, the store lists too, and kopf is told that there is nothing: it would
  hold each object it has listed, with a queue and a task, for a second (20 kB each);
- an exception in an event handler is swallowed: ours cannot fail;
- a refused list or an ERROR event in a watch ends it: it is started again, for ever;
- a kind that the API server does not name when kopf looks, as in its first moments, it never notices: without a watch it is started again;
- at its end it cancels every task younger than itself: it is told that all of them are spared;
- it takes the signal handlers of the process: they are taken back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, cast

import aiohttp
import kopf
from yarl import URL

from agentservice_operator.kube.agentservices import AgentServiceStore
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.credentials import Connection
from agentservice_operator.kube.errors import Forbidden, KubeError, NotFound
from agentservice_operator.kube.resources import AGENTSERVICES
from agentservice_operator.kube.retry import backoff
from agentservice_operator.manifest import Manifest

RELIST_SECONDS = 300.0
"""How often the AgentServices are listed though nothing seems wrong: a watch task of kopf's may have died silently."""

DEAF_SECONDS = 10.0
"""How long kopf may take to begin its watch."""

logger = logging.getLogger(__name__)


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no last-handled state. Building it took 75 % of kopf's time per event."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return cast("kopf.BodyEssence", {})

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Writes nothing."""


class NoProgress(kopf.ProgressStorage):
    """Remembers no handler's progress: there are none that progress."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Writes nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Writes nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Writes nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class EndlessBackoffs:
    """kopf's delays between retries, in seconds: without end, and iterable again for each request (a generator is not)."""

    def __iter__(self) -> Iterator[float]:
        yield from (1, 1, 2, 3, 5, 8, 13, 21)
        while True:
            yield 30


class EveryTask(Collection[Any]):
    """Contains whatever is asked for: what kopf takes as the tasks that are not its own to cancel."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


def settings() -> kopf.OperatorSettings:
    """Everything of kopf's that could write, scan or give up, turned off."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.scanning.disabled = True
    made.peering.standalone = True
    made.persistence.diffbase_storage = NoDiffBase()
    made.persistence.progress_storage = NoProgress()
    made.persistence.finalizer = "agentservice.dev/kopf"  # never set; the default's name is another project's domain
    made.networking.error_backoffs = cast("Any", EndlessBackoffs())
    made.networking.request_timeout = 30
    made.watching.chunk_size = 1  # what it lists is not looked at, see `_Answer`
    # of a task per object: until then it holds the object, and it keeps nothing that its successor would miss
    made.queueing.idle_timeout = 0.05
    made.watching.server_timeout = 290
    made.watching.client_timeout = 320
    made.watching.inactivity_timeout = 90
    made.process.ultimate_exiting_timeout = None  # it would SIGKILL this thread ten minutes after a stop
    return made


class _Answer(aiohttp.ClientResponse):
    """What kopf hears. Of a list of AgentServices only how old it is."""

    async def json(self, **options: Any) -> Any:
        said = await super().json(**options)
        if not (self.ok and _is_list(self.url)):
            return said
        return {"metadata": {"resourceVersion": said["metadata"]["resourceVersion"]}, "items": []}


def _is_list(url: URL) -> bool:
    return _is_of_agents(url) and "watch" not in url.query


def _is_of_agents(url: URL) -> bool:
    return url.path.endswith(f"/{AGENTSERVICES.plural}")


class AgentServiceStream:
    """Keeps an `AgentServiceStore` true: kopf's events, and lists of our own. Runs until `stop`.

    `reclaim_signals` is called once kopf has put its own signal handlers in place.
    """

    def __init__(
        self,
        *,
        store: AgentServiceStore,
        client: Client,
        connection: Connection,
        namespaces: Sequence[str],
        random: Callable[[], float],
        reclaim_signals: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        relist_seconds: float = RELIST_SECONDS,
        deaf_seconds: float = DEAF_SECONDS,
        backoff_ceiling: float = 30.0,
    ) -> None:
        self.listed = asyncio.Event()
        self._store = store
        self._client = client
        self._connection = connection
        self._namespaces = tuple(namespaces)
        self._random = random
        self._reclaim_signals = reclaim_signals
        self._sleep = sleep
        self._relist_seconds = relist_seconds
        self._deaf_seconds = deaf_seconds
        self._backoff_ceiling = backoff_ceiling
        self._stopping = asyncio.Event()
        self._relist_now = asyncio.Event()

    async def run(self) -> None:
        """List, then follow, and start again whatever ends kopf."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="kopf")
            lists = group.create_task(self._keep_listing(), name="lists of AgentServices")
            await self._stopping.wait()
            lists.cancel()

    def stop(self) -> None:
        """End `run`. kopf takes up to two seconds to close its streams."""
        self._stopping.set()

    async def _follow(self) -> None:
        await self._stopping_or(self.listed)  # kopf never notices a kind that is not served when it starts
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._run_kopf()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                failures += 1
                logger.warning("the stream of AgentServices ended, starting it again: %s", type(error).__name__)
                logger.debug("kopf ended with", exc_info=error)
            else:
                failures = 0
            if self._stopping.is_set():
                return
            self.listed.clear()
            self._relist_now.set()  # tells what was missed, and whether the API server is there at all
            await self._wait(backoff(failures, base=0.5, ceiling=self._backoff_ceiling, random=self._random))
            await self._stopping_or(self.listed)

    async def _stopping_or(self, other: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (other, self._stopping)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _run_kopf(self) -> None:
        watches, ending = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._end_when_deaf(watches, ending), name="whether kopf watches")
            try:
                await self._run_kopf_until(ending, watches)
            finally:
                listening.cancel()

    async def _end_when_deaf(self, watches: asyncio.Event, ending: asyncio.Event) -> None:
        """Set ``ending`` at the end of all, or when kopf watches nothing."""
        try:
            async with asyncio.timeout(self._deaf_seconds):
                await self._stopping_or(watches)
            await self._stopping.wait()
        except TimeoutError:
            logger.warning(
                "the stream of AgentServices has not begun after %g s: the API server may not have named their kind yet; starting it again",
                self._deaf_seconds,
            )
        ending.set()

    async def _run_kopf_until(self, ending: asyncio.Event, watches: asyncio.Event) -> None:
        tasks = await kopf.spawn_tasks(
            registry=self._registry(watches),
            settings=settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=ending,
            # Else kopf asks the system for the user's name, which a container's bare uid has not: OSError. Peering is off.
            identity=cast("Any", "agentservice-operator"),
        )
        self._reclaim_signals()
        await kopf.run_tasks(tasks, ignored=EveryTask())

    def _registry(self, watches: asyncio.Event) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        listed: set[str] = set()

        def saw(url: URL) -> None:
            if _is_list(url):
                listed.add(url.path)
            elif _is_of_agents(url):
                watches.set()
                if url.path in listed:  # what happened until the version that it watches from
                    listed.discard(url.path)
                    self._relist_now.set()

        async def login(**_: Any) -> kopf.AiohttpSession:
            # A session of its own over the shared pool: kopf closes it at its end, and at a 401 before it asks anew.
            return kopf.AiohttpSession(
                server=self._connection.server,
                aiohttp_session=self._connection.session(saw=saw, response_class=_Answer),
            )

        async def changed(event: kopf.RawEvent, **_: Any) -> None:
            self.observe(event["type"] or "ADDED", cast("Manifest", event["object"]))

        kopf.on.login(registry=registry)(cast("Any", login))
        kopf.on.event(AGENTSERVICES.group, AGENTSERVICES.version, AGENTSERVICES.plural, registry=registry)(
            cast("Any", changed)
        )
        return registry

    def observe(self, event_type: str, content: Manifest) -> None:
        """One event of kopf's. Never raises: kopf would swallow it and not tell again."""
        try:
            self._store.observe(event_type, content)
        except Exception:
            logger.exception("an event of an AgentService could not be taken, listing again")
            self._relist_now.set()

    async def _keep_listing(self) -> None:
        failures = 0
        while True:
            self._relist_now.clear()
            try:
                news = await self._store.relist(self._client, namespaces=self._namespaces)
            except KubeError as error:
                failures += 1
                self._complain(error, failures)
                await self._sleep(backoff(failures - 1, base=0.5, ceiling=self._backoff_ceiling, random=self._random))
                continue
            failures = 0
            if self.listed.is_set() and news:
                logger.info("a list of the AgentServices told %d changes that no event had told", news)
            self.listed.set()
            try:
                async with asyncio.timeout(self._relist_seconds * (0.9 + self._random() / 5)):
                    await self._relist_now.wait()
                await self._sleep(0.2)  # once for all namespaces, whose watches begin together
            except TimeoutError:
                continue

    def _complain(self, error: KubeError, failures: int) -> None:
        if failures & (failures - 1):
            return
        if isinstance(error, NotFound):
            logger.error(
                "the API server does not serve %s: install the CustomResourceDefinition of the chart (crds.enabled); "
                "waiting for it",
                AGENTSERVICES.label,
            )
        elif isinstance(error, Forbidden):
            logger.error(
                'not allowed to list AgentServices: grant the verbs "get", "list" and "watch" on %s to the operator\'s '
                "ServiceAccount; retrying (%s)",
                AGENTSERVICES.label,
                error.message,
            )
        else:
            logger.warning("cannot list the AgentServices, retrying: %s", error)
