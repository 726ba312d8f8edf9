"""Ledgers that are broken on purpose, each in one way that somebody has shipped somewhere. The machines must catch all of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentservice_api.budget import Amount, LedgerSpec, ModelSpend
from agentservice_api.budget.ledger import LedgerStatus, instant_text
from agentservice_runtime.ledger import slice_keeper, slices
from agentservice_runtime.ledger.authority import Authority
from agentservice_runtime.ledger.interface import Answer, Granted
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from agentservice_runtime.ledger.server_clock import ServerClock
from agentservice_runtime.ledger.slices import Account, Batch, Slice, landed
from agentservice_runtime.ledger.sqlite import SQLiteLedger

from . import stories
from .api_server import Client
from .machine import LedgerMachine, SlicesMachine, SQLiteMachine
from .stories import Story
from .worlds import SlicesWorld, SQLiteWorld, World, calendar

# --- over SQLite


class ChecksThenAdds(SQLiteLedger):
    """Looks in one transaction and writes in another."""

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        before = self._reserve

        def look(db: sqlite3.Connection) -> Answer:
            db.execute("SAVEPOINT look")
            answer = before(db, request_id, bound=bound, minimum=minimum)
            db.execute("ROLLBACK TO look")
            return answer

        answer = await self._do(look)
        await asyncio.sleep(0)
        if not isinstance(answer, Granted):
            return answer
        terms, self._terms = self._terms, LedgerSpec()  # what was judged is not judged again
        try:
            return await self._do(lambda db: before(db, request_id, bound=answer.amount, minimum=answer.amount))
        finally:
            self._terms = terms


class ForgetsToRelease(SQLiteLedger):
    """Counts what was billed, and leaves the reservation where it is."""

    def _settle(self, db: sqlite3.Connection, request_id: str, spend: ModelSpend) -> None:
        row = db.execute("SELECT tokens, nano, daily, monthly FROM reservation WHERE id = ? AND state = 'open'",
                         (request_id,)).fetchone()  # fmt: skip
        super()._settle(db, request_id, spend)
        if row is not None:
            for name, start in zip(("daily", "monthly"), row[2:], strict=True):
                db.execute("UPDATE window SET reserved_tokens = reserved_tokens + ?, reserved_nano = reserved_nano + ? "
                           "WHERE name = ? AND start = ?", (row[0], row[1], name, start))  # fmt: skip


class ReturnsWhatDied(SQLiteLedger):
    """Gives a dead process's reservations back: what never settled was never spent."""

    def _sweep(self, db: sqlite3.Connection) -> None:
        super()._sweep(db)
        db.execute("UPDATE window SET presumed_tokens = 0, presumed_nano = 0")
        db.execute("UPDATE reservation SET tokens = 0, nano = 0 WHERE state = 'presumed'")


class ReadsItsLimitOnce(SQLiteLedger):
    """Is not told of another limit."""

    def change(self, terms: LedgerSpec) -> None:
        pass


class SettlesIntoToday(SQLiteLedger):
    """Counts what was billed in the window of now, whenever it was granted."""

    def _settle(self, db: sqlite3.Connection, request_id: str, spend: ModelSpend) -> None:
        starts = [instant_text(account.window.start) for account in self._roll(db)]
        row = db.execute("SELECT daily FROM reservation WHERE id = ? AND state != 'settled'", (request_id,)).fetchone()
        super()._settle(db, request_id, spend)
        if row is not None and row[0] != starts[0]:
            for sign, start in ((-1, row[0]), (1, starts[0])):
                db.execute("UPDATE window SET settled_tokens = settled_tokens + ?, settled_nano = settled_nano + ? "
                           "WHERE name = 'daily' AND start = ?",
                           (sign * spend.tokens, sign * spend.nano_usd, start))  # fmt: skip


class KeepsYesterdaysReservations(SQLiteLedger):
    """Begins a day with what was reserved the day before."""

    def _roll(self, db: sqlite3.Connection) -> Any:
        before = super()._roll
        known = {account.window: account for account in self._seen}
        accounts = before(db)
        for account in accounts:
            old = next((one for one in known.values() if one.window.name == account.window.name), None)
            if old is not None and old.window != account.window and not account.reserved and old.reserved:
                db.execute("UPDATE window SET reserved_tokens = ?, reserved_nano = ? WHERE name = ? AND start = ?",
                           (old.reserved.tokens, old.reserved.nano_usd, account.window.name,
                            instant_text(account.window.start)))  # fmt: skip
        return before(db)


class CountsOneUnit(SQLiteLedger):
    """Has a limit in dollars and judges by tokens."""

    def _reserve(self, db: sqlite3.Connection, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        terms = self._terms
        self._terms = terms.model_copy(
            update={"windows": tuple(window.model_copy(update={"nano_usd": None}) for window in terms.windows)}
        )
        try:
            return super()._reserve(db, request_id, bound=bound, minimum=minimum)
        finally:
            self._terms = terms


# --- over slices


class _Slices(SlicesWorld):
    """With parts that are broken."""

    authority_type: type[Authority] = Authority
    ledger_type: type[KubernetesLedger] = KubernetesLedger

    def authority(self, client: Client, clock: ServerClock) -> Authority:
        return self.authority_type(
            client=client,  # type: ignore[arg-type]
            clock=clock,
            calendar=calendar,
            random=self.chance.random,
            monotonic=self.loop.time,
        )

    def ledger(self, authority: Authority, *, name: str, pod: str) -> KubernetesLedger:
        return self.ledger_type(authority=authority, pod=pod, word=name, monotonic=self.loop.time)


class IgnoresVersions(_Slices):
    """Writes over whatever is there."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.server.ignores_versions = True


class GrantsFromThePool(_Slices):
    """Judges by the pool that it has seen, and takes nothing of it."""

    class ledger_type(KubernetesLedger):  # noqa: N801
        async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
            free = [one.pool for one, _ in self._keeper.accounts]
            if free and self._keeper.ready and all(bound.fits(pool) for pool in free) and self.view():
                return self._grant(request_id, bound, self._keeper.ready, self._monotonic())
            return await super().reserve(request_id, bound=bound, minimum=minimum)


class ReturnsDeadSlices(_Slices):
    """The operator gives the slices of dead pods back to the pool."""

    async def tidy(self) -> None:
        status, pods = self.server.status, {process.pod for process in self.processes}
        windows, holders = list(status.windows), list(status.holders)
        for hand in status.holders:
            if self.is_gone(hand.holder, pods):
                holders.remove(hand)
                for at, window in enumerate(windows):
                    if window.key == hand.key:
                        left = window.authorized - hand.held
                        windows[at] = window.model_copy(
                            update={"authorized_tokens": left.tokens, "authorized_nano_usd": left.nano_usd}
                        )
        self.server.status = status.model_copy(update={"windows": tuple(windows), "holders": tuple(holders)})
        self.server.change(self.server.spec.model_copy(update={"time_zone": f"{len(holders)}"}))
        self.server.change(self.spec)
        await super().tidy()


class ReadsTheSpecOnce(_Slices):
    """Goes on with the terms that it began with."""

    class authority_type(Authority):  # noqa: N801
        first: LedgerSpec | None = None

        def seen(self) -> Any:
            stored = super().seen()
            self.first = self.first or stored.spec
            return stored.model_copy(update={"spec": self.first})


class KeepsYesterdaysSlices(_Slices):
    """Grants from a slice when its window has ended."""

    class ledger_type(KubernetesLedger):  # noqa: N801
        async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
            ready = self._keeper.ready
            if ready and all(bound.fits(one.free) for one in ready):
                return self._grant(request_id, bound, ready, self._monotonic())
            return await super().reserve(request_id, bound=bound, minimum=minimum)

        def view(self) -> Any:
            self._keeper.until, until = float("inf"), self._keeper.until
            try:
                return super().view()
            finally:
                self._keeper.until = until


class NeverReleases(_Slices):
    """Takes what was billed from its slice, and leaves what was reserved."""


def _never_releases(self: Slice, reserved: Amount, spend: ModelSpend) -> None:
    kept = (reserved - spend.amount).non_negative()
    _SETTLE(self, reserved, spend)
    self.free_tokens -= kept.tokens
    self.reserved_tokens += kept.tokens


_SETTLE = Slice.settle


class WritesAnewWhatHasLanded(_Slices):
    """Takes a lost answer for a write that was not made."""


def _never_landed(status: LedgerStatus, holder: str, batch: Batch) -> bool:
    return not batch.in_doubt and landed(status, holder, batch)


class GrantsBeyondALimitThatFell(_Slices):
    """Spends what it has in hand whatever the limit is now."""


def _machine(world: type[World], base: type[LedgerMachine]) -> type[LedgerMachine]:
    return type(f"With{world.__name__}", (base,), {"world_type": world, "__module__": __name__})


def _over_a_file(ledger: type[SQLiteLedger]) -> type[LedgerMachine]:
    class Over(SQLiteWorld):
        def ledger(self) -> SQLiteLedger:
            return ledger(self.path, terms=self.spec, now=self.now, calendar=calendar, lease_seconds=30.0)

    Over.__name__ = ledger.__name__
    return _machine(Over, SQLiteMachine)


@dataclass(frozen=True)
class Broken:
    """A machine over a broken ledger, and what shows it; ``parts`` of the product are replaced while it runs."""

    machine: type[LedgerMachine]
    story: Story
    parts: tuple[tuple[Any, str, Any], ...] = ()


BROKEN: Mapping[str, Broken] = {
    **{
        f"SQLite{ledger.__name__}": Broken(_over_a_file(ledger), story)
        for ledger, story in (
            (ChecksThenAdds, stories.two_reserve_at_once),
            (ForgetsToRelease, stories.one_settles),
            (ReturnsWhatDied, stories.one_runs_on_and_is_counted_dead),
            (ReadsItsLimitOnce, stories.a_limit_is_raised),
            (SettlesIntoToday, stories.a_day_ends_in_mid_request),
            (KeepsYesterdaysReservations, stories.a_day_ends_in_mid_request),
            (CountsOneUnit, stories.the_limit_in_dollars_is_the_narrower),
        )
    },
    **{
        f"Slices{world.__name__}": Broken(_machine(world, SlicesMachine), story, parts)
        for world, story, parts in (
            (IgnoresVersions, stories.one_has_not_heard_of_the_other, ()),
            (GrantsFromThePool, stories.one_takes_what_another_has, ()),
            (ReturnsDeadSlices, stories.one_is_killed_in_mid_request, ()),
            (ReadsTheSpecOnce, stories.a_limit_falls_below_what_is_in_hand, ()),
            (KeepsYesterdaysSlices, stories.a_day_ends_with_some_in_hand, ()),
            (NeverReleases, stories.one_settles, ((Slice, "settle", _never_releases),)),
            (
                WritesAnewWhatHasLanded,
                stories.one_ends_in_the_middle_of_a_write,
                ((slices, "landed", _never_landed), (slice_keeper, "landed", _never_landed)),
            ),
            (
                GrantsBeyondALimitThatFell,
                stories.the_other_limit_falls_to_nothing,
                ((Account, "is_frozen", False),),
            ),
        )
    },
}
