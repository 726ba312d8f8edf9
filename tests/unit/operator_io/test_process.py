"""The life of the process: standing by, leading, draining, and each way to end."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentservice_operator.kube.credentials import Endpoint
from agentservice_operator.kube.lease import Timing
from agentservice_operator.shell import main as shell_main
from agentservice_operator.shell.main import Exit, Process
from agentservice_operator.shell.settings import Settings

EAGER = Timing(duration=60.0, renew_deadline=40.0, retry=0.1)
"""Nobody loses this lease because the machine was busy."""
SHORT = Timing(duration=4.0, renew_deadline=3.0, retry=0.1)


class Running:
    def __init__(self, process: Process, task: "asyncio.Task[Exit]", api: Any) -> None:
        self.process, self.task, self.api = process, task, api

    @property
    def holder(self) -> str:
        lease = self.api.objects.get(("leases", "ops", "lead"))
        return lease["spec"]["holderIdentity"] if lease else ""

    @property
    def ready(self) -> bool:
        return self.process.health.readiness()[0]


@asynccontextmanager
async def started(api: Any, name: str = "op-0", *, timing: Timing = EAGER) -> AsyncIterator[Running]:
    settings = Settings(
        runtime_image="i", pod_namespace="ops", pod_name=name, lease_name="lead", http_port=0, workers=2
    )
    process = Process(settings=settings, endpoint=Endpoint(server=api.url), timing=timing)
    running = Running(process, asyncio.create_task(process.run()), api)
    try:
        yield running
    finally:
        if not running.task.done():
            process._stopping.set()
        if await asyncio.wait_for(running.task, 30) is Exit.LEADERSHIP_LOST:
            process._ending.clear()
            await process.close()


async def test_it_leads_serves_and_gives_the_lease_back_when_asked_to_stop(api: Any, eventually: Any) -> None:
    async with started(api) as one:
        await eventually(lambda: one.holder and one.ready and api.watching("agentservices"))
        os.kill(os.getpid(), signal.SIGTERM)  # kopf has put its own handler in place by now: ours must be back
        assert await asyncio.wait_for(one.task, 30) is Exit.STOPPED
        assert one.holder == ""


async def test_a_standby_is_ready_watches_nothing_and_follows_at_once(api: Any, eventually: Any) -> None:
    async with started(api, "op-0") as one:
        await eventually(lambda: one.holder.startswith("op-0") and one.ready)
        async with started(api, "op-1") as two:
            await eventually(lambda: two.ready)
            await eventually(lambda: api.watching("agentservices"))
            await asyncio.sleep(0.2)
            assert api.watching("agentservices") == 1
            one.process.stop()
            assert await asyncio.wait_for(one.task, 30) is Exit.STOPPED
            await eventually(lambda: two.holder.startswith("op-1") and two.ready)


async def test_a_leader_whose_lease_is_taken_ends_at_once_and_leaves_it_alone(api: Any, eventually: Any) -> None:
    async with started(api) as one:
        await eventually(lambda: one.holder and one.ready)
        api.put("leases", "lead", namespace="ops", spec={"holderIdentity": "other", "leaseDurationSeconds": 15})
        assert await asyncio.wait_for(one.task, 30) is Exit.LEADERSHIP_LOST
        assert one.holder == "other"


async def test_a_leader_that_cannot_renew_ends_without_another_word(
    api: Any, fault: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(api, timing=SHORT) as one:
        await eventually(lambda: one.holder and one.ready)
        api.faults.append(fault("*", "leases", 500, times=10**6))
        assert await asyncio.wait_for(one.task, 30) is Exit.LEADERSHIP_LOST
        assert "could not release" not in caplog.text


async def test_a_leader_is_not_ready_before_everything_is_listed_and_says_what_it_waits_for(
    api: Any, fault: Any, eventually: Any
) -> None:
    api.faults.append(fault("list", "deployments", 403, times=10**6))
    async with started(api) as one:
        await eventually(lambda: one.holder)
        await eventually(lambda: one.process.health.readiness() == (False, "waiting for the first lists"))
        api.faults.clear()
        await eventually(lambda: one.ready)


async def test_stopping_before_ever_leading_is_in_order(api: Any, fault: Any) -> None:
    api.faults.append(fault("*", "leases", 500, times=10**6))
    async with started(api) as one:
        await asyncio.sleep(0.1)
        one.process.stop()
        assert await asyncio.wait_for(one.task, 5) is Exit.STOPPED


async def test_a_taken_port_is_named(api: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = Process(settings=Settings(runtime_image="i", http_port=port), endpoint=Endpoint(server=api.url))
        assert await process.run() is Exit.MISCONFIGURED
    assert f"port {port} cannot be opened" in caplog.text


async def test_metrics_say_who_leads(api: Any, eventually: Any) -> None:
    api.put("leases", "lead", namespace="ops", spec={"holderIdentity": "other", "leaseDurationSeconds": 1})
    async with started(api) as one:
        for status in (b"0.0", b"1.0"):
            await eventually(lambda: b'_status{name="lead"} ' + status in one.process.health.metrics()[0])  # noqa: B023


def test_a_bad_variable_ends_before_anything_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell_main._serve({"WORKERS": "many"}) is Exit.MISCONFIGURED
    said = capsys.readouterr().err
    assert "WORKERS='many'" in said
    assert "RUNTIME_IMAGE is not set" in said
    assert shell_main._serve({"RUNTIME_IMAGE": "i"}) is Exit.MISCONFIGURED
    assert "set KUBECONFIG" in capsys.readouterr().err
