"""Decides how one key is worked on: bounded in time, measured, and its failure reported once, in words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from agentservice_operator.kube.errors import ApiError, Conflict, KubeError
from agentservice_operator.kube.lease import LeadershipLost
from agentservice_operator.manifest import Key
from agentservice_operator.shell import logging as shell_logging
from agentservice_operator.shell.metrics import Metrics, Outcome

RECONCILE_SECONDS = 120.0
"""A reconcile that takes longer is cut off and tried again."""

logger = logging.getLogger(__name__)


class Result(Protocol):
    """What a reconcile gives back. `requeue_after`: seconds after which it wants to run again, or None."""

    @property
    def requeue_after(self) -> float | None: ...


class Reconciles(Protocol):
    """The loop body. Raising means: try again with backoff."""

    async def reconcile(self, key: Key) -> Result: ...


class Controller:
    """Calls the reconciler for a key, as `WorkQueue.run` wants it. `clock` is monotonic seconds. `began` is called at each."""

    def __init__(
        self,
        *,
        reconciler: Reconciles,
        metrics: Metrics,
        clock: Callable[[], float],
        timeout: float = RECONCILE_SECONDS,
        began: Callable[[], None] = lambda: None,
    ) -> None:
        self._began = began
        self._reconciler = reconciler
        self._metrics = metrics
        self._clock = clock
        self._timeout = timeout

    async def process(self, key: Key) -> float | None:
        """Reconcile and return `requeue_after`.

        Raises:
            Exception: whatever the reconcile raised, after it was logged and counted.
        """
        began = self._clock()
        outcome = Outcome.ERROR
        self._metrics.reconcile_began()
        self._began()
        with shell_logging.about(key):
            try:
                async with asyncio.timeout(self._timeout):
                    result = await self._reconciler.reconcile(key)
                outcome = Outcome.SUCCESS if result.requeue_after is None else Outcome.REQUEUE_AFTER
                return result.requeue_after
            except LeadershipLost:
                raise  # the process ends; there is nothing wrong with this object
            except Conflict as error:
                logger.info("what was read is outdated, trying again: %s", error)
                raise
            except TimeoutError:
                logger.error("cut off after %g s, trying again", self._timeout)
                raise
            except KubeError as error:
                level = logging.ERROR if isinstance(error, ApiError) and error.status < 500 else logging.WARNING
                logger.log(level, "trying again: %s", error)
                raise
            except Exception:
                logger.exception("trying again after an unexpected fault: please report it")
                raise
            finally:
                self._metrics.reconcile_ended(outcome, seconds=self._clock() - began)
