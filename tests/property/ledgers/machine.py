"""Any interleaving of what may befall a ledger, and what must hold after each step. The provider's count is the truth.

1. No window is overspent: what was billed in it and what still runs stay within the highest limit that it had, and within
   today's limit whenever somebody who knows of it grants. What the provider bills beyond what it was told is apart.
2. Nothing is spent that the books do not have: at every moment, in every window, ended ones too.
3. At rest reservations are zero, and the books have what was billed; more only where somebody died.
4. What fits is granted once nothing is held; who is told that a window is exhausted would not have fitted.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentservice_api.budget import Amount, LedgerSpec, ModelSpend, WindowKey, WindowLimit
from agentservice_runtime.ledger.interface import Answer, Busy, Exhausted, Granted, LedgerUnavailable

from .provider import Provider, Request
from .virtual_time import VirtualLoop
from .worlds import DAY, LEASE, Process, SlicesWorld, SQLiteWorld, World, ends, keys

PATIENCE = 1.0
"""Seconds for which a request waits while BUSY."""
LONGEST = 1500.0
"""Seconds that a request runs: well within the hour in which a window that has ended still waits for it."""
LONGEST_OUTAGE = 40.0
"""Seconds. More would only repeat the same tries."""
A_MOMENT = 0.05
"""Seconds after which everybody has heard."""
MOST_PROCESSES = 4
LOGGER = logging.getLogger("agentservice.ledger")


@dataclass(frozen=True)
class Wish:
    """A reservation that a process asks for."""

    process: int
    bound: Amount
    minimum: Amount
    after: float = 0.0
    """Seconds after which it asks: in the middle of others' writes."""
    settles: int | None = None
    """The percentage that it costs, at once; None: it runs on."""


TOKENS = st.integers(1, 300)
AMOUNTS = st.builds(Amount, TOKENS, st.integers(0, 1500))
WISHES = st.builds(
    lambda process, bound, part, after, settles: Wish(
        process=process,
        bound=bound,
        minimum=Amount(1 + bound.tokens * part // 100, bound.nano_usd * part // 100).at_most(bound),
        after=after,
        settles=settles,
    ),
    st.integers(0, MOST_PROCESSES - 1),
    AMOUNTS,
    st.sampled_from([0, 10, 50, 100]),
    st.sampled_from([0.0, 0.002, 0.005, 0.01, 0.03]),
    st.sampled_from([None, None, 100, 30]),
)
LIMITS = st.none() | st.integers(0, 1200)


def terms(day: int | None, day_money: int | None, month: int | None) -> LedgerSpec:
    """Return limits; a month has three times what is given, so that it is the narrower one only now and then."""
    windows: list[WindowLimit] = []
    if day is not None or day_money is not None:
        windows.append(WindowLimit(name="daily", tokens=day, nano_usd=None if day_money is None else 5 * day_money))
    if month is not None:
        windows.append(WindowLimit(name="monthly", tokens=3 * month))
    return LedgerSpec(windows=tuple(windows))


TERMS = st.builds(terms, st.integers(100, 1200) | LIMITS, LIMITS, LIMITS)


class LedgerMachine(RuleBasedStateMachine):
    """The rules that every ledger knows. Subclasses say which world."""

    world_type: ClassVar[type[World]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.directory = Path(tempfile.mkdtemp())
        self.provider = Provider()
        self.failed = False
        self.numbers = 0
        self.is_exact = True
        """Whether nobody died and nothing failed, so that the books are the provider's to the token."""
        self.defects: list[logging.LogRecord] = []
        self.listener = _Listener(self.defects)
        LOGGER.addHandler(self.listener)
        LOGGER.propagate = False

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Carry out ``work``, and let everybody hear of it."""
        self.failed = True
        found = self.loop.run_until_complete(work)
        self.loop.run_until_complete(asyncio.sleep(A_MOMENT))
        self.failed = False
        return found

    def teardown(self) -> None:
        try:
            if not self.failed and hasattr(self, "world"):
                self.do(self.come_to_rest())
        finally:
            LOGGER.removeHandler(self.listener)
            LOGGER.propagate = True
            self.loop.run_until_complete(self.loop.kill_all())
            if hasattr(self, "world"):
                for process in self.world.processes:
                    self.world.bury(process)
                self.world.close()
            self.loop.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    # --- what may happen

    @initialize(spec=TERMS, processes=st.integers(1, 3))
    def begin(self, spec: LedgerSpec, processes: int) -> None:
        self.world = self.world_type(self.loop, spec, self.directory)
        for _ in range(processes):
            self.do(self.world.join())

    @precondition(lambda self: len(self.world.processes) < MOST_PROCESSES)
    @rule()
    def a_process_joins(self) -> None:
        self.do(self.world.join())

    @precondition(lambda self: self.world.processes)
    @rule(wishes=st.lists(WISHES, min_size=1, max_size=6))
    def processes_reserve_at_once(self, wishes: list[Wish]) -> None:
        self.do(self._reserve_all(wishes))

    @precondition(lambda self: self.provider.running)
    @rule(which=st.integers(0, 50), part=st.sampled_from([0, 1, 30, 99, 100]))
    def a_request_is_settled(self, which: int, part: int) -> None:
        request = self.provider.running[which % len(self.provider.running)]
        self.do(self._settle(request, _part(request.amount, part)))

    @precondition(lambda self: self.provider.running)
    @rule(which=st.integers(0, 50), beyond=AMOUNTS)
    def the_provider_bills_beyond_what_it_was_told(self, which: int, beyond: Amount) -> None:
        request = self.provider.running[which % len(self.provider.running)]
        self.do(self._settle(request, request.amount + beyond))

    @precondition(lambda self: self.provider.running)
    @rule()
    def requests_are_renewed(self) -> None:
        self.do(self._renew())

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9), part=st.sampled_from([0, 50, 100]), restarts=st.booleans())
    def a_process_is_killed(self, which: int, part: int, restarts: bool) -> None:
        process = self._process(which)
        self.do(self._kill(process, part))
        if restarts:
            self.do(self.world.join(process.pod))

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9))
    def a_process_ends_in_order(self, which: int) -> None:
        self.do(self._end(self._process(which)))

    @rule(seconds=st.sampled_from([0.5, 4.0, LEASE + 1, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(self._wait(seconds))

    @rule(days=st.integers(1, 3))
    def a_window_ends(self, days: int) -> None:
        self.do(self._roll_over(days))

    @rule(spec=TERMS)
    def limits_move(self, spec: LedgerSpec) -> None:
        self.do(self._limit(spec))

    @precondition(lambda self: self.world.processes)
    @rule(first=WISHES, second=WISHES, spec=TERMS)
    def limits_move_under_load(self, first: Wish, second: Wish, spec: LedgerSpec) -> None:
        self.do(self._under_load(first, lambda process: self._limit(spec), second))

    @precondition(lambda self: self.world.processes)
    @rule(first=WISHES, second=WISHES)
    def a_window_ends_under_load(self, first: Wish, second: Wish) -> None:
        self.do(self._to_the_end_of_a_window(self._process(first.process)))
        self.do(self._under_load(first, lambda process: self._wait(2.5), second))

    @rule(seconds=st.sampled_from([-7200.0, -130.0, -3.0, 3.0, 130.0, 1300.0]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.set_clock(seconds)

    @rule()
    def the_dead_are_counted(self) -> None:
        self.do(self.world.tidy())

    @rule()
    def all_comes_to_rest(self) -> None:
        self.do(self.come_to_rest())

    # --- what must hold

    @invariant()
    def nothing_is_overspent_and_all_is_in_the_books(self) -> None:
        if not hasattr(self, "world") or self.failed:
            return
        accounts = self.world.accounts()
        for key, count in self.provider.counts.items():
            assert (count.used - count.beyond).fits(count.ceiling), f"{key} is overspent: {count}"
            if count.used:
                assert (count.used - count.beyond).fits(accounts[key].taken), f"{key}: {count}, but {accounts[key]}"
        for defect in self.defects:
            raise AssertionError(f"a defect: {defect.getMessage()}") from (defect.exc_info or (None, None))[1]

    async def come_to_rest(self) -> None:
        """End all faults and all requests; then see that nothing is held, all is counted, and what fits is granted."""
        self.world.heal()
        await asyncio.sleep(2)
        for request in list(self.provider.running):
            await self._settle(request, request.amount)
        await asyncio.sleep(6)
        await self.world.tidy()
        if not self.world.processes:
            assert await self.world.join() is not None, "a ledger that is well cannot be opened"
        await self.world.tidy()
        accounts = self.world.accounts()
        for key, account in accounts.items():
            count = self.provider.counts[key]
            assert not account.held, f"{key}: {account.held} is still held"
            # what was billed beyond takes what others held, so that a window may close before the last of them
            unprovable = count.beyond if account.is_closed else count.unprovable
            assert (count.billed - unprovable).fits(account.spent), f"{key}: {count}, but {account} in the books"
            if self.is_exact and not unprovable:
                assert account.spent == count.billed, f"{key}: {count}, but {account} in the books and nobody died"
        await self._all_that_is_left_is_granted(self.world.processes[-1])

    async def _all_that_is_left_is_granted(self, process: Process) -> None:
        for _ in range(2):
            await self._reserve(process, Wish(0, Amount(1, 0), Amount(1, 0)))  # opens the windows of now
            for request in list(self.provider.running):
                await self._settle(request, request.amount)
            await asyncio.sleep(6)
            if min(ends(process.ledger), default=0) > self.world.earliest(process) + 10:
                break
            await asyncio.sleep(10)  # another window begins in the middle of this
        accounts = self.world.accounts()
        windows = keys(process.ledger)
        assert len(windows) == 2, f"{windows} are open"
        left = Amount(1000, 1000)
        for key in windows:
            left = left.at_most(self.world.spec.limit(key[0]) - accounts[key].spent)
        if left.tokens > 0 and left.nano_usd >= 0:
            answer = await self._reserve(process, Wish(0, left, left))
            assert answer == Granted(amount=left), f"{answer}, but {left} is left in {accounts}"
            await self._settle(self.provider.running[-1], Amount())
            await asyncio.sleep(4)

    # --- how

    def _process(self, which: int) -> Process:
        return self.world.processes[which % len(self.world.processes)]

    async def _reserve_all(self, wishes: list[Wish]) -> None:
        await asyncio.gather(*(self._ask(self._process(wish.process), wish) for wish in wishes))

    async def _ask(self, process: Process, wish: Wish) -> None:
        await asyncio.sleep(wish.after)
        answer = await self._reserve(process, wish)
        if isinstance(answer, Granted) and wish.settles is not None:
            request = next(one for one in reversed(self.provider.running) if one.wish is wish)
            await self._settle(request, _part(request.amount, wish.settles))

    async def _reserve(self, process: Process, wish: Wish) -> Answer | None:
        self.numbers += 1
        name = f"r{self.numbers}"
        deadline = self.loop.time() + PATIENCE
        while True:
            try:
                asked = process.ledger.reserve(name, bound=wish.bound, minimum=wish.minimum)
                answer: Answer = await self.loop.begin(process.name, asked)
            except LedgerUnavailable:
                assert not (self.is_exact and isinstance(self.world, SQLiteWorld)), "the file is there"
                return None
            if not isinstance(answer, Busy) or self.loop.time() >= deadline:
                break
            await process.ledger.changed(min(answer.retry_after, 0.5))
        if isinstance(answer, Granted):
            self._granted(process, name, wish, answer.amount)
        elif isinstance(answer, Exhausted):
            self._refused(process, wish, answer)
        return answer

    def _granted(self, process: Process, name: str, wish: Wish, amount: Amount) -> None:
        assert amount.fits(wish.bound), f"{amount} for {wish}"
        assert wish.minimum.fits(amount), f"{amount} for {wish}"
        assert all(end > self.world.earliest(process) for end in ends(process.ledger)), (
            "granted from a window that is over"
        )
        windows = keys(process.ledger)
        assert len(windows) == 2
        self.provider.send(
            Request(name=name, process=process.name, keys=windows, amount=amount, since=self.loop.time(), wish=wish),
            self.world.spec,
        )
        if self.world.is_fresh(process):
            for key in windows:
                count, limit = self.provider.counts[key], self.world.spec.limit(key[0])
                assert (count.used - count.beyond).fits(limit), f"{amount} is granted beyond {limit}: {count}"

    def _refused(self, process: Process, wish: Wish, answer: Exhausted) -> None:
        if not self.world.is_fresh(process):
            return
        key = next((key for key in keys(process.ledger) if key[0] == answer.window), None)
        if key is None or not self.is_exact:
            return
        limit, count = self.world.spec.limit(key[0]), self.provider.counts[key]
        # what was not renewed counts as spent until it is settled
        presumed = self.world.accounts()[key].presumed
        assert not (count.billed + presumed + wish.minimum).fits(limit), f"{wish} is refused, with {count} of {limit}"

    async def _settle(self, request: Request, cost: Amount) -> None:
        process = next((process for process in self.world.processes if process.name == request.process), None)
        self.provider.bill(request, cost)
        assert process is not None, "a request outlived its process"
        spend = ModelSpend(name="m", price="p/1", tokens=cost.tokens, nano_usd=cost.nano_usd)
        await self.loop.begin(process.name, process.ledger.settle(request.name, spend))

    async def _renew(self) -> None:
        for request in list(self.provider.running):
            for process in self.world.processes:
                if process.name == request.process:
                    await self.loop.begin(process.name, process.ledger.renew(request.name))

    async def _kill(self, process: Process, part: int) -> None:
        self.is_exact = False
        await self.world.crash(process)
        for request in [one for one in self.provider.running if one.process == process.name]:
            self.provider.bill(request, _part(request.amount, part))
        self.provider.died(process.name)

    async def _end(self, process: Process) -> None:
        for request in [one for one in self.provider.running if one.process == process.name]:
            await self._settle(request, request.amount)
        if not self.world.is_fresh(process):
            self.is_exact = False
        await self.world.stop(process)
        if not self.is_exact:
            self.provider.died(process.name)

    async def _wait(self, seconds: float) -> None:
        for request in list(self.provider.running):
            if self.loop.time() + seconds - request.since > LONGEST:
                await self._settle(request, request.amount)
        if seconds > LONGEST_OUTAGE:
            self.world.end_outage()
        await asyncio.sleep(seconds)

    async def _roll_over(self, days: int) -> None:
        latest = max((end for process in self.world.processes for end in ends(process.ledger)[:1]), default=0.0)
        known = min((self.world.earliest(process) for process in self.world.processes), default=0.0)
        wait = min(max(latest - known, 0.0), 2 * DAY) if latest else float(DAY)
        await self._wait(wait + 0.2 + (days - 1) * DAY)

    async def _to_the_end_of_a_window(self, process: Process) -> None:
        """Return two seconds before one ends."""
        left = min(ends(process.ledger), default=0.0) - self.world.earliest(process)
        if 2 < left < DAY:
            await self._wait(left - 2)

    async def _under_load(self, first: Wish, happens: Callable[[Process], Awaitable[None]], second: Wish) -> None:
        """Have a process reserve before and after something happens, with some of its own in hand."""
        process = self._process(first.process)
        if isinstance(await self._reserve(process, first), Granted):
            await self._settle(self.provider.running[-1], Amount())
        await happens(process)
        await asyncio.sleep(A_MOMENT)
        await self._reserve(process, second)

    async def _limit(self, spec: LedgerSpec) -> None:
        current: dict[str, WindowKey] = {}
        for key in self.world.accounts():
            current[key[0]] = max(current.get(key[0], key), key, key=lambda one: one[1])
        self.provider.raise_ceilings(tuple(current.values()), self.world.spec)
        self.provider.raise_ceilings(tuple(current.values()), spec)
        self.world.put_in_force(spec)


class SQLiteMachine(LedgerMachine):
    """Processes that share a file."""

    world_type = SQLiteWorld


class SlicesMachine(LedgerMachine):
    """Pods that share an AgentLedger, and what befalls them and the API server."""

    world_type = SlicesWorld
    world: SlicesWorld

    @precondition(lambda self: not self.world.server.is_down)
    @rule()
    def the_api_server_goes_away(self) -> None:
        self.is_exact = False
        self.world.server.fail()

    @precondition(lambda self: self.world.server.is_down)
    @rule()
    def the_api_server_is_back(self) -> None:
        self.world.server.is_down = False
        self.do(asyncio.sleep(2))

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9), answers=st.integers(1, 3))
    def answers_are_lost(self, which: int, answers: int) -> None:
        client = self._process(which).client
        assert client is not None
        client.loses_answers = answers

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9))
    def a_watch_lags(self, which: int) -> None:
        client = self._process(which).client
        assert client is not None
        client.delay()

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9))
    def a_watch_tells_all(self, which: int) -> None:
        client = self._process(which).client
        assert client is not None
        client.flow()

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9))
    def a_watch_ends(self, which: int) -> None:
        client = self._process(which).client
        assert client is not None
        client.end_watch()
        self.do(asyncio.sleep(0))

    @precondition(lambda self: self.world.processes)
    @rule(which=st.integers(0, 9))
    def a_living_pod_is_thought_gone(self, which: int) -> None:
        self.is_exact = False
        self.world.thought_gone.add(self._process(which).pod)
        self.do(self.world.tidy())


def _part(amount: Amount, percent: int) -> Amount:
    return Amount(amount.tokens * percent // 100, amount.nano_usd * percent // 100)


class _Listener(logging.Handler):
    def __init__(self, defects: list[logging.LogRecord]) -> None:
        super().__init__()
        self._defects = defects

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._defects.append(record)
