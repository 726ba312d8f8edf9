"""Decides what the queue's configuration becomes in the process: where tasks are kept, who does what is due, and who works."""

from __future__ import annotations

import asyncio
import logging
import secrets as random_words
import socket
from collections.abc import Callable
from typing import Any

from agentservice_api import RuntimeConfig
from agentservice_api.config import QueueConfig, Role
from agentservice_api.names import queue_prefix
from agentservice_runtime.drain import Drain
from agentservice_runtime.logs import LOGGER
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.runner import Question
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.service import Service
from agentservice_runtime.tasks import problems
from agentservice_runtime.tasks.bell import Bell
from agentservice_runtime.tasks.execution import Execution
from agentservice_runtime.tasks.metrics import TaskMetrics
from agentservice_runtime.tasks.store import TaskStore, Terms, Unavailable
from agentservice_runtime.tasks.worker import Worker


class Tasks:
    """The queue in this process. `start` lets it work, if that is its role."""

    def __init__(
        self, config: QueueConfig, *, store: TaskStore, bell: Bell, metrics: TaskMetrics, drain: Drain, role: Role
    ) -> None:
        self.store = store
        self.bell = bell
        self.metrics = metrics
        self.drain = drain
        self._config = config
        self._works = role is Role.WORKER or not config.has_workers
        self._worker: Worker | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def start(self, service: Service, *, read: Callable[[dict[str, Any]], Question]) -> None:
        """Do what is due from now on, and work."""
        self._sweeping = asyncio.create_task(self._sweep(), name="tasks-sweep")
        if self._works:
            self._worker = Worker(
                self.store,
                work=Execution(service, read=read, store=self.store),
                concurrency=self._config.concurrency_per_pod,
                drain=self.drain,
                metrics=self.metrics,
            )
            self._worker.start()
            self.drain.also(self._worker.finish)

    async def close(self) -> None:
        """Give back what runs, and close the connections. Never raises."""
        if self._worker is not None:
            await self._worker.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self.bell.close()
        await self.store.close()

    async def _sweep(self) -> None:
        """Every process does it, also where others work: a task that waits for its next try has no worker yet."""
        while True:
            try:
                self.metrics.swept(await self.store.sweep())
            except Unavailable:
                pass
            except Exception:
                logging.getLogger(f"{LOGGER}.tasks").exception("the queue could not be swept")
            await asyncio.sleep(self.store.sweep_seconds)


def build_tasks(config: RuntimeConfig, *, secrets: SecretFiles, metrics: Metrics, drain: Drain, role: Role) -> Tasks:
    """Return the queue; nothing is connected yet."""
    queue = config.queue
    if queue is None:
        raise ValueError("the configuration has no queue")
    selector = queue.redis_url.secret_key_ref

    def url() -> str | None:
        return secrets.read(selector)

    prefix = queue_prefix(namespace=config.namespace, name=config.name, uid=queue.uid)
    terms = Terms(
        lease_seconds=queue.lease_seconds,
        max_attempts=queue.max_attempts,
        result_seconds=queue.result_ttl_seconds,
        cancelled=problems.CANCELLED,
        given_up=problems.given_up(queue.max_attempts),
    )
    consumer = f"{socket.gethostname()}-{random_words.token_hex(4)}"
    return Tasks(
        queue,
        store=TaskStore(url, prefix=prefix, terms=terms, consumer=consumer),
        bell=Bell(url, channel=f"{prefix}:news"),
        metrics=TaskMetrics(metrics.registry, agent_name=config.name),
        drain=drain,
        role=role,
    )
