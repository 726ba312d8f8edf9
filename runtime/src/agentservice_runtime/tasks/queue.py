"""Decides what the queue's configuration becomes in the process: where tasks are kept, who does what is due, and who works."""

from __future__ import annotations

import asyncio
import logging
import secrets as random_words
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from agentservice_api import RuntimeConfig
from agentservice_api.config import QueueConfig, Role
from agentservice_api.names import queue_prefix
from agentservice_runtime.drain import Drain
from agentservice_runtime.logs import LOGGER
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.patience import answer_seconds
from agentservice_runtime.runner import Question
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.service import Service
from agentservice_runtime.tasks import problems
from agentservice_runtime.tasks.bell import Bell
from agentservice_runtime.tasks.execution import Execution
from agentservice_runtime.tasks.metrics import TaskMetrics
from agentservice_runtime.tasks.store import TaskStore, Terms, Unavailable
from agentservice_runtime.tasks.worker import Worker

if TYPE_CHECKING:  # only tasks with steps pay for it
    from agentservice_runtime.steps.journal import Journals

STEPS_ANSWER_VARIABLE: Final = "AGENTSERVICE_STEPS_ANSWER_SECONDS"
"""How long the database of the steps may take to answer, in place of the default."""
STEPS_ANSWER_SECONDS: Final = 5.0


class Tasks:
    """The queue in this process. `start` lets it work, if that is its role."""

    def __init__(
        self,
        config: QueueConfig,
        *,
        store: TaskStore,
        bell: Bell,
        metrics: TaskMetrics,
        drain: Drain,
        role: Role,
        journals: Journals | None = None,
    ) -> None:
        self.store = store
        self.bell = bell
        self.metrics = metrics
        self.drain = drain
        self._config = config
        self._works = role is Role.WORKER or not config.has_workers
        self._worker: Worker | None = None
        self._journals = journals
        self._sweeping: list[asyncio.Task[None]] = []

    def start(self, service: Service, *, read: Callable[[dict[str, Any]], Question]) -> None:
        """Do what is due from now on, and work."""
        self._sweeping = [asyncio.create_task(self._sweep(), name="tasks-sweep")]
        if self._works:
            if self._journals is not None:
                self._sweeping.append(asyncio.create_task(self._journals.sweep_for_ever(), name="steps-sweep"))
            self._worker = Worker(
                self.store,
                work=Execution(service, read=read, store=self.store, journals=self._journals),
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
        for sweeping in self._sweeping:
            sweeping.cancel()
        await asyncio.gather(*self._sweeping, return_exceptions=True)
        if self._journals is not None:
            await self._journals.close()
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
    """Return the queue; nothing is connected yet. Raises ConfigurationRejected."""
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
        journals=_journals(config, queue, secrets=secrets, keep_seconds=terms.dead_seconds),
    )


def _journals(
    config: RuntimeConfig, queue: QueueConfig, *, secrets: SecretFiles, keep_seconds: float
) -> Journals | None:
    if queue.steps_url is None:
        return None
    from agentservice_runtime.steps.journal import Journals
    from agentservice_runtime.steps.store import StepStore

    selector = queue.steps_url.secret_key_ref

    def url() -> str | None:
        return secrets.read(selector)

    owner = "/".join((config.namespace, config.name, queue.uid))
    seconds = answer_seconds(STEPS_ANSWER_VARIABLE, default=STEPS_ANSWER_SECONDS)
    return Journals(StepStore(url, owner=owner, keep_seconds=keep_seconds, answer_seconds=seconds))
