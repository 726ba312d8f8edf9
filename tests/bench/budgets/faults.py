"""What goes wrong in the middle of a load, and what must still be true: nothing is overspent, nothing billed is forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.bench.budgets import load
from tests.bench.budgets.cluster import api_server_away
from tests.bench.budgets.figures import Figure
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.model_server import Bill
from tests.bench.budgets.scene import Scene, Size, clock_off
from tests.bench.budgets.stage import Stage
from tests.bench.budgets.table import over_percent, used_percent
from tests.services.redis_server import Persistence

from agentservice_api.budget import Amount

LONG: Final = Size(workers=4, requests=600, seconds=30, away_seconds=20, until_presumed=True)
SHORT: Final = Size(workers=2, requests=60, clients=16, wait_seconds=1, seconds=9, away_seconds=3)
DAY_SECONDS: Final = 3
MISNAMED: Final = load.BOUND + load.BOUND
HEAD: Final = (
    "| what goes wrong | ledger | overspend % | used % | billed, but not booked % | what the clients met |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one scene."""

    fault: str
    kind: LedgerKind
    billed: Amount
    limit: Amount
    booked: Amount
    met: str
    further: tuple[Figure, ...] = ()

    @property
    def forgotten(self) -> Amount:
        """Billed, but not in the books: it could be spent again."""
        return (self.billed - self.booked).non_negative()

    def figures(self) -> Iterator[Figure]:
        name = f"fault/{self.fault}/{self.kind}"
        yield Figure(f"{name}/overspend %", over_percent(self.billed, self.limit))
        yield Figure(f"{name}/used %", used_percent(self.billed, self.limit))
        yield Figure(f"{name}/forgotten %", used_percent(self.forgotten, self.limit))
        yield from self.further

    def __str__(self) -> str:
        over, used, forgotten = (figure.value for figure in list(self.figures())[:3])
        return f"| {self.fault} | {self.kind} | {over:.2f} | {used:.2f} | {forgotten:.2f} | {self.met} |"


Play = Callable[[Stage, LedgerKind, Size], Finding]


def found(scene: Scene, fault: str, *, note: str = "") -> Finding:
    met = ", ".join(f"{number} {what}" for what, number in sorted(scene.outcomes.items()))
    return Finding(
        fault=fault,
        kind=scene.choice.kind,
        billed=scene.billed.amount,
        limit=scene.limit,
        booked=scene.booked,
        met=f"{met}; {note}" if note else met,
    )


def killed(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
    """One process is killed while its requests are being answered."""
    with Scene(stage, kind, size=size) as scene:
        scene.begin()
        scene.until_billed(0.2)
        scene.hold(in_flight=size.clients // 2)
        victim, lost = scene.lose_one()
        assert lost > 0
        scene.release()
        scene.finish()
        if size.until_presumed:
            scene.until_presumed(victim)
            scene.begin()
            scene.finish()
        return found(scene, "SIGKILL in mid-request", note=f"{lost} requests lost")


def restarted(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
    """A container is killed and started again in the same pod."""
    with Scene(stage, kind, size=size) as scene:
        scene.begin()
        scene.until_billed(0.2)
        scene.hold(in_flight=size.clients // 2)
        victim, _ = scene.lose_one()
        again = scene.join(pod_uid=victim.pod_uid)
        scene.release()
        scene.begin([again])
        scene.finish()
        return found(scene, "container restarted in place")


def wrong_clock(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
    """One process believes that it is tomorrow, and where it asks no API server another one that it is yesterday."""
    wrong = {0: clock_off("+1d")}
    if not kind.needs_cluster:  # the certificates of an API server that was just made were not valid yesterday
        wrong[1] = clock_off("-1d")
    size = replace(size, requests=3 * size.requests)  # enough for each process to have some
    with Scene(stage, kind, size=size, wrappers=wrong) as scene:
        scene.begin()
        scene.finish()
        days_off = {round((bill.at - time.time()) / 86_400) for bill in scene.billed.bills}
        assert len(days_off) > 1, f"the clocks were {days_off} days off: {scene.done}"
        return found(scene, "clocks a day off")


def over_days(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
    """Days last three seconds, and the load goes on over their ends."""
    size = replace(size, requests=size.requests // 3)
    with Scene(stage, kind, size=size, for_seconds=size.seconds, period_seconds=DAY_SECONDS) as scene:
        scene.begin()
        scene.finish(seconds=size.seconds + 60)
        books = stage.days(scene.choice)
        counted = by_day(scene.billed.bills)
        for day in books | counted:
            told, spent = books.get(day, Amount()), counted.get(day, Amount())
            assert told.fits(scene.limit), f"the books say {told} on {day}, of {scene.limit}"
            # a caller that reads the day just after midnight names the wrong one
            assert spent.fits(told + MISNAMED), f"on {day} {spent} were billed, the books say {told}"
        billed, booked = scene.billed.amount, sum(books.values(), Amount())
        exact = sum(books.get(day, Amount()) == spent for day, spent in counted.items())
        worst = max(books.values(), key=lambda spent: spent.tokens)
        difference = (billed - booked).non_negative() + (booked - billed).non_negative()
        return Finding(
            fault="days of three seconds",
            kind=kind,
            billed=worst,
            limit=scene.limit,
            booked=worst - difference,
            met=f"{len(books)} days, {exact} of them billed as booked to the token, {len(scene.billed.bills)} requests",
        )


def by_day(bills: Sequence[Bill]) -> dict[str, Amount]:
    """Add up what was billed to each day."""
    found: dict[str, Amount] = {}
    for bill in bills:
        found[bill.day] = found.get(bill.day, Amount()) + Amount(bill.tokens, bill.nano_usd)
    return found


def redis_with(persistence: Persistence) -> Play:
    """Return the scene in which Redis is killed in mid-load and comes back with what such a Redis finds on its disk."""

    def play(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
        with stage.another_redis(persistence) as redis, Scene(stage, kind, size=size, patience_seconds=30) as scene:
            scene.begin()
            scene.until_billed(0.2)
            if persistence is Persistence.RDB:
                redis.command("SAVE")
            scene.until_billed(0.5)
            redis.kill()
            time.sleep(1)
            redis.start()
            scene.finish()
            return found(scene, f"Redis killed, back with {persistence}")

    play.__name__ = f"redis_back_with_{persistence}"
    play.__doc__ = f"Redis is killed and comes back with {persistence}."
    return play


def ledger_deleted(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
    """Somebody deletes the AgentLedger in mid-load."""
    with Scene(stage, kind, size=size, patience_seconds=30) as scene:
        scene.begin()
        scene.until_billed(0.3)
        stage.cluster.plane.api.request("DELETE", stage.cluster.path("agentledgers", scene.choice.name))
        scene.finish()
        return found(scene, "AgentLedger deleted by hand")


def api_server_stopped(stage: Stage, kind: LedgerKind, size: Size) -> Finding:
    """The API server is away for a while in mid-load."""
    with Scene(stage, kind, size=size, patience_seconds=size.away_seconds + 40) as scene:
        scene.begin()
        scene.until_billed(0.3)
        with api_server_away(stage.cluster):
            time.sleep(size.away_seconds)
        scene.finish()
        return found(scene, f"API server away for {size.away_seconds:g} s")


ON_ONE_MACHINE: Final = (LedgerKind.SQLITE, LedgerKind.REDIS)
ON_REDIS: Final = (LedgerKind.REDIS, LedgerKind.REDIS_IN_CLUSTER)
IN_A_CLUSTER: Final = (LedgerKind.REDIS_IN_CLUSTER, LedgerKind.KUBERNETES)
ALL: Final[Sequence[tuple[Play, Sequence[LedgerKind]]]] = (
    (killed, (*ON_ONE_MACHINE, *IN_A_CLUSTER)),
    (restarted, (*ON_ONE_MACHINE, *IN_A_CLUSTER)),
    (wrong_clock, (LedgerKind.REDIS, *IN_A_CLUSTER)),
    (over_days, (*ON_ONE_MACHINE, *IN_A_CLUSTER)),
    (redis_with(Persistence.AOF), ON_REDIS),
    (redis_with(Persistence.RDB), ON_REDIS),
    (redis_with(Persistence.NOTHING), ON_REDIS),
    (ledger_deleted, IN_A_CLUSTER),
    (api_server_stopped, IN_A_CLUSTER),
)
KINDS: Final = tuple(LedgerKind)


def measure(
    stage: Stage, *, kinds: Sequence[LedgerKind], named: Sequence[str] = ("",), progress: Callable[[str], None]
) -> Iterator[Finding]:
    """Yield what came of each scene whose function's name has one of ``named`` in it."""
    for play, possible in ALL:
        if not any(part in play.__name__ for part in named):
            continue
        for kind in possible:
            if kind in kinds:
                progress(f"{kind}: {play.__doc__ or ''}")
                yield play(stage, kind, LONG)
