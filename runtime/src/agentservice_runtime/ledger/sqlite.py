"""Decides how a budget is kept in one SQLite file: for `agentservice run`, several processes of one machine at once.

Each step is one transaction that holds the write lock from its first statement (BEGIN IMMEDIATE), so what is judged is
what is written. WAL does not work on network file systems (https://www.sqlite.org/wal.html): the file belongs on a local disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from agentservice_api.budget import Amount, LedgerSpec, ModelSpend, Verdict, Window, WindowName, decide
from agentservice_api.budget.books import KEPT_MONTHS, Calendar, calendar
from agentservice_api.budget.ledger import instant, instant_text
from agentservice_api.budget.windows import WINDOWS
from agentservice_runtime.ledger.interface import (
    LEASE_SECONDS,
    Answer,
    Busy,
    Exhausted,
    Granted,
    LedgerUnavailable,
    WindowView,
)
from agentservice_runtime.ledger.turns import Turns

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS window (
  name TEXT, start TEXT, "end" TEXT, settled_tokens INTEGER DEFAULT 0, settled_nano INTEGER DEFAULT 0,
  presumed_tokens INTEGER DEFAULT 0, presumed_nano INTEGER DEFAULT 0, reserved_tokens INTEGER DEFAULT 0,
  reserved_nano INTEGER DEFAULT 0, PRIMARY KEY (name, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservation (
  id TEXT PRIMARY KEY, state TEXT, tokens INTEGER, nano INTEGER, daily TEXT, monthly TEXT, lease REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leases ON reservation (state, lease);
CREATE TABLE IF NOT EXISTS model (
  "window" TEXT, start TEXT, name TEXT, price TEXT, tokens INTEGER, nano INTEGER,
  PRIMARY KEY ("window", start, name, price)) WITHOUT ROWID;
"""
_OPEN, _PRESUMED, _SETTLED = "open", "presumed", "settled"
_TOMBSTONE_SECONDS: Final = 86_400.0
"""How long a settled id is remembered, so that repeating a settlement counts nothing twice."""
_SWEPT_AT_ONCE: Final = 64
_BUSY_SECONDS: Final = 1.0
_LOCK_SECONDS: Final = 10.0

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Account:
    """One window's row."""

    window: Window
    settled: Amount
    presumed: Amount
    reserved: Amount

    @property
    def spent(self) -> Amount:
        return self.settled + self.presumed


class SQLiteLedger:
    """A `Ledger` in one file, which is made when it is missing."""

    def __init__(
        self,
        path: Path,
        *,
        terms: LedgerSpec,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        calendar: Calendar = calendar,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """``now`` (UTC) dates windows and leases; processes that share the file share the machine's clock."""
        self._path = path
        self._terms = terms
        self._now = now
        self._calendar = calendar
        self._lease_seconds = lease_seconds
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[_Account, ...] = ()
        self._owed: dict[str, ModelSpend] = {}
        self._turns = Turns()

    @property
    def spec(self) -> LedgerSpec:
        """The terms in force."""
        return self._terms

    def change(self, terms: LedgerSpec) -> None:
        """Let other limits, prices or another zone hold from now on."""
        self._terms = terms

    async def open(self) -> None:
        """Open the file. Raises LedgerUnavailable."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        await self._do(lambda db: None)

    async def close(self) -> None:
        """Close the file. A reservation that is still open is presumed spent when its lease ends."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(thread, self._shut)
        finally:
            thread.shutdown(wait=False)

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        """See `Ledger.reserve`."""
        return await self._do(lambda db: self._reserve(db, request_id, bound=bound, minimum=minimum))

    async def renew(self, request_id: str) -> None:
        """See `Ledger.renew`."""
        await self._do(lambda db: self._renew(db, request_id))

    async def settle(self, request_id: str, spend: ModelSpend) -> None:
        """See `Ledger.settle`."""
        self._owed[request_id] = spend
        try:
            await self._do(lambda db: None)
        except LedgerUnavailable:
            return  # it stays owed: the next step, or closing, pays first
        finally:
            self._turns.call()

    async def changed(self, seconds: float) -> None:
        """See `Ledger.changed`."""
        await self._turns.changed(seconds)

    def view(self) -> tuple[WindowView, ...]:
        """See `Ledger.view`."""
        return tuple(
            WindowView(
                name=account.window.name,
                start=account.window.start,
                end=account.window.end,
                limit=self._terms.limit(account.window.name),
                spent=account.spent,
                reserved=account.reserved,
            )
            for account in self._seen
        )

    async def models(self) -> tuple[tuple[Window, tuple[ModelSpend, ...]], ...]:
        """Return what each model cost in each window that is kept, the oldest first."""
        return await self._do(_models)

    async def _do(self, step: Callable[[sqlite3.Connection], T]) -> T:
        if self._thread is None:
            raise LedgerUnavailable("the ledger is closed")
        loop = asyncio.get_running_loop()
        # A caller that is cancelled does not undo its step: a reservation that nobody waits for ends with its lease.
        return await loop.run_in_executor(self._thread, self._transaction, step)

    def _transaction(self, step: Callable[[sqlite3.Connection], T]) -> T:
        try:
            db = self._connected()
            db.execute("BEGIN IMMEDIATE")
            try:
                owed = dict(self._owed)
                for request_id, spend in owed.items():
                    self._settle(db, request_id, spend)
                result = step(db)
                accounts = self._roll(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger's file cannot be used ({type(error).__name__})") from error
        for request_id, spend in owed.items():
            if self._owed.get(request_id) is spend:
                del self._owed[request_id]
        self._seen = accounts
        return result

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            db = sqlite3.connect(self._path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            # A killed process loses nothing in WAL; a machine that loses power may lose the last transactions.
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
            self._connection = db
        return self._connection

    def _shut(self) -> None:
        try:
            if self._owed:
                self._transaction(lambda db: None)
        except LedgerUnavailable:
            pass
        finally:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _reserve(self, db: sqlite3.Connection, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        known = db.execute("SELECT tokens, nano FROM reservation WHERE id = ?", (request_id,)).fetchone()
        if known is not None:
            return Granted(amount=Amount(*known))
        self._sweep(db)
        now, accounts = self._now(), self._roll(db)
        amount = bound
        if self._terms.is_hard:
            verdicts = [
                (
                    account,
                    *decide(
                        limit=self._terms.limit(account.window.name),
                        spent=account.spent,
                        reserved=account.reserved,
                        bound=bound,
                        minimum=minimum,
                    ),
                )
                for account in accounts
            ]
            ended = [account.window for account, verdict, _ in verdicts if verdict is Verdict.EXHAUSTED]
            if ended:
                last = max(ended, key=lambda window: window.end)
                return Exhausted(window=last.name, resets_in=max(0.0, (last.end - now).total_seconds()))
            if any(verdict is Verdict.BUSY for _, verdict, _ in verdicts):
                return Busy(retry_after=_BUSY_SECONDS)
            for _, _, granted in verdicts:
                amount = amount.at_most(granted)
        starts = {account.window.name: instant_text(account.window.start) for account in accounts}
        db.execute(
            "INSERT INTO reservation VALUES (?, ?, ?, ?, ?, ?, ?)",
            (request_id, _OPEN, amount.tokens, amount.nano_usd, *(starts[name] for name in WINDOWS), self._lease()),
        )
        _add(db, [starts[name] for name in WINDOWS], "reserved", amount)
        return Granted(amount=amount)

    def _renew(self, db: sqlite3.Connection, request_id: str) -> None:
        row = _reservation(db, request_id)
        if row is None or row[0] == _SETTLED:
            return
        state, amount, starts = row
        if state == _PRESUMED:  # it was slow, not dead
            _add(db, starts, "presumed", Amount() - amount)
            _add(db, starts, "reserved", amount)
        db.execute("UPDATE reservation SET state = ?, lease = ? WHERE id = ?", (_OPEN, self._lease(), request_id))

    def _settle(self, db: sqlite3.Connection, request_id: str, spend: ModelSpend) -> None:
        row = _reservation(db, request_id)
        if row is not None and row[0] == _SETTLED:
            return
        if row is None:
            starts = [instant_text(account.window.start) for account in self._roll(db)]
            db.execute(
                "INSERT INTO reservation VALUES (?, ?, 0, 0, ?, ?, ?)",
                (request_id, _SETTLED, *starts, self._tombstone()),
            )
        else:
            state, amount, starts = row
            _add(db, starts, "reserved" if state == _OPEN else "presumed", Amount() - amount)
            db.execute(
                "UPDATE reservation SET state = ?, lease = ? WHERE id = ?", (_SETTLED, self._tombstone(), request_id)
            )
        _add(db, starts, "settled", spend.amount)
        for name, start in zip(WINDOWS, starts, strict=True):
            db.execute(
                "INSERT INTO model VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens, "
                "nano = nano + excluded.nano",
                (name.value, start, spend.name, spend.price, spend.tokens, spend.nano_usd),
            )

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Presume spent what died, and forget what was settled or presumed long ago."""
        now = self._now().timestamp()
        dead = db.execute(
            "SELECT id, tokens, nano, daily, monthly FROM reservation WHERE state = ? AND lease < ? LIMIT ?",
            (_OPEN, now, _SWEPT_AT_ONCE),
        ).fetchall()
        for request_id, tokens, nano, *starts in dead:
            _add(db, starts, "reserved", Amount(-tokens, -nano))
            _add(db, starts, "presumed", Amount(tokens, nano))
            db.execute("UPDATE reservation SET state = ? WHERE id = ?", (_PRESUMED, request_id))
        db.execute(
            "DELETE FROM reservation WHERE id IN (SELECT id FROM reservation WHERE state = ? AND lease < ? LIMIT ?)",
            (_SETTLED, now, _SWEPT_AT_ONCE),
        )
        db.execute(
            "DELETE FROM reservation WHERE id IN (SELECT id FROM reservation WHERE state = ? AND lease < ? LIMIT ?)",
            (_PRESUMED, now - _TOMBSTONE_SECONDS, _SWEPT_AT_ONCE),
        )

    def _roll(self, db: sqlite3.Connection) -> tuple[_Account, ...]:
        """Return the current windows, opened where the last ones are over."""
        now = self._now()
        accounts: list[_Account] = []
        for name in WINDOWS:
            account = _current(db, name)
            if account is None or now >= account.window.end:
                window = self._calendar(self._terms, name, account.window if account is not None else None, now)
                db.execute(
                    'INSERT INTO window (name, start, "end") VALUES (?, ?, ?)',
                    (name.value, instant_text(window.start), instant_text(window.end)),
                )
                _forget(db, now - KEPT_MONTHS)
                account = _Account(window=window, settled=Amount(), presumed=Amount(), reserved=Amount())
            accounts.append(account)
        return tuple(accounts)

    def _lease(self) -> float:
        return self._now().timestamp() + self._lease_seconds

    def _tombstone(self) -> float:
        return self._now().timestamp() + _TOMBSTONE_SECONDS


def _current(db: sqlite3.Connection, name: WindowName) -> _Account | None:
    row = db.execute(
        'SELECT start, "end", settled_tokens, settled_nano, presumed_tokens, presumed_nano, reserved_tokens, reserved_nano '
        # by moment, not by text: "00Z" sorts after "00.5Z"
        "FROM window WHERE name = ? ORDER BY julianday(start) DESC LIMIT 1",
        (name.value,),
    ).fetchone()
    if row is None:
        return None
    return _Account(
        window=Window(name.value, instant(row[0]), instant(row[1])),
        settled=Amount(row[2], row[3]),
        presumed=Amount(row[4], row[5]),
        reserved=Amount(row[6], row[7]),
    )


def _reservation(db: sqlite3.Connection, request_id: str) -> tuple[str, Amount, list[str]] | None:
    row = db.execute(
        "SELECT state, tokens, nano, daily, monthly FROM reservation WHERE id = ?", (request_id,)
    ).fetchone()
    return None if row is None else (row[0], Amount(row[1], row[2]), list(row[3:]))


def _add(db: sqlite3.Connection, starts: Sequence[str], column: str, amount: Amount) -> None:
    """Add to ``column`` of the windows with these starts, in the order of WINDOWS."""
    for name, start in zip(WINDOWS, starts, strict=True):
        db.execute(
            f"UPDATE window SET {column}_tokens = {column}_tokens + ?, {column}_nano = {column}_nano + ? "  # noqa: S608
            "WHERE name = ? AND start = ?",
            (amount.tokens, amount.nano_usd, name.value, start),
        )


def _forget(db: sqlite3.Connection, before: datetime) -> None:
    """Drop the books that are older than the longest that any ledger keeps."""
    db.execute('DELETE FROM model WHERE ("window", start) IN (SELECT name, start FROM window WHERE "end" < ?)',
               (instant_text(before),))  # fmt: skip
    db.execute('DELETE FROM window WHERE "end" < ?', (instant_text(before),))


def _models(db: sqlite3.Connection) -> tuple[tuple[Window, tuple[ModelSpend, ...]], ...]:
    windows = db.execute('SELECT name, start, "end" FROM window ORDER BY start').fetchall()
    return tuple(
        (
            Window(name, instant(start), instant(end)),
            tuple(
                ModelSpend(name=model, price=price, tokens=tokens, nano_usd=nano)
                for model, price, tokens, nano in db.execute(
                    'SELECT name, price, tokens, nano FROM model WHERE "window" = ? AND start = ?', (name, start)
                )
            ),
        )
        for name, start, end in windows
    )
