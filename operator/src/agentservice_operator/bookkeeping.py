"""Decides the order in which a ledger is kept: look, name the next write, carry it out, look again, until it rests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agentservice_api import names
from agentservice_api.budget import LedgerSpec
from agentservice_api.budget.ledger import instant
from agentservice_api.config import LedgerType
from agentservice_operator.budget import Figures, figures
from agentservice_operator.caches import BY_SERVICE, Caches
from agentservice_operator.kube import ledgers
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import Conflict, NotFound
from agentservice_operator.kube.resources import AGENTLEDGERS
from agentservice_operator.ledger import (
    Account,
    Create,
    Delete,
    Lost,
    Rest,
    Situation,
    Write,
    account,
    is_pod,
    is_wanted_back,
    next_step,
    pod_uid,
)
from agentservice_operator.manifest import Key, Manifest, Owner
from agentservice_operator.pods import is_over
from agentservice_operator.render.metadata import labels
from agentservice_operator.report import Announcement

GRACE: Final = timedelta(seconds=30)
"""How long a pod that holds a part of a budget may be unknown to us before it counts as gone: the watch of pods may lag."""
_LONGEST: Final = timedelta(hours=6)
"""No wait is longer: clocks are set right, and computers are suspended."""
_STEPS: Final = 16
"""More than a ledger ever needs; pods that write at the same time cost us some."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A ledger that rests; without an account where there is none."""

    account: Account | None = None
    windows: tuple[Figures, ...] = ()
    """The current ones; none while there are no accounts."""
    wait: float | None = None
    """Seconds after which it has to be looked at again."""


class Bookkeeper:
    """Keeps AgentLedgers. `now` is the API server's clock: it decides when a window is over."""

    def __init__(self, *, client: Client, caches: Caches, now: Callable[[], datetime]) -> None:
        self._client = client
        self._store = caches.ledgers
        self._pods = caches.pods
        self._lost = caches.lost_ledgers
        self._now = now
        self._missed: dict[Key, dict[str, datetime]] = {}

    def terms(self, key: Key) -> LedgerSpec | None:
        """Return the terms that are in force, None without a ledger."""
        stored = self._store.get(*key)
        return account(stored).spec if stored is not None else None

    def has_lost(self, key: Key) -> bool:
        """Tell whether there was a ledger that is deleted now."""
        return self._store.get(*key) is None and self._lost.get(key) is not None

    async def keep(
        self,
        key: Key,
        *,
        wanted: LedgerSpec | None,
        has_service: bool,
        existed: bool,
        announce: Callable[[Manifest, Announcement], None],
    ) -> Kept:
        """Make the ledger of ``key`` as it should be. ``announce`` is given the ledger that an Event is about.

        Raises the client's errors; Conflict when pods write faster than we do, or the ledger has just vanished.
        """
        for _ in range(_STEPS):
            stored = self._store.get(*key)
            lost = self._lost.get(key)
            if stored is None and lost is None and wanted is None:
                self._missed.pop(key, None)
                return Kept()  # nearly every AgentService has no budget: this must cost nothing
            now = self._now()
            live = account(stored) if stored is not None else None
            gone, judged_at = self._gone(key, live, now)
            step = next_step(
                Situation(
                    name=key.name,
                    wanted=wanted,
                    has_service=has_service,
                    live=live,
                    lost=self._remains(key, now),
                    existed=existed,
                    gone=gone.__contains__,
                    labels=labels(Owner(namespace=key.namespace, name=key.name, uid="")),
                    now=now,
                )
            )
            if isinstance(step, Rest):
                windows = figures(live, now=now)
                times = [*(instant(window.end) for window in windows), step.until, judged_at]
                return Kept(account=live, windows=windows, wait=_wait(times, now))
            await self._carry_out(key, stored, step, announce)
        raise Conflict(
            status=409, reason="Conflict", message=f"AgentLedger {key} is written faster than it can be kept"
        )

    def _remains(self, key: Key, now: datetime) -> Lost | None:
        remains = self._lost.get(key)
        if remains is None:
            return None
        lost = account(remains.ledger)
        if not is_wanted_back(lost, now):
            self._lost.forget(key)
            return None
        return Lost(account=lost, is_last=remains.is_last)

    def _gone(self, key: Key, live: Account | None, now: datetime) -> tuple[set[str], datetime | None]:
        """Return the holders whose pods are gone, and when the next unknown one has to be judged."""
        holders = {hand.holder for hand in live.status.holders} if live is not None else set[str]()
        pods: list[Manifest] = [pod["metadata"] for pod in self._pods.by_index(BY_SERVICE, key) if not is_over(pod)]
        alive = {pod["uid"] for pod in pods}
        in_redis = LedgerType.REDIS.value in {pod["labels"].get(names.LABEL_LEDGER) for pod in pods}
        before = self._missed.pop(key, {})
        missed = {
            holder: before.get(holder, now)
            for holder in holders
            if (pod_uid(holder) not in alive if is_pod(holder) else not in_redis)
        }
        if missed:
            self._missed[key] = missed
        gone = {holder for holder, since in missed.items() if now - since >= GRACE}
        return gone, min((since + GRACE for holder, since in missed.items() if holder not in gone), default=None)

    async def _carry_out(
        self,
        key: Key,
        stored: Manifest | None,
        step: Create | ledgers.LiveStep,
        announce: Callable[[Manifest, Announcement], None],
    ) -> None:
        try:
            with self._store.writing(*key) as answered:
                answer = await self._write(key, stored, step, answered)
        except NotFound as error:
            if stored is None:
                raise
            # The watch will tell what was deleted, and only then it is known what has to be restored.
            raise Conflict(status=409, reason="Conflict", message=f"AgentLedger {key} has vanished") from error
        if answer is None and not isinstance(step, Delete):
            return
        logger.info("%s AgentLedger %s", type(step).__name__.lower(), key.name)
        if isinstance(step, (Write, Delete)):
            self._lost.forget(key)
        if isinstance(step, Write) and answer is not None:
            for announcement in step.announcements:
                announce(answer, announcement)

    async def _write(
        self,
        key: Key,
        stored: Manifest | None,
        step: Create | ledgers.LiveStep,
        answered: Callable[[Manifest], None],
    ) -> Manifest | None:
        """Write ``step`` and return the ledger as it is then; None after a deletion, or when it had changed meanwhile."""
        try:
            if isinstance(step, Create):
                answer = await ledgers.create(self._client, key, step.spec)
            else:
                assert stored is not None, "only a ledger that is there can be written"  # noqa: S101
                answer = await ledgers.write(self._client, stored, step)
        except Conflict:
            answered(await self._client.get(AGENTLEDGERS, key.namespace, key.name))
            return None
        if answer is not None:
            answered(answer)
        return answer


def _wait(times: Iterable[datetime | None], now: datetime) -> float | None:
    """Return the seconds until the first of ``times``, a little more so that it has come then."""
    first = min((time for time in times if time is not None), default=None)
    return None if first is None else max(timedelta(), min(first - now, _LONGEST)).total_seconds() + 1
