"""Whole ledgers with their processes: a file that several share, and slices of an AgentLedger. Time is the loop's."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from agentservice_api.budget import ZERO, Amount, LedgerSpec, ModelSpend, Window, WindowKey, WindowName
from agentservice_api.budget.ledger import LedgerStatus, instant_text
from agentservice_operator.ledger import Account as LedgerAccount
from agentservice_operator.ledger import Rest, Situation, Write, next_step
from agentservice_runtime.ledger.authority import Authority
from agentservice_runtime.ledger.interface import Ledger, LedgerUnavailable
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from agentservice_runtime.ledger.server_clock import ServerClock
from agentservice_runtime.ledger.sqlite import SQLiteLedger

from .api_server import BEGIN, ApiServer, Client
from .virtual_time import VirtualLoop

DAY = 600
MONTH = 4 * DAY
LEASE = 30.0
"""Seconds."""


def calendar(spec: LedgerSpec, name: WindowName, previous: Window | None, moment: datetime) -> Window:
    """Have days of ten minutes and months of four days."""
    length = DAY if name is WindowName.DAILY else MONTH
    start = datetime.fromtimestamp(moment.timestamp() // length * length, UTC)
    end = start + timedelta(seconds=length)
    return Window(name.value, max(start, previous.end) if previous is not None else start, end)


@dataclass(frozen=True, kw_only=True)
class Account:
    """One window in the books."""

    taken: Amount
    """Spent, or in somebody's hand."""
    spent: Amount
    """Billed or presumed."""
    presumed: Amount
    is_closed: bool = False
    """Whether nothing is settled into it any more."""

    @property
    def held(self) -> Amount:
        return self.taken - self.spent


@dataclass(eq=False, kw_only=True)
class Process:
    """One process of one pod or of one machine."""

    name: str
    pod: str
    ledger: Ledger
    client: Client | None = None


class World(ABC):
    """One account and those who share it."""

    def __init__(self, loop: VirtualLoop, spec: LedgerSpec, directory: Path) -> None:
        self.loop = loop
        self.spec = spec
        self.directory = directory
        self.processes: list[Process] = []
        self.born = 0

    async def join(self, pod: str | None = None) -> Process | None:
        """Start a process, in a new pod or in one whose process has died; None when it cannot open its ledger."""
        self.born += 1
        process = self.make(name=f"p{self.born}", pod=pod or f"pod{self.born}")
        self.processes.append(process)
        try:
            await self.loop.begin(process.name, process.ledger.open())
        except LedgerUnavailable:
            await self.crash(process)
            return None
        return process

    async def crash(self, process: Process) -> None:
        """Kill a process, whatever it is doing."""
        self.processes.remove(process)
        await self.loop.kill(process.name)
        self.bury(process)

    async def stop(self, process: Process) -> None:
        """End a process in order."""
        self.processes.remove(process)
        await self.loop.begin(process.name, process.ledger.close())
        await self.loop.kill(process.name)
        self.bury(process)

    @abstractmethod
    def make(self, *, name: str, pod: str) -> Process: ...

    @abstractmethod
    def bury(self, process: Process) -> None:
        """Let go of what a dead process had open."""

    @abstractmethod
    def put_in_force(self, spec: LedgerSpec) -> None: ...

    @abstractmethod
    def set_clock(self, seconds: float) -> None:
        """Set the clock that dates windows forward or back."""

    @abstractmethod
    def earliest(self, process: Process) -> float:
        """Return the earliest time (seconds since 1970) that ``process`` can take for now."""

    def is_fresh(self, process: Process) -> bool:
        """Tell whether all that was decided has reached the process."""
        return True

    @abstractmethod
    async def tidy(self) -> None:
        """Have what the dead held counted as spent."""

    @abstractmethod
    def end_outage(self) -> None:
        """Have what is away come back."""

    @abstractmethod
    def heal(self) -> None:
        """End all faults."""

    @abstractmethod
    def accounts(self) -> Mapping[WindowKey, Account]:
        """Return the books of all windows."""

    @abstractmethod
    def close(self) -> None:
        """End."""


class SQLiteWorld(World):
    """A file, and the clock of one machine."""

    def __init__(self, loop: VirtualLoop, spec: LedgerSpec, directory: Path) -> None:
        super().__init__(loop, spec, directory)
        self.skew = 0.0
        self.path = directory / "ledger.db"
        self._reader: sqlite3.Connection | None = None

    def now(self) -> datetime:
        return datetime.fromtimestamp(BEGIN + self.loop.time() + self.skew, UTC)

    def make(self, *, name: str, pod: str) -> Process:
        return Process(name=name, pod=pod, ledger=self.ledger())

    def ledger(self) -> SQLiteLedger:
        return SQLiteLedger(self.path, terms=self.spec, now=self.now, calendar=calendar, lease_seconds=LEASE)

    def bury(self, process: Process) -> None:
        ledger = process.ledger
        assert isinstance(ledger, SQLiteLedger)
        connection = ledger._connection
        if connection is not None:  # as the kernel closes the files of a killed process
            connection.close()

    def put_in_force(self, spec: LedgerSpec) -> None:
        self.spec = spec
        for process in self.processes:
            assert isinstance(process.ledger, SQLiteLedger)
            process.ledger.change(spec)

    def end_outage(self) -> None:
        pass

    def heal(self) -> None:
        pass

    def set_clock(self, seconds: float) -> None:
        self.skew += seconds

    def earliest(self, process: Process) -> float:
        return self.now().timestamp()

    async def tidy(self) -> None:
        # who reserves buries the dead
        await self._sweep()
        await asyncio.sleep(self._last_lease() + 1)
        await self._sweep()

    def _last_lease(self) -> float:
        """Return after how many seconds all leases of now have ended: many after the clock was set back."""
        if self._reader is None:
            return 0.0
        last = self._reader.execute("SELECT max(lease) FROM reservation WHERE state = 'open'").fetchone()[0]
        return 0.0 if last is None else max(0.0, last - self.now().timestamp())

    async def _sweep(self) -> None:
        for process in self.processes[:1]:
            self.born += 1
            await process.ledger.reserve(f"s{self.born}", bound=Amount(1, 0), minimum=Amount(1, 0))
            await process.ledger.settle(f"s{self.born}", ModelSpend(name="m", price="p/1", tokens=0, nano_usd=0))

    def accounts(self) -> Mapping[WindowKey, Account]:
        if self._reader is None:
            if not self.path.exists():
                return {}
            self._reader = sqlite3.connect(self.path, isolation_level=None)
        rows = self._reader.execute(
            "SELECT name, start, settled_tokens, settled_nano, presumed_tokens, presumed_nano, reserved_tokens, "
            "reserved_nano FROM window"
        ).fetchall()
        found: dict[WindowKey, Account] = {}
        for name, start, *figures in rows:
            settled, presumed, reserved = (Amount(*figures[at : at + 2]) for at in (0, 2, 4))
            assert ZERO.fits(reserved), f"{reserved} is reserved"
            spent = settled + presumed
            found[name, start] = Account(taken=spent + reserved, spent=spent, presumed=presumed)
        return found

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class SlicesWorld(World):
    """An AgentLedger, the pods' processes, and the operator."""

    def __init__(self, loop: VirtualLoop, spec: LedgerSpec, directory: Path) -> None:
        super().__init__(loop, spec, directory)
        self.server = ApiServer(spec)
        self.chance = random.Random(1)
        self.thought_gone: set[str] = set()

    def make(self, *, name: str, pod: str) -> Process:
        clock = ServerClock(monotonic=self.loop.time)
        client = Client(self.server, clock)
        ledger = self.ledger(self.authority(client, clock), name=name, pod=pod)
        return Process(name=name, pod=pod, ledger=ledger, client=client)

    def authority(self, client: Client, clock: ServerClock) -> Authority:
        return Authority(
            client=client,  # type: ignore[arg-type]
            clock=clock,
            calendar=calendar,
            random=self.chance.random,
            monotonic=self.loop.time,
        )

    def ledger(self, authority: Authority, *, name: str, pod: str) -> KubernetesLedger:
        return KubernetesLedger(authority=authority, pod=pod, word=name, monotonic=self.loop.time)

    def bury(self, process: Process) -> None:
        pass

    def close(self) -> None:
        pass

    def put_in_force(self, spec: LedgerSpec) -> None:
        self.spec = spec
        self.server.change(spec)

    def set_clock(self, seconds: float) -> None:
        self.server.skew += seconds

    def earliest(self, process: Process) -> float:
        assert process.client is not None
        # a Date is cut to whole seconds
        return process.client.heard + self.loop.time() - 1.1

    def is_fresh(self, process: Process) -> bool:
        assert process.client is not None
        return not (process.client.is_late or self.server.is_down)

    async def tidy(self) -> None:
        """Do what the operator does, until it rests. It sees pods that are gone."""
        pods = {process.pod for process in self.processes}
        while True:
            version, whole = self.server.version, self.server.status
            step = next_step(
                Situation(
                    name="a",
                    wanted=self.spec,
                    has_service=True,
                    live=LedgerAccount(
                        spec=self.server.spec,
                        status=whole.model_copy(update={"closed": ()}),
                        created=datetime.fromtimestamp(BEGIN, UTC),
                        version=str(version),
                        labels={},
                        annotations={},
                        books=orjson.dumps(
                            [book.model_dump(mode="json", by_alias=True) for book in whole.closed]
                        ).decode(),
                    ),
                    gone=lambda holder: self.is_gone(holder, pods),
                    now=self.server.moment,
                )
            )
            if isinstance(step, Rest) or self.server.is_down:
                break
            assert isinstance(step, Write)
            self.server.write(step.patch, version=str(version))
        self.thought_gone.clear()
        await asyncio.sleep(0.02)

    def is_gone(self, holder: str, pods: set[str]) -> bool:
        pod = holder.partition("/")[0]
        return pod not in pods or pod in self.thought_gone

    def end_outage(self) -> None:
        self.server.is_down = False

    def heal(self) -> None:
        self.end_outage()
        for process in self.processes:
            assert process.client is not None
            process.client.flow()
            process.client.loses_answers = 0

    def accounts(self) -> Mapping[WindowKey, Account]:
        return accounts_of(self.server.status)


def accounts_of(status: LedgerStatus) -> Mapping[WindowKey, Account]:
    found = {
        (book.name, book.start): Account(
            taken=Amount(book.tokens + book.presumed_tokens, book.nano_usd + book.presumed_nano_usd),
            spent=Amount(book.tokens + book.presumed_tokens, book.nano_usd + book.presumed_nano_usd),
            presumed=Amount(book.presumed_tokens, book.presumed_nano_usd),
            is_closed=True,
        )
        for book in status.closed
    }
    for window in status.windows:
        found[window.key] = Account(
            taken=window.authorized + window.overrun, spent=window.spent, presumed=window.presumed
        )
    return found


def keys(ledger: Ledger) -> tuple[WindowKey, ...]:
    """Return the windows that ``ledger`` reserves in now."""
    return tuple((view.name, instant_text(view.start)) for view in ledger.view())


def ends(ledger: Ledger) -> list[float]:
    """Return when these end, in seconds since 1970."""
    return [view.end.timestamp() for view in ledger.view()]
