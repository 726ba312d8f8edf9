"""What kopf does not do, and what was put around it: the drills of each kopf upgrade. (Measured first on kopf 1.45.2.)"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from agentservice_operator.kube.agentservices import AgentServiceStore
from agentservice_operator.kube.credentials import Connection, Endpoint
from agentservice_operator.shell import kopf_app
from agentservice_operator.shell.kopf_app import AgentServiceStream


class Streamed:
    """A stream that runs against the faulty server, and what its store told."""

    def __init__(self, api: Any, client: Any, **changes: Any) -> None:
        self.told: list[tuple[str, str]] = []
        self.store = AgentServiceStore(on_change=self._on_change)
        self.connection = Connection(Endpoint(server=api.url), clock=time.monotonic)
        self.reclaimed = 0
        arguments: dict[str, Any] = {
            "store": self.store,
            "client": client,
            "connection": self.connection,
            "namespaces": (),
            "random": random.Random(1).random,
            "reclaim_signals": self._reclaim,
            "sleep": self._sleep,
            "backoff_ceiling": 0.05,
        }
        self.stream = AgentServiceStream(**(arguments | changes))

    def _reclaim(self) -> None:
        self.reclaimed += 1

    async def _sleep(self, _: float) -> None:
        await asyncio.sleep(0.005)

    def _on_change(self, old: Any, new: Any) -> None:
        what = "added" if old is None else "deleted" if new is None else "changed"
        self.told.append((what, (new or old)["metadata"]["name"]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Streamed"]:
        task = asyncio.create_task(self.stream.run())
        try:
            yield self
        finally:
            self.stream.stop()
            await asyncio.wait_for(task, 8)
            await self.connection.close()

    @property
    def names(self) -> set[str]:
        return {content["metadata"]["name"] for content in self.store}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf's own delays, shortened: what is tested is what happens, not when."""
    real = kopf_app.settings

    def shortened() -> Any:
        made = real()
        made.watching.reconnect_backoff = 0.001
        made.queueing.exit_timeout = 0.05
        made.networking.error_backoffs = [0.01] * 3
        return made

    monkeypatch.setattr(kopf_app, "settings", shortened)


async def test_changes_come_by_the_stream_and_kopf_writes_nothing(api: Any, make_client: Any, eventually: Any) -> None:
    api.put("agentservices", "a", spec={})
    async with Streamed(api, make_client()).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        lists = api.count("list", "agentservices")
        changes = (
            lambda: api.put("agentservices", "b", spec={}),
            lambda: api.put("agentservices", "a", spec={"x": 1}),
            lambda: api.put("agentservices", "a", spec={"x": 1}, status={"done": True}),
            lambda: api.remove("agentservices", "b"),
        )
        for number, change in enumerate(changes, start=2):
            change()
            await eventually(lambda: len(streamed.told) == number)  # noqa: B023
        assert sorted(streamed.told) == [
            ("added", "a"),
            ("added", "b"),
            ("changed", "a"),
            ("changed", "a"),
            ("deleted", "b"),
        ]
        assert api.count("list", "agentservices") <= lists + 1
    assert {verb for verb, _, _ in api.sent} <= {"list", "watch"}


async def test_the_stream_runs_in_a_container_whose_uid_has_no_name(
    api: Any, make_client: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", nameless)
    async with Streamed(api, make_client()).running():
        await eventually(lambda: api.watching("agentservices"))


async def test_what_was_deleted_before_a_410_is_told_although_kopf_is_silent(
    api: Any, make_client: Any, eventually: Any
) -> None:
    for name in "abc":
        api.put("agentservices", name, spec={})
    async with Streamed(api, make_client()).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        for watcher in list(api._watchers):
            api._watchers.discard(watcher)
            api.remove("agentservices", "b")
            api.compact()
            watcher[1].put_nowait("end")
        await eventually(lambda: ("deleted", "b") in streamed.told)
        assert streamed.names == {"a", "c"}


async def test_what_kopf_lists_is_told_by_our_list_alone_also_what_changes_between_the_two(
    api: Any, make_client: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, by_kopf = api._list, []

    def lists(plural: str, namespace: str, request: Any) -> Any:
        if request.query.get("limit") == "1":
            by_kopf.append(api.put("agentservices", "between", spec={}))
        return real(plural, namespace, request)

    monkeypatch.setattr(api, "_list", lists)
    for name in "abc":
        api.put("agentservices", name, spec={})
    streamed = Streamed(api, make_client())
    seen: list[Any] = []
    monkeypatch.setattr(streamed.store, "observe", lambda *event: seen.append(event))
    async with streamed.running():
        await eventually(lambda: streamed.names == {"a", "b", "c", "between"})
    assert len(by_kopf) == 1
    assert not seen


async def test_a_list_that_fails_once_is_asked_for_again_by_kopf_itself(
    api: Any, make_client: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = api._list, [500]

    def lists(plural: str, namespace: str, request: Any) -> Any:
        if request.query.get("limit") == "1" and failures:
            return web.json_response({"kind": "Status", "code": 500}, status=failures.pop())
        return real(plural, namespace, request)

    monkeypatch.setattr(api, "_list", lists)
    async with Streamed(api, make_client()).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        assert not failures
        assert streamed.reclaimed == 1


@pytest.mark.parametrize("status", [403, 404, 422, 429, 500])
async def test_a_refused_list_does_not_end_the_stream(
    api: Any, make_client: Any, fault: Any, eventually: Any, status: int
) -> None:
    async with Streamed(api, make_client()).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        api.faults.append(fault("list", "agentservices", status, times=12))
        api.compact()
        api.version += 1
        api.end_watches()
        api.put("agentservices", "late", spec={})
        api.compact()
        await eventually(lambda: streamed.names == {"late"})
        await eventually(lambda: api.watching("agentservices"))


async def test_an_unauthorized_answer_makes_kopf_log_in_again_and_leaves_our_session_open(
    api: Any, make_client: Any, fault: Any, eventually: Any
) -> None:
    async with Streamed(api, make_client()).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        ours = streamed.connection.session()
        api.faults.append(fault("watch", "agentservices", 401))
        api.end_watches()
        await eventually(lambda: api.watching("agentservices") and not api.faults[-1].times)
        api.put("agentservices", "a", spec={})
        await eventually(lambda: streamed.names == {"a"})
        async with ours.get(api.url + "/version") as response:
            assert response.status == 200
        await ours.close()


async def test_an_error_event_in_the_watch_starts_kopf_again(api: Any, make_client: Any, eventually: Any) -> None:
    async with Streamed(api, make_client()).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        failure = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd"}
        api.send_in_watches({"type": "ERROR", "object": failure}, plural="agentservices")
        await eventually(lambda: streamed.reclaimed == 2)
        await eventually(lambda: api.watching("agentservices"))
        api.put("agentservices", "a", spec={})
        await eventually(lambda: streamed.names == {"a"})


async def test_a_listener_that_fails_is_made_up_for_by_a_list(api: Any, make_client: Any, eventually: Any) -> None:
    streamed = Streamed(api, make_client())
    real, failing = streamed.store.observe, [True]

    def observe(*arguments: Any) -> None:
        if failing.pop() if failing else False:
            raise RuntimeError("listener")
        real(*arguments)

    streamed.store.observe = observe  # type: ignore[method-assign]
    async with streamed.running():
        await eventually(lambda: api.watching("agentservices"))
        api.put("agentservices", "a", spec={})
        await eventually(lambda: streamed.names == {"a"})
        assert not failing


async def test_the_end_of_kopf_cancels_none_of_our_tasks(api: Any, make_client: Any, eventually: Any) -> None:
    async with Streamed(api, make_client()).running():
        await eventually(lambda: api.watching("agentservices"))
        ours = asyncio.create_task(asyncio.sleep(60))
    assert not ours.cancelled()
    ours.cancel()


async def test_a_kind_that_is_not_served_yet_is_waited_for(
    api: Any, make_client: Any, fault: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.append(fault("list", "agentservices", 404, times=6))
    with caplog.at_level(logging.ERROR):
        async with Streamed(api, make_client()).running() as streamed:
            assert not streamed.stream.listed.is_set()
            await asyncio.wait_for(streamed.stream.listed.wait(), 5)
            await eventually(lambda: api.watching("agentservices"))
    assert "install the CustomResourceDefinition" in caplog.text


async def test_a_kind_that_is_served_before_it_is_named_is_watched_all_the_same(
    api: Any, make_client: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.unnamed = 1
    async with Streamed(api, make_client(), deaf_seconds=0.3).running() as streamed:
        await eventually(lambda: api.watching("agentservices"))
        api.put("agentservices", "a", spec={})
        await eventually(lambda: streamed.told == [("added", "a")])
    assert "has not begun" in caplog.text


async def test_the_end_comes_even_when_the_server_never_answered(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("list", "agentservices", 500, times=10**6))
    async with Streamed(api, make_client()).running():
        await asyncio.sleep(0.02)


def test_kopf_may_neither_post_scan_peer_nor_give_up() -> None:
    made = kopf_app.settings()
    assert not made.posting.enabled
    assert made.scanning.disabled
    assert made.peering.standalone
    assert isinstance(made.persistence.diffbase_storage, kopf_app.NoDiffBase)
    assert isinstance(made.persistence.progress_storage, kopf_app.NoProgress)
    assert made.process.ultimate_exiting_timeout is None
    assert "kopf.zalando.org" not in made.persistence.finalizer


def test_the_backoffs_never_end_and_start_anew_for_each_request() -> None:
    backoffs = kopf_app.EndlessBackoffs()
    for _ in range(2):
        first = [delay for delay, _ in zip(backoffs, range(100), strict=False)]
        assert first[:4] == [1, 1, 2, 3]
        assert first[-1] == 30
