"""kopf on a real API server: it tells of AgentServices with the least rights, and writes nothing."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.apiserver.clients import client_over, opened

from agentservice_operator.kube.agentservices import AgentServiceStore
from agentservice_operator.kube.resources import AGENTSERVICES
from agentservice_operator.shell.kopf_app import AgentServiceStream
from devcluster.api import RefusedError
from devcluster.standalone import StandaloneControlPlane


class Streamed:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.store = AgentServiceStore(on_change=self._on_change)

    def _on_change(self, old: Any, new: Any) -> None:
        what = "added" if old is None else "deleted" if new is None else "changed"
        self.told.append((what, (new or old)["metadata"]["name"]))


@asynccontextmanager
async def streaming(kubeconfig: Path, *namespaces: str) -> AsyncIterator[Streamed]:
    streamed = Streamed()
    async with opened(kubeconfig) as connection:
        stream = AgentServiceStream(
            store=streamed.store,
            client=client_over(connection),
            connection=connection,
            namespaces=namespaces,
            random=random.random,
            reclaim_signals=lambda: None,
            backoff_ceiling=0.5,
        )
        task = asyncio.create_task(stream.run())
        try:
            await asyncio.wait_for(stream.listed.wait(), 20)
            yield streamed
        finally:
            stream.stop()
            await asyncio.wait_for(task, 8)


async def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.02)


def agent(namespace: str, name: str, instructions: str = "Answer.") -> dict[str, Any]:
    return {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"agent": {"instructions": instructions}, "model": {"name": "test"}},
    }


async def test_with_read_rights_in_one_namespace_it_tells_all_and_leaves_no_trace(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    user = f"reader-{namespace}"
    control_plane.kubectl(
        "-n",
        namespace,
        "create",
        "role",
        "reader",
        "--verb=get,list,watch",
        "--resource=agentservices.agentservice.dev",
    )
    control_plane.kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader", f"--user={user}")
    api, path = control_plane.api, AGENTSERVICES.path(namespace)
    made = api.request("POST", path, agent(namespace, "first"))
    async with streaming(control_plane.user(user), namespace) as streamed:
        assert streamed.told == [("added", "first")]
        await asyncio.sleep(1)
        api.request("POST", path, agent(namespace, "second"))
        changed = {"spec": {"agent": {"instructions": "Otherwise."}}}
        api.request("PATCH", f"{path}/first", changed, content_type="application/merge-patch+json")
        await until(lambda: len(streamed.told) == 3)
        now = api.request("GET", f"{path}/first")
        api.request("DELETE", f"{path}/second")
        await until(lambda: ("deleted", "second") in streamed.told)
    assert sorted(streamed.told) == [
        ("added", "first"),
        ("added", "second"),
        ("changed", "first"),
        ("deleted", "second"),
    ]
    assert "annotations" not in now["metadata"]
    assert "finalizers" not in now["metadata"]
    assert now["metadata"]["managedFields"][0]["manager"] == made["metadata"]["managedFields"][0]["manager"]
    assert now["metadata"]["generation"] == 2


async def test_it_outlives_a_restart_of_the_api_server_and_misses_nothing(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    api, path = control_plane.api, AGENTSERVICES.path(namespace)
    api.request("POST", path, agent(namespace, "first"))
    async with streaming(control_plane.kubeconfig, namespace) as streamed:
        await asyncio.sleep(0.5)
        control_plane.stop_program("kube-apiserver")
        await asyncio.sleep(1)
        control_plane.start_program("kube-apiserver")
        await asyncio.to_thread(control_plane.wait_ready)
        api.request("POST", path, agent(namespace, "second"))
        api.request("DELETE", f"{path}/first")
        await until(lambda: [content["metadata"]["name"] for content in streamed.store] == ["second"], seconds=60)


async def test_a_kind_that_is_installed_later_is_noticed(control_plane: StandaloneControlPlane, namespace: str) -> None:
    definition = "customresourcedefinition/agentservices.agentservice.dev"
    crd = control_plane.kubectl("get", definition, "-o", "json").stdout
    control_plane.kubectl("delete", definition, "--wait=true")
    installed = asyncio.Event()

    async def install() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(control_plane.kubectl, "create", "-f", "-", stdin=stripped(crd))
        await asyncio.to_thread(control_plane.kubectl, "wait", definition, "--for=condition=Established")
        installed.set()

    installing = asyncio.create_task(install())
    try:
        async with streaming(control_plane.kubeconfig, namespace) as streamed:
            await installing
            assert installed.is_set()

            def is_taken_in() -> bool:
                # what serves a kind may be a moment behind what says that it is established
                try:
                    control_plane.api.request("POST", AGENTSERVICES.path(namespace), agent(namespace, "first"))
                except RefusedError as error:
                    if error.status != 404:
                        raise
                    return False
                return True

            await until(is_taken_in)
            await until(lambda: streamed.told == [("added", "first")])
    finally:
        await installing


def stripped(crd: str) -> str:
    import json

    content = json.loads(crd)
    for member in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
        content["metadata"].pop(member, None)
    content.pop("status", None)
    return json.dumps(content)
