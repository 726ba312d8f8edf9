"""The informer against a real API server that goes away, forgets, and refuses."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.apiserver.clients import connected

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.informer import Informer
from agentservice_operator.kube.resources import CONFIGMAPS
from devcluster.standalone import StandaloneControlPlane


@asynccontextmanager
async def informed(client: Client, namespace: str, **changes: Any) -> AsyncIterator[tuple[Informer, list[Any]]]:
    told: list[tuple[str, str]] = []

    def on_change(old: Any, new: Any) -> None:
        what = "added" if old is None else "deleted" if new is None else "changed"
        if (new or old)["metadata"]["name"] != "kube-root-ca.crt":
            told.append((what, (new or old)["metadata"]["name"]))

    informer = Informer(
        client=client,
        resource=CONFIGMAPS,
        random=random.random,
        clock=time.monotonic,
        namespaces=(namespace,),
        on_change=on_change,
        backoff_base=0.1,
        backoff_ceiling=0.5,
        **changes,
    )
    task = asyncio.create_task(informer.run())
    try:
        yield informer, told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.02)


def config_map(namespace: str, name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_it_follows_a_selection_and_an_object_that_leaves_it_is_deleted_from_it(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    async with connected(control_plane.kubeconfig) as client:
        mine = {"mine": "yes"}
        await client.create(CONFIGMAPS, config_map(namespace, "a", mine), field_manager="t")
        await client.create(CONFIGMAPS, config_map(namespace, "other"), field_manager="t")
        async with informed(client, namespace, label_selector="mine=yes", metadata_only=True) as (informer, told):
            await asyncio.wait_for(informer.synced.wait(), 10)
            assert [content["metadata"]["name"] for content in informer] == ["a"]
            assert "data" not in next(iter(informer))
            await client.apply(CONFIGMAPS, config_map(namespace, "b", mine, x="1"), field_manager="t")
            await until(lambda: len(told) == 2)
            stripped = config_map(namespace, "b", x="1")
            await client.apply(CONFIGMAPS, stripped, field_manager="t")
            await until(lambda: len(told) == 3)
            assert told == [("added", "a"), ("added", "b"), ("deleted", "b")]


async def test_what_our_own_write_answered_is_not_told_again(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    async with connected(control_plane.kubeconfig) as client, informed(client, namespace) as (informer, told):
        await asyncio.wait_for(informer.synced.wait(), 10)
        for number in range(10):
            informer.remember(
                await client.apply(CONFIGMAPS, config_map(namespace, "a", x=str(number)), field_manager="t")
            )
            assert informer.get(namespace, "a")["data"] == {"x": str(number)}  # type: ignore[index]
        await client.create(CONFIGMAPS, config_map(namespace, "last"), field_manager="t")
        await until(lambda: ("added", "last") in told)
        assert informer.get(namespace, "a")["data"] == {"x": "9"}  # type: ignore[index]


async def test_it_outlives_a_restart_of_the_api_server_and_misses_nothing(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    async with connected(control_plane.kubeconfig) as client:
        await client.create(CONFIGMAPS, config_map(namespace, "a"), field_manager="t")
        async with informed(client, namespace) as (informer, told):
            await asyncio.wait_for(informer.synced.wait(), 10)
            control_plane.stop_program("kube-apiserver")
            await asyncio.sleep(1)
            assert informer.get(namespace, "a") is not None
            control_plane.start_program("kube-apiserver")
            await asyncio.to_thread(control_plane.wait_ready)
            await client.create(CONFIGMAPS, config_map(namespace, "b"), field_manager="t")
            uid = informer.get(namespace, "a")["metadata"]["uid"]  # type: ignore[index]
            await client.delete(CONFIGMAPS, namespace, "a", uid=uid)
            await until(lambda: informer.get(namespace, "b") and not informer.get(namespace, "a"), seconds=40)
            assert [entry for entry in told if entry[1] == "a"] == [("added", "a"), ("deleted", "a")]


async def test_a_permission_that_is_granted_later_is_used_and_until_then_named(
    control_plane: StandaloneControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"late-{namespace}"
    async with connected(control_plane.user(user)) as client, informed(client, namespace) as (informer, _):
        with caplog.at_level(logging.ERROR):
            await until(lambda: "grant the verbs" in caplog.text)
        assert not informer.synced.is_set()
        control_plane.kubectl("-n", namespace, "create", "role", "reader", "--verb=list,watch", "--resource=configmaps")
        control_plane.kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader", f"--user={user}")
        await asyncio.wait_for(informer.synced.wait(), 20)
