"""The informer's belief stays true through whatever the API server does."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentservice_operator.kube.informer import Informer
from agentservice_operator.kube.resources import CONFIGMAPS


class Watched:
    """An informer that runs, and what it told."""

    def __init__(self, client: Any, **changes: Any) -> None:
        self.told: list[tuple[str, str]] = []
        self.slept: list[float] = []
        arguments: dict[str, Any] = {
            "client": client,
            "resource": CONFIGMAPS,
            "random": random.Random(1).random,
            "sleep": self._sleep,
            "clock": time.monotonic,
            "on_change": self._on_change,
            "page_size": 2,
        }
        self.informer = Informer(**(arguments | changes))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.002)

    def _on_change(self, old: Any, new: Any) -> None:
        what = "added" if old is None else "deleted" if new is None else "changed"
        self.told.append((what, (new or old)["metadata"]["name"]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Watched"]:
        task = asyncio.create_task(self.informer.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def names(self) -> set[str]:
        return {content["metadata"]["name"] for content in self.informer}


async def test_it_is_synced_once_everything_is_listed_and_then_follows(
    api: Any, make_client: Any, eventually: Any
) -> None:
    for name in "abc":
        api.put("configmaps", name)
    async with Watched(make_client()).running() as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 5)
        assert watched.names == {"a", "b", "c"}
        await eventually(lambda: api.watching("configmaps"))
        api.put("configmaps", "d")
        api.put("configmaps", "a", data={})
        api.remove("configmaps", "b")
        await eventually(lambda: len(watched.told) == 6)
        assert watched.told[3:] == [("added", "d"), ("changed", "a"), ("deleted", "b")]
        assert watched.names == {"a", "c", "d"}
        assert watched.informer.get("ns", "a")["data"] == {}


async def test_what_vanished_during_a_watch_gap_is_told_as_deleted(api: Any, make_client: Any, eventually: Any) -> None:
    for name in "abc":
        api.put("configmaps", name)
    async with Watched(make_client()).running() as watched:
        await eventually(lambda: api.watching("configmaps"))
        for kind, queue in list(api._watchers):
            api._watchers.discard((kind, queue))  # the watch hears nothing more
            api.remove("configmaps", "b")
            api.put("configmaps", "d")
            api.compact()
            queue.put_nowait("reset")
        await eventually(lambda: "d" in watched.names)
        assert watched.names == {"a", "c", "d"}
        assert ("deleted", "b") in watched.told


async def test_made_again_during_a_gap_is_told_as_deleted_and_added(
    api: Any, make_client: Any, eventually: Any
) -> None:
    api.put("configmaps", "a")
    async with Watched(make_client()).running() as watched:
        await eventually(lambda: api.watching("configmaps"))
        for watcher in list(api._watchers):
            api._watchers.discard(watcher)
            api.remove("configmaps", "a")
            api.put("configmaps", "a")
            api.compact()
            watcher[1].put_nowait("end")
        await eventually(lambda: len(watched.told) == 3)
        assert watched.told == [("added", "a"), ("deleted", "a"), ("added", "a")]


@pytest.mark.parametrize("action", [403, 404, 429, 500, 503, "reset"])
async def test_a_list_that_is_refused_is_tried_until_it_is_not(
    api: Any, make_client: Any, fault: Any, eventually: Any, action: int | str
) -> None:
    api.put("configmaps", "a")
    api.faults.append(fault("list", "configmaps", action, times=40))
    async with Watched(make_client()).running() as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 5)
        assert watched.names == {"a"}


@pytest.mark.parametrize("action", [403, 410, 429, 500, "reset"])
async def test_a_watch_that_is_refused_goes_on_afterwards(
    api: Any, make_client: Any, fault: Any, eventually: Any, action: int | str
) -> None:
    api.faults.append(fault("watch", "configmaps", action, times=20))
    async with Watched(make_client()).running() as watched:
        await eventually(lambda: api.watching("configmaps"))
        api.put("configmaps", "a")
        await eventually(lambda: watched.names == {"a"})


@pytest.mark.parametrize("code", [410, 500, 403])
async def test_an_error_event_in_a_watch_makes_it_list_again(
    api: Any, make_client: Any, eventually: Any, code: int
) -> None:
    async with Watched(make_client()).running() as watched:
        await eventually(lambda: api.watching("configmaps"))
        failure = {"kind": "Status", "code": code, "reason": "Expired" if code == 410 else "", "message": "no"}
        api.send_in_watches({"type": "ERROR", "object": failure}, plural="configmaps")
        await eventually(lambda: api.count("list", "configmaps") == 2)
        await eventually(lambda: api.watching("configmaps"))
        api.put("configmaps", "a")
        await eventually(lambda: watched.names == {"a"})


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_broken_stream_is_taken_up_where_it_was_without_a_list(
    api: Any, make_client: Any, eventually: Any, how: str
) -> None:
    async with Watched(make_client()).running() as watched:
        await eventually(lambda: api.watching("configmaps"))
        api.put("configmaps", "a")
        await eventually(lambda: watched.names == {"a"})
        api.end_watches(how)
        await eventually(lambda: api.count("watch", "configmaps") == 2)
        api.put("configmaps", "b")
        await eventually(lambda: watched.names == {"a", "b"})
        assert api.count("list", "configmaps") == 1
        assert watched.told == [("added", "a"), ("added", "b")]


async def test_a_bookmark_moves_where_a_stream_is_taken_up(api: Any, make_client: Any, eventually: Any) -> None:
    async with Watched(make_client()).running():
        await eventually(lambda: api.watching("configmaps"))
        api.send_in_watches(
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "777"}}}, plural="configmaps"
        )
        api.end_watches()
        await eventually(lambda: api.count("watch", "configmaps") == 2)
        assert api.sent[-1][2]["resourceVersion"] == "777"


async def test_a_silent_watch_is_given_up(api: Any, make_client: Any, eventually: Any) -> None:
    async with Watched(make_client(), inactivity_timeout=0.05).running():
        await eventually(lambda: api.count("watch", "configmaps") >= 3)


async def test_delays_grow_with_failures_and_a_list_alone_does_not_end_them(
    api: Any, make_client: Any, fault: Any, eventually: Any
) -> None:
    api.faults.append(fault("watch", "configmaps", 403, times=10**6))
    async with Watched(make_client(), backoff_base=1.0, backoff_ceiling=8.0).running() as watched:
        await eventually(lambda: len(watched.slept) >= 8)
    assert watched.slept[0] <= 1.0
    assert all(4.0 <= seconds <= 8.0 for seconds in watched.slept[4:])


async def test_a_missing_permission_is_named_but_does_not_flood_the_log(
    api: Any, make_client: Any, fault: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.append(fault("list", "configmaps", 403, times=64))
    with caplog.at_level(logging.ERROR):
        async with Watched(make_client()).running() as watched:
            await asyncio.wait_for(watched.informer.synced.wait(), 5)
    said = [record.getMessage() for record in caplog.records]
    assert 'grant the verbs "list" and "watch" on configmaps' in said[0]
    assert len(said) <= 8


async def test_selectors_and_metadata_only_reach_the_server(api: Any, make_client: Any, eventually: Any) -> None:
    watched = Watched(make_client(), label_selector="a=b", field_selector="reason=X", metadata_only=True)
    async with watched.running():
        await eventually(lambda: api.watching("configmaps"))
    for (_, _, query), headers in zip(api.sent, api.headers, strict=True):
        assert query["labelSelector"] == "a=b"
        assert query["fieldSelector"] == "reason=X"
        assert "PartialObjectMetadata" in headers["Accept"]


async def test_only_the_given_namespaces_are_asked_for_and_all_must_be_listed(
    api: Any, make_client: Any, fault: Any, eventually: Any
) -> None:
    api.put("configmaps", "a", namespace="one")
    api.put("configmaps", "a", namespace="two")
    api.put("configmaps", "a", namespace="three")
    async with Watched(make_client(), namespaces=("one", "two")).running() as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 5)
        assert {content["metadata"]["namespace"] for content in watched.informer} == {"one", "two"}


async def test_a_listener_that_fails_does_not_blind_it(api: Any, make_client: Any, eventually: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("listener")

    async with Watched(make_client(), on_change=fail).running() as watched:
        await eventually(lambda: api.watching("configmaps"))
        api.put("configmaps", "a")
        api.put("configmaps", "b")
        await eventually(lambda: watched.names == {"a", "b"})


async def test_a_kind_that_is_not_installed_can_count_as_one_without_objects_until_it_is(
    api: Any, make_client: Any, fault: Any, eventually: Any
) -> None:
    absent = fault("list", "configmaps", 404, times=1000, body={"reason": "", "message": "page not found"})
    api.faults.append(absent)
    async with Watched(make_client(), may_be_absent=True).running() as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 5)
        assert watched.names == set()
        api.put("configmaps", "a")
        absent.times = 0
        await eventually(lambda: watched.names == {"a"})


async def test_who_asks_is_told_when_an_optional_kind_appears_or_vanishes_with_all_its_objects(
    api: Any, make_client: Any, fault: Any, eventually: Any, caplog: Any
) -> None:
    told: list[str] = []
    absent = fault("list", "configmaps", 404, times=1000, body={"reason": "", "message": "page not found"})
    api.faults.append(absent)
    async with Watched(make_client(), may_be_absent=True, on_served=lambda: told.append("")).running() as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 5)
        assert (watched.informer.is_served, told) == (False, []), "what was never known has not changed"
        api.put("configmaps", "a")
        absent.times = 0
        await eventually(lambda: watched.informer.is_served and len(told) == 1)
        await eventually(lambda: api.watching("configmaps"))
        page_not_found = {"reason": "", "message": "page not found"}
        api.faults += [fault(verb, "configmaps", 404, times=1000, body=page_not_found) for verb in ("list", "watch")]
        api.end_watches()
        await eventually(lambda: not watched.informer.is_served and len(told) == 2)
        assert watched.names == set()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
