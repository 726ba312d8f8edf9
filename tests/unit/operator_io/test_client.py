"""What the client does when the API server misbehaves."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentservice_operator.kube import requests
from agentservice_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    TransportError,
    Unauthorized,
)
from agentservice_operator.kube.resources import AGENTLEDGERS, CONFIGMAPS, SECRETS
from agentservice_operator.kube.retry import RetryPolicy


def config_map(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns", **metadata}}


async def test_a_list_is_read_page_by_page_and_names_the_type_of_each_item(api: Any, make_client: Any) -> None:
    for number in range(5):
        api.put("configmaps", f"c{number}")
    listing = await make_client().list(CONFIGMAPS, limit=2)
    assert [item["metadata"]["name"] for item in listing.items] == ["c0", "c1", "c2", "c3", "c4"]
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}
    assert listing.resource_version == "105"
    assert api.count("list", "configmaps") == 3


async def test_metadata_only_asks_for_partial_objects(api: Any, make_client: Any) -> None:
    api.put("configmaps", "a")
    await make_client().list_metadata(CONFIGMAPS)
    assert "PartialObjectMetadataList" in api.headers[-1]["Accept"]


@pytest.mark.parametrize("action", [500, 503, "reset", "lost"])
async def test_an_idempotent_request_is_sent_again(api: Any, make_client: Any, fault: Any, action: int | str) -> None:
    api.faults.append(fault("apply", "configmaps", action, times=2))
    client = make_client()
    await client.apply(CONFIGMAPS, config_map(), field_manager="m")
    assert ("configmaps", "ns", "a") in api.objects
    assert len(client.slept) == 2


@pytest.mark.parametrize("action", [500, "reset"])
async def test_a_create_is_sent_again_too(api: Any, make_client: Any, fault: Any, action: int | str) -> None:
    api.faults.append(fault("create", "configmaps", action))
    made = await make_client().create(CONFIGMAPS, config_map(), field_manager="m")
    assert made["metadata"]["name"] == "a"
    assert api.count("create", "configmaps") == 2


async def test_a_create_whose_answer_is_lost_finds_the_name_taken(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("create", "configmaps", "lost"))
    with pytest.raises(AlreadyExists):
        await make_client().create(CONFIGMAPS, config_map(), field_manager="m")
    assert api.count("create", "configmaps") == 2


async def test_too_many_requests_waits_as_long_as_asked_for_every_verb(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("create", "configmaps", 429, headers={"Retry-After": "7"}))
    client = make_client()
    await client.create(CONFIGMAPS, config_map(), field_manager="m")
    assert 7 <= client.slept[0] < 8


async def test_a_long_retry_after_is_left_to_the_queue(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("get", "configmaps", 429, headers={"Retry-After": "600"}))
    with pytest.raises(TooManyRequests) as caught:
        await make_client().get(CONFIGMAPS, "ns", "a")
    assert caught.value.retry_after == 600


async def test_retries_end(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("get", "configmaps", 500, times=99))
    with pytest.raises(ApiError):
        await make_client(policy=RetryPolicy(attempts=4)).get(CONFIGMAPS, "ns", "a")
    assert api.count("get", "configmaps") == 4


async def test_a_silent_server_is_a_transport_error_in_time(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("create", "configmaps", "hang", times=99))
    with pytest.raises(TransportError, match="timed out"):
        await make_client(request_timeout=0.1).create(CONFIGMAPS, config_map(), field_manager="m")


async def test_nobody_listening_is_a_transport_error(make_client: Any) -> None:
    with pytest.raises(TransportError, match="cannot connect"):
        await make_client(server="http://127.0.0.1:1").get(CONFIGMAPS, "ns", "a")


async def test_a_token_that_was_rotated_is_read_again_once(api: Any, make_client: Any, fault: Any) -> None:
    api.put("configmaps", "a")
    distrusted: list[bool] = []
    api.faults.append(fault("get", "configmaps", 401))
    client = make_client(on_unauthorized=lambda: distrusted.append(True))
    await client.get(CONFIGMAPS, "ns", "a")
    assert distrusted == [True]
    api.faults.append(fault("get", "configmaps", 401, times=2))
    with pytest.raises(Unauthorized):
        await client.get(CONFIGMAPS, "ns", "a")


async def test_each_refusal_has_its_class(api: Any, make_client: Any, fault: Any) -> None:
    api.put("configmaps", "a")
    client = make_client()
    with pytest.raises(NotFound):
        await client.get(CONFIGMAPS, "ns", "other")
    with pytest.raises(AlreadyExists):
        await client.create(CONFIGMAPS, config_map(), field_manager="m")
    with pytest.raises(Conflict) as caught:
        await client.delete(CONFIGMAPS, "ns", "a", uid="somebody-else")
    assert not isinstance(caught.value, AlreadyExists)
    for status, kind in ((400, Invalid), (403, Forbidden), (410, Gone), (422, Invalid)):
        api.faults.append(fault("get", "configmaps", status))
        with pytest.raises(kind):
            await client.get(CONFIGMAPS, "ns", "a")


async def test_a_delete_is_of_exactly_the_object_that_was_seen(api: Any, make_client: Any) -> None:
    made = api.put("configmaps", "a")
    await make_client().delete(CONFIGMAPS, "ns", "a", uid=made["metadata"]["uid"], resource_version="101")
    assert not api.objects


async def test_the_fence_stops_writes_but_no_reads_and_no_dry_runs(api: Any, make_client: Any) -> None:
    def guard() -> None:
        raise RuntimeError("fenced")

    client = make_client(guard=guard)
    api.put("configmaps", "a")
    await client.get(CONFIGMAPS, "ns", "a")
    await client.apply(CONFIGMAPS, config_map("b"), field_manager="m", dry_run=True)
    sent = len(api.sent)
    for write in (
        client.apply(CONFIGMAPS, config_map(), field_manager="m"),
        client.create(CONFIGMAPS, config_map(), field_manager="m"),
        client.replace(CONFIGMAPS, config_map(), field_manager="m"),
        client.patch_json(CONFIGMAPS, "ns", "a", []),
        client.delete(CONFIGMAPS, "ns", "a", uid="uid-1"),
    ):
        with pytest.raises(RuntimeError, match="fenced"):
            await write
    assert len(api.sent) == sent


async def test_no_more_than_the_allowed_number_of_requests_run_at_once(make_client: Any) -> None:
    from aiohttp import web

    running = most = 0

    async def slow(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return web.json_response({"metadata": {"name": "a"}})

    app = web.Application()
    app.router.add_get("/{path:.*}", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        client = make_client(server=f"http://127.0.0.1:{runner.addresses[0][1]}", concurrency=3)
        await asyncio.gather(*(client.get(CONFIGMAPS, "ns", "a") for _ in range(12)))
    finally:
        await runner.cleanup()
    assert most == 3


async def test_a_watch_gives_events_and_bookmarks_and_ends_with_the_stream(
    api: Any, make_client: Any, eventually: Any
) -> None:
    client = make_client()
    seen: list[tuple[str, str]] = []

    async def follow() -> None:
        async for event in client.watch(CONFIGMAPS, resource_version="100"):
            seen.append((event.type, event.object["metadata"]["resourceVersion"]))

    task = asyncio.create_task(follow())
    await eventually(lambda: api.watching("configmaps"))
    api.put("configmaps", "a", data={"x": "y" * 300_000})
    api.send_in_watches({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "180"}}}, plural="configmaps")
    api.remove("configmaps", "a")
    await eventually(lambda: len(seen) == 3)
    api.end_watches()
    await asyncio.wait_for(task, 5)
    assert seen == [("ADDED", "101"), ("BOOKMARK", "180"), ("DELETED", "102")]


async def test_a_watch_that_falls_silent_ends(api: Any, make_client: Any) -> None:
    with pytest.raises(TransportError, match="timed out"):
        async for _ in make_client().watch(CONFIGMAPS, resource_version="100", inactivity_timeout=0.1):
            raise AssertionError("nothing was sent")


async def test_a_watch_from_too_long_ago_is_gone(api: Any, make_client: Any) -> None:
    api.compact()
    with pytest.raises(Gone):
        async for _ in make_client().watch(CONFIGMAPS, resource_version="50"):
            raise AssertionError("nothing was sent")


async def test_every_exchange_is_measured_with_its_verb_and_code(api: Any, make_client: Any, fault: Any) -> None:
    exchanges: list[Any] = []
    client = make_client(observe=exchanges.append)
    api.faults.append(fault("get", "configmaps", 503))
    with pytest.raises(NotFound):
        await client.get(CONFIGMAPS, "ns", "a")
    api.faults.append(fault("create", "configmaps", "reset"))
    await client.create(CONFIGMAPS, config_map(), field_manager="m")
    seen = [("get", "503"), ("get", "404"), ("create", "<error>"), ("create", "201")]
    assert [(e.verb, e.code) for e in exchanges] == seen


async def test_what_the_server_says_about_a_secret_is_not_repeated(api: Any, make_client: Any, fault: Any) -> None:
    said = {"message": 'Secret "s" is invalid: data: Invalid value: "hunter2"', "reason": "Invalid"}
    causes = {
        "details": {"causes": [{"field": "data", "message": "Invalid value: hunter2", "reason": "FieldValueInvalid"}]}
    }
    api.faults.append(fault("create", "secrets", 422, body=said | causes))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "ns"}, "data": {}}
    with pytest.raises(Invalid) as caught:
        await make_client().create(SECRETS, secret, field_manager="m")
    assert "hunter2" not in str(caught.value) + repr(caught.value.causes)
    assert caught.value.causes[0].field == "data"


async def test_a_body_that_is_no_status_is_not_repeated(api: Any, make_client: Any, fault: Any) -> None:
    api.faults.append(fault("get", "configmaps", 403, body={"kind": "Proxy", "message": "user: canary"}))
    with pytest.raises(Forbidden) as caught:
        await make_client().get(CONFIGMAPS, "ns", "a")
    assert "canary" not in str(caught.value)


async def test_the_servers_clock_is_read_from_its_answers_and_goes_on_by_ours(api: Any, make_client: Any) -> None:
    now = [100.0]
    client = make_client(clock=lambda: now[0])
    assert client.server_time() is None
    api.put("configmaps", "a")
    await client.get(CONFIGMAPS, "ns", "a")
    told = client.server_time()
    assert abs((datetime.now(UTC) - told).total_seconds()) < 5
    now[0] += 3600
    assert client.server_time() - told == timedelta(hours=1)


def test_a_merge_patch_says_what_it_is_and_may_be_of_a_subresource() -> None:
    request = requests.patch_merge(AGENTLEDGERS, "ns", "a", {"status": {}}, field_manager="m", subresource="status")
    assert request.path.endswith("/agentledgers/a/status")
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert request.mutates
    assert not request.idempotent
