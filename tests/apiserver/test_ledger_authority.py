"""An AgentLedger's accounts under several writers, on the real API server."""

import asyncio
from collections.abc import Iterator
from datetime import datetime

import pytest
from tests.services.tcp_proxy import Fault

from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, ModelSpend
from agentservice_api.budget.books import Posting, post
from agentservice_runtime.ledger.authority import Change
from agentservice_runtime.ledger.interface import LedgerUnavailable
from devcluster.standalone import StandaloneControlPlane

from .ledgers import LedgerObject, eventually, limited

LIMIT = Amount(1000, 1_000_000)


@pytest.fixture
def ledger(control_plane: StandaloneControlPlane, namespace: str) -> Iterator[LedgerObject]:
    ledger = LedgerObject(control_plane, namespace, "support")
    ledger.create(limited(LIMIT))
    yield ledger


def take(holder: str, amount: Amount, *, number: int) -> Change:
    """Take ``amount`` of the day as this holder's write with this number, once."""

    def change(status: LedgerStatus, spec: LedgerSpec, now: datetime) -> LedgerStatus:
        day = status.current("daily")
        assert day is not None
        hand = status.holder(holder, day.key)
        if hand is not None and hand.seq >= number:
            return status
        return post(status, spec, holder, [Posting(key=day.key, need=amount)])[0]

    return change


async def test_writers_in_one_storm_are_granted_the_limit_and_nothing_more(ledger: LedgerObject) -> None:
    granted = 0

    async def holder(name: str) -> None:
        nonlocal granted
        async with ledger.authority() as authority:
            for number in range(1, 21):
                status = await authority.transact(take(name, Amount(10, 10), number=number), seconds=30)
                day = status.current("daily")
                assert day is not None
            hand = status.holder(name, day.key)
            assert hand is not None and hand.seq == 20
            granted += hand.granted.tokens

    async with asyncio.TaskGroup() as tasks:
        for index in range(8):
            tasks.create_task(holder(f"pod-{index}/a"))
    day = ledger.read().status.current("daily")
    assert day is not None
    assert granted == day.authorized.tokens == LIMIT.tokens


async def test_a_write_whose_answer_is_lost_is_carried_out_once(ledger: LedgerObject) -> None:
    async with ledger.proxy() as proxy, ledger.authority(proxy=proxy) as authority:
        await authority.transact(take("pod/a", Amount(10, 10), number=1))
        for number in range(2, 7):
            before = proxy.lost
            proxy.set(Fault.LOSE_ANSWERS)
            writing = asyncio.create_task(authority.transact(take("pod/a", Amount(10, 10), number=number)))
            await eventually(lambda before=before: proxy.lost > before + 1)
            proxy.set(Fault.NONE)
            await writing
    day = ledger.read().status.current("daily")
    assert day is not None
    assert day.authorized == Amount(60, 60)


async def test_a_change_of_the_limit_is_seen_within_two_seconds(ledger: LedgerObject) -> None:
    async with ledger.authority() as authority:
        ledger.limit(limited(Amount(5, 5)))
        took = await eventually(lambda: authority.seen().spec.limit("daily") == Amount(5, 5))
        assert took < 2


async def test_after_an_outage_the_ledger_is_seen_and_written_again(ledger: LedgerObject) -> None:
    async with ledger.proxy() as proxy, ledger.authority(proxy=proxy) as authority:
        proxy.set(Fault.CUT)
        with pytest.raises(LedgerUnavailable):
            await authority.transact(take("pod/a", Amount(10, 10), number=1), seconds=0.5)
        ledger.limit(limited(Amount(5, 5)))
        assert authority.seen().spec.limit("daily") == LIMIT
        proxy.set(Fault.NONE)
        assert await eventually(lambda: authority.seen().spec.limit("daily") == Amount(5, 5)) < 2
        await authority.transact(take("pod/a", Amount(4, 4), number=1))


async def test_a_deleted_ledger_is_not_used_and_its_successor_is(ledger: LedgerObject) -> None:
    async with ledger.authority() as authority:
        first = authority.seen().metadata.uid
        ledger.delete()

        def trouble() -> str:
            try:
                authority.seen()
            except LedgerUnavailable as error:
                return str(error)
            return ""

        await eventually(lambda: "deleted" in trouble())
        with pytest.raises(LedgerUnavailable):
            await authority.transact(take("pod/a", Amount(1, 1), number=1))
        ledger.create(limited(LIMIT), LedgerStatus(seeded=False))
        await eventually(lambda: "seeded" in trouble())
        with pytest.raises(LedgerUnavailable, match="seeded"):
            await authority.transact(take("pod/a", Amount(1, 1), number=1))
        ledger.patch({"status": {"seeded": True}}, "/status")
        await eventually(lambda: not trouble())
        await authority.transact(take("pod/a", Amount(1, 1), number=1))
        assert authority.seen().metadata.uid != first


async def test_an_object_that_is_not_there_is_said_so(control_plane: StandaloneControlPlane, namespace: str) -> None:
    absent = LedgerObject(control_plane, namespace, "nobody")
    with pytest.raises(LedgerUnavailable, match="no such AgentLedger"):
        async with absent.authority():
            pass


async def test_what_changes_nothing_is_not_written(ledger: LedgerObject) -> None:
    async with ledger.authority() as authority:
        before = ledger.read().metadata.resource_version
        await authority.transact(lambda status, spec, now: status)
        assert ledger.read().metadata.resource_version == before


async def test_spend_by_model_is_written_as_it_was_posted(ledger: LedgerObject) -> None:
    spend = ModelSpend(name="m", price="spec/1", tokens=7, nano_usd=70)

    def change(status: LedgerStatus, spec: LedgerSpec, now: datetime) -> LedgerStatus:
        return post(status, spec, "pod/a", [Posting(key=w.key, spent=(spend,)) for w in status.windows])[0]

    async with ledger.authority() as authority:
        await authority.transact(change)
    windows = ledger.read().status.windows
    assert {window.name: window.models for window in windows} == {"daily": (spend,), "monthly": (spend,)}
