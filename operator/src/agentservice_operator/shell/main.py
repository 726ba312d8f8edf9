"""Decides the life of the process: start, stand by, lead, stop. Exit codes are in `Exit`."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from agentservice_operator.kube.client import Client, Exchange
from agentservice_operator.kube.credentials import Connection, CredentialsError, Endpoint, find_endpoint
from agentservice_operator.kube.lease import Elector, LeadershipLost, Timing
from agentservice_operator.queue import Priority, WorkQueue
from agentservice_operator.shell import logging as shell_logging
from agentservice_operator.shell.health import Health, HealthServer
from agentservice_operator.shell.metrics import CONTENT_TYPE, Metrics
from agentservice_operator.shell.settings import Settings, SettingsError, from_environment

DRAIN_SECONDS = 5.0
"""How long running reconciles may finish after SIGTERM. With the release of the lease, under ten in all."""

logger = logging.getLogger("agentservice_operator")


class Exit(IntEnum):
    """Exit codes of the process."""

    STOPPED = 0
    """Asked to stop, and the lease was given back."""
    FAILED = 1
    """A fault; the log says which."""
    MISCONFIGURED = 2
    """An environment variable or the credentials; nothing was started."""
    LEADERSHIP_LOST = 3
    """The lease could not be renewed or is somebody else's; nothing was written since."""


class Process:
    """One run of the operator in an event loop. `timing` of the lease is for tests that cannot wait."""

    def __init__(self, *, settings: Settings, endpoint: Endpoint, timing: Timing | None = None) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._timing = timing
        self._stopping = asyncio.Event()
        self._signals = 0
        self._metrics = Metrics()
        self.health = Health(metrics=lambda: (self._metrics.render(), CONTENT_TYPE))
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: list[asyncio.Task[None]] = []
        self._server = HealthServer(self.health, port=settings.http_port)
        self._connection: Connection | None = None

    def stop(self) -> None:
        """Begin to stop, as SIGTERM does; the second time, end at once."""
        self._signals += 1
        if self._signals > 1:
            logging.shutdown()
            os._exit(Exit.FAILED)
        logger.info("asked to stop")
        self._stopping.set()

    def claim_signals(self) -> None:
        """Let SIGTERM and SIGINT stop us. kopf takes them for itself when it starts, so this is called again then."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    async def run(self) -> Exit:
        """Run until stopped, until leadership is lost, or until a fault."""
        self.claim_signals()
        try:
            await self._server.start()
        except OSError as error:
            logger.error("port %d cannot be opened (%s): set HTTP_PORT", self._settings.http_port, error.strerror)
            return Exit.MISCONFIGURED
        # Slow imports (kopf, Pydantic models) in a thread: the liveness probe is answered meanwhile.
        await asyncio.to_thread(_import_the_rest)
        _collect_less_garbage()
        self.health.waiting_for.clear()
        connection = self._connection = Connection(self._endpoint, clock=time.monotonic)
        self._metrics.leading(self._settings.lease_name, False)
        elector = Elector(
            client=self._client(connection),
            namespace=self._settings.pod_namespace,
            name=self._settings.lease_name,
            identity=f"{self._settings.pod_name}_{secrets.token_hex(4)}",
            clock=time.monotonic,
            wall=_utc_now,
            random=_random,
            timing=self._timing,
        )
        logger.info("standing by as %s, the API server is %s", elector.identity, self._endpoint.server)
        acquiring = self._spawn(elector.acquire(), "election")
        await self._first(acquiring)
        code = Exit.STOPPED
        if not self._stopping.is_set():
            acquiring.result()
            code = await self._lead(connection, elector)
        if code is Exit.LEADERSHIP_LOST:
            return code  # at once: every further await would be time in which somebody else leads too
        await elector.release(timeout=2.0)
        self._metrics.leading(self._settings.lease_name, False)
        await self.close()
        return code

    async def close(self) -> None:
        """Cancel what runs and close what is open. After a lost leadership nobody waits for this: the process ends."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=2.0)  # kopf closes its streams in its own order
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.5)
        if self._connection is not None:
            await self._connection.close()
        await self._server.stop()

    async def _lead(self, connection: Connection, elector: Elector) -> Exit:
        from agentservice_operator.kube.events import Recorder
        from agentservice_operator.prices import PlatformPrices
        from agentservice_operator.shell.coalescing import Coalescing
        from agentservice_operator.shell.controller import Controller
        from agentservice_operator.shell.kopf_app import AgentServiceStream
        from agentservice_operator.shell.price_book import PriceBookWatch
        from agentservice_operator.shell.reconciling import build_reconciler
        from agentservice_operator.shell.wiring import Wiring

        settings = self._settings
        logger.info("leading")
        self._metrics.leading(settings.lease_name, True)
        self._metrics.workers(settings.workers)
        self.health.waiting_for[:] = ["the first lists"]
        holding = self._spawn(elector.hold(), "lease")
        queue = WorkQueue(clock=time.monotonic, random=_random, observer=self._metrics.queue_observer())
        coalescing = Coalescing(is_waiting=lambda: queue.is_waiting)
        client = self._client(connection, guard=elector.guard, saw=coalescing.saw)
        self._metrics.watch_queue(queue)
        self.health.longest_running = lambda: max(queue.running().values(), default=0.0)
        wiring = Wiring(
            client=client, queue=queue, namespaces=settings.watch_namespaces, clock=time.monotonic, random=_random
        )
        recorder = Recorder(
            client=self._client(connection, guard=elector.guard),
            instance=settings.pod_name,
            clock=time.monotonic,
            wall=_utc_now,
            word=lambda: secrets.token_hex(8),
            busy=lambda: queue.is_waiting,
        )
        prices = PlatformPrices(settings.price_book)
        informers = list(wiring.informers)
        price_book: PriceBookWatch | None = None
        if settings.price_book:
            price_book = PriceBookWatch(
                client=client,
                recorder=recorder,
                prices=prices,
                namespace=settings.pod_namespace,
                changed=wiring.prices_changed,
                clock=time.monotonic,
                random=_random,
            )
            informers.append(price_book.informer)
        stream = AgentServiceStream(
            store=wiring.agent_services,
            client=client,
            connection=connection,
            namespaces=settings.watch_namespaces,
            random=_random,
            reclaim_signals=self.claim_signals,
        )
        controller = Controller(
            reconciler=build_reconciler(
                settings=settings,
                client=client,
                caches=wiring.caches,
                recorder=recorder,
                metrics=self._metrics,
                prices=prices,
                queue=queue,
                clock=time.monotonic,
                random=_random,
            ),
            metrics=self._metrics,
            clock=time.monotonic,
            began=coalescing.begin,
        )
        running = [
            holding,
            self._spawn(recorder.run(), "events"),
            *(self._spawn(informer.run(), f"informer of {informer.resource.label}") for informer in informers),
        ]
        synced = self._spawn(_all_set(*(informer.synced for informer in informers)), "first lists")
        working: asyncio.Task[None] | None = None
        if await self._reached(synced, running):
            if price_book is not None and not len(price_book.informer):
                price_book.tell()
            # The AgentServices last: what is reconciled first already sees the children that exist.
            self._ending.append(self._spawn(stream.run(), "AgentServices"))
            running += self._ending
            listed = self._spawn(_all_set(stream.listed), "first list of AgentServices")
            if await self._reached(listed, running):
                working = self._spawn(queue.run(controller.process, workers=settings.workers), "workers")
                running += [working, self._spawn(self._resync(queue, wiring.agent_services.keys), "resync")]
                self.health.waiting_for.clear()
                logger.info("serving %d AgentServices", len(wiring.agent_services))
                await self._first(*running)
        code = self._verdict(running)
        if code is Exit.LEADERSHIP_LOST:
            return code
        queue.stop()
        if working is not None:
            done, _ = await asyncio.wait([working, holding], timeout=DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if holding in done:
                return self._verdict([holding])
            if working not in done:
                logger.warning(
                    "%d reconciles still run after %g s and are cut off", len(queue.running()), DRAIN_SECONDS
                )
        stream.stop()
        try:
            async with asyncio.timeout(1.0):
                await recorder.flush()
        except TimeoutError:
            logger.warning("some events were not posted in time")
        return code

    def _verdict(self, tasks: list[asyncio.Task[None]]) -> Exit:
        """Why the first of the tasks ended; STOPPED when none did."""
        for task in tasks:
            if not task.done() or task.cancelled():
                continue
            error = task.exception()
            if isinstance(error, LeadershipLost):
                logger.error("leadership lost, ending: %s", error)
                return Exit.LEADERSHIP_LOST
            if error is not None or not self._stopping.is_set():
                logger.error("%s ended unexpectedly: please report it", task.get_name(), exc_info=error)
                return Exit.FAILED
        return Exit.STOPPED

    async def _resync(self, queue: WorkQueue, keys: Callable[[], list[Any]]) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            for key in keys():
                # Spread over the period, so that a thousand objects are no burst.
                queue.add_after(key, _random() * self._settings.resync_seconds, priority=Priority.RESYNC)

    async def _reached(self, goal: asyncio.Task[None], running: list[asyncio.Task[None]]) -> bool:
        """Wait for the goal. False when the process is asked to stop or one of the running tasks ends before."""
        await self._first(goal, *running)
        return goal.done() and not self._stopping.is_set() and not any(task.done() for task in running)

    async def _first(self, *tasks: asyncio.Task[None]) -> None:
        """Wait until one of the tasks ends or the process is asked to stop."""
        stopping = asyncio.create_task(self._stopping.wait(), name="stop flag")
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    def _client(
        self,
        connection: Connection,
        *,
        guard: Callable[[], None] | None = None,
        saw: Callable[[float], None] = lambda _: None,
    ) -> Client:
        measure = self._metrics.request_observer(connection.server.split("://", 1)[-1])

        def observe(exchange: Exchange) -> None:
            measure(exchange)
            saw(exchange.seconds)

        return Client(
            wire=connection.wire,
            session=connection.session(),
            server=connection.server,
            clock=time.monotonic,
            random=_random,
            guard=guard,
            observe=observe,
            on_unauthorized=connection.distrust_token,
        )

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task


async def _all_set(*events: asyncio.Event) -> None:
    for event in events:
        await event.wait()


def _collect_less_garbage() -> None:
    """Every event and answer is a few hundred dictionaries that die young: by default an eighth of our time went into looking for cycles."""
    gc.collect()
    gc.freeze()  # what has been imported stays
    gc.set_threshold(20_000, 20, 50)


def _import_the_rest() -> None:
    for module in ("kopf_app", "reconciling", "wiring"):
        importlib.import_module(f"agentservice_operator.shell.{module}")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _random() -> float:
    return random.random()  # noqa: S311 - jitter, not secrets


def _serve(environ: Mapping[str, str]) -> Exit:
    try:
        settings = from_environment(environ)
        endpoint = find_endpoint(environ)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"agentservice-operator: {problem}\n")
        return Exit.MISCONFIGURED
    except CredentialsError as error:
        sys.stderr.write(f"agentservice-operator: {error}\n")
        return Exit.MISCONFIGURED
    shell_logging.configure(level=settings.log_level, log_format=settings.log_format)
    import uvloop

    async def run() -> Exit:
        return await Process(settings=settings, endpoint=endpoint).run()

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        return runner.run(run())
    except Exception:
        logger.exception("ending after an unexpected fault: please report it")
        return Exit.FAILED


def main() -> None:
    """The entry point of the container."""
    code = _serve(os.environ)
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: no finalizer, thread or half-closed stream may keep a process alive that has given up its lease.
    os._exit(code)
