"""Secrets are looked at seldom and cheaply, by all agents together, and whatever goes wrong leaves the pods alone."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from agentservice_api import Reason
from agentservice_operator.kube.errors import AlreadyExists, ApiError, Forbidden, NotFound, ServerError
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.secret_changes import SecretChanges
from agentservice_operator.secret_keys import Followed
from agentservice_operator.secret_reader import Look, SecretReader, UnreadableError

from .builders import UID, rendered, secret_reader

OWNER = Owner(namespace="team-a", name="support", uid=UID)
KEY_SECRET = ("agentservice-system", "operator-digest-key")
OPENAI = ("team-a", "openai")
CANARY = "sk-canary-51f0"


class Server:
    """Keeps Secrets as the API server does. `cached` is what its watch cache has, where that is something else."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], Manifest] = {}
        self.cached: dict[tuple[str, str], Manifest | None] = {}
        self.refuses: dict[tuple[str, str], ApiError] = {}
        self.asked: list[str] = []
        self.version = 0

    def put(self, where: tuple[str, str], **values: str) -> None:
        self.version += 1
        metadata = {"uid": "u", "resourceVersion": str(self.version)}
        data = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.secrets[where] = {"metadata": metadata, "data": data}

    async def get(self, _: Any, namespace: str, name: str) -> Manifest:
        self.asked.append(f"get {name}")
        await asyncio.sleep(0)
        return self._answer(self.secrets, (namespace, name))

    async def get_metadata(self, _: Any, namespace: str, name: str) -> Manifest:
        self.asked.append(f"metadata {name}")
        return {"metadata": self._answer({**self.secrets, **self.cached}, (namespace, name))["metadata"]}

    async def create(self, _: Any, manifest: Manifest, *, field_manager: str) -> Manifest:
        where = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        self.asked.append(f"create {where[1]}")
        if where in self.secrets:
            raise AlreadyExists(status=409)
        self.secrets[where] = manifest
        return manifest

    def _answer(self, known: Any, where: tuple[str, str]) -> Manifest:
        if where in self.refuses:
            raise self.refuses[where]
        if known.get(where) is None:
            raise NotFound(status=404)
        return known[where]

    def what_was_asked(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    server = Server()
    server.put(OPENAI, api_key=CANARY, other="x")
    return server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(server: Server, clock: Clock) -> SecretReader:
    return secret_reader(server, clock=clock)


AT_WORK = f"{'0' * 8}-{'0' * 32}"


async def followed(
    reader: SecretReader | SecretChanges, *, at_work: str | None = AT_WORK, paused: bool = False
) -> Followed:
    changes = reader if isinstance(reader, SecretChanges) else SecretChanges(reader)
    model = {"name": "test", "apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    return await changes.follow(OWNER, rendered(model=model), at_work=at_work, paused=paused)


async def test_within_the_interval_nothing_is_asked_again(reader: SecretReader, server: Server, clock: Clock) -> None:
    first = await reader.look("team-a", ["openai"])
    assert server.what_was_asked() == ["get operator-digest-key", "create operator-digest-key", "get openai"]
    clock.now = 59.0
    again = await reader.look("team-a", ["openai"])
    assert server.what_was_asked() == []
    assert (first.found, first.again_in, again.again_in) == (again.found, 60.0, 1.0)


async def test_a_look_reads_no_value_unless_the_secret_is_another_one(
    reader: SecretReader, server: Server, clock: Clock
) -> None:
    before = await reader.look("team-a", ["openai"])
    server.what_was_asked()
    clock.now = 60.0
    assert (await reader.look("team-a", ["openai"])).found == before.found
    assert server.what_was_asked() == ["metadata openai"]
    server.put(OPENAI, api_key="another")
    clock.now = 120.0
    assert (await reader.look("team-a", ["openai"])).found != before.found
    assert server.what_was_asked() == ["metadata openai", "get openai"]


async def test_agents_that_share_a_secret_share_a_look(reader: SecretReader, server: Server, clock: Clock) -> None:
    await asyncio.gather(*(reader.look("team-a", ["openai"]) for _ in range(5)))
    assert server.what_was_asked() == ["get operator-digest-key", "create operator-digest-key", "get openai"]
    clock.now = 60.0
    await asyncio.gather(*(reader.look("team-a", ["openai"]) for _ in range(5)))
    assert server.what_was_asked() == ["metadata openai"]


@pytest.mark.parametrize("lagging", [None, {"metadata": {"uid": "u", "resourceVersion": "0"}}])
async def test_a_cache_that_lags_behind_changes_nothing(
    lagging: Manifest | None, reader: SecretReader, server: Server, clock: Clock
) -> None:
    before = await reader.look("team-a", ["openai"])
    server.cached[OPENAI] = lagging
    clock.now = 60.0
    assert (await reader.look("team-a", ["openai"])).found == before.found


async def test_looks_are_spread_by_a_tenth_of_the_interval(server: Server) -> None:
    due = [(await secret_reader(server, random=lambda r=r: r).look("team-a", ["openai"])).again_in for r in (0.0, 1.0)]
    assert due == pytest.approx([54.0, 66.0])


async def test_a_secret_that_does_not_exist_is_looked_for_sooner(
    reader: SecretReader, server: Server, clock: Clock
) -> None:
    look = await reader.look("team-a", ["absent", "openai"])
    assert (look.found["absent"], look.again_in) == (None, 10.0)
    server.put(("team-a", "absent"), key="v")
    clock.now = 10.0
    assert set((await reader.look("team-a", ["absent"])).found["absent"] or ()) == {"key"}


async def test_every_process_and_every_restart_has_the_same_key(server: Server) -> None:
    keys = iter([b"a" * 32, b"b" * 32])

    async def look() -> Look:
        return await secret_reader(server, new_key=lambda _: next(keys)).look("team-a", ["openai"])

    one, other = await asyncio.gather(look(), look())
    assert one == other == await look()
    assert server.secrets[KEY_SECRET]["immutable"] is True


async def test_a_key_that_somebody_spoilt_is_said_and_not_used(
    reader: SecretReader, server: Server, clock: Clock
) -> None:
    server.put(KEY_SECRET, key="short")
    with pytest.raises(UnreadableError, match="delete it") as refused:
        await reader.look("team-a", ["openai"])
    assert (refused.value.where, refused.value.forbidden) == ("agentservice-system/operator-digest-key", False)
    del server.secrets[KEY_SECRET]
    clock.now = 60.0
    assert (await reader.look("team-a", ["openai"])).found["openai"]


async def test_what_nobody_asks_for_is_forgotten(reader: SecretReader, server: Server, clock: Clock) -> None:
    await reader.look("team-a", ["openai"])
    clock.now = 60.0 * 12
    server.what_was_asked()
    await reader.look("team-a", ["another"])
    await reader.look("team-a", ["openai"])
    assert "get openai" in server.what_was_asked()


async def test_the_digest_of_today_is_what_the_pods_are_to_bear(
    reader: SecretReader, server: Server, clock: Clock
) -> None:
    first = await followed(reader, at_work=None)
    assert first.digest is not None
    assert (first.is_change, first.again_in) == (False, 60.0)
    assert (first.verdict.status, first.verdict.reason) == ("True", Reason.FOLLOWED)
    assert "60 s" in first.verdict.message
    server.put(OPENAI, api_key=CANARY, other="y")
    clock.now = 60.0
    same = await followed(reader, at_work=first.digest)
    assert (same.digest, same.is_change) == (first.digest, False)
    server.put(OPENAI, api_key="another", other="y")
    clock.now = 120.0
    assert (await followed(reader, at_work=first.digest)).is_change


async def test_a_digest_by_another_key_stays_until_something_changes(
    reader: SecretReader, server: Server, clock: Clock
) -> None:
    """The key was lost and made anew, or another installation has its own: the pods are what they are to be, as far as anybody knows."""
    changes = SecretChanges(reader)
    assert [(await followed(changes)).digest for _ in range(2)] == [AT_WORK, AT_WORK]
    server.put(OPENAI, api_key=CANARY, other="y")
    clock.now = 60.0
    assert (await followed(changes)).digest == AT_WORK
    server.put(OPENAI, api_key="another")
    clock.now = 120.0
    changed = await followed(changes)
    assert changed.is_change
    clock.now = 180.0
    assert (await followed(changes, at_work=changed.digest)).digest == changed.digest
    # the other installation has seen the change too
    assert (await followed(changes, at_work=AT_WORK)).digest == AT_WORK


REFUSALS = {
    "no permission": (Forbidden(status=403, message="no"), Reason.SECRETS_UNREADABLE, "readSecrets.enabled"),
    "a fault": (ServerError(status=500, message="no"), Reason.SECRETS_UNREADABLE, "it is tried again"),
    "no Secret": (NotFound(status=404), Reason.SECRET_NOT_FOUND, "openai, key api-key does not exist"),
}


@pytest.mark.parametrize("why", REFUSALS)
async def test_what_cannot_be_read_leaves_the_pods_as_they_are_and_is_said(
    why: str, reader: SecretReader, server: Server, clock: Clock
) -> None:
    error, reason, words = REFUSALS[why]
    server.refuses[OPENAI] = error
    for at_work in (None, AT_WORK):
        result = await followed(reader, at_work=at_work)
        assert (result.digest, result.is_change) == (at_work, False)
        assert (result.verdict.status, result.verdict.reason) == ("False", reason)
        assert words in result.verdict.message
    assert server.what_was_asked().count("get openai") == 1, "a refusal is not asked for again and again"
    del server.refuses[OPENAI]
    clock.now = 60.0
    assert (await followed(reader)).verdict.status == "True"


async def test_without_the_permission_it_says_which_field_and_which_value_of_the_chart(
    reader: SecretReader, server: Server
) -> None:
    server.refuses[KEY_SECRET] = Forbidden(status=403, message="no")
    result = await followed(reader)
    assert "rollout.restartOnSecretChange" in result.verdict.message
    assert "readSecrets.enabled" in result.verdict.message
    assert server.what_was_asked() == ["get operator-digest-key"]


async def test_a_key_that_is_gone_from_its_secret_leaves_the_pods_as_they_are(
    reader: SecretReader, server: Server
) -> None:
    server.put(OPENAI, other="x")
    result = await followed(reader)
    assert (result.digest, result.verdict.reason) == (AT_WORK, Reason.SECRET_NOT_FOUND)


async def test_while_paused_nothing_is_asked(reader: SecretReader, server: Server) -> None:
    result = await followed(reader, paused=True)
    assert server.what_was_asked() == []
    assert (result.digest, result.again_in) == (AT_WORK, None)
    assert (result.verdict.status, result.verdict.reason) == ("Unknown", Reason.PAUSED)


async def test_an_agent_that_reads_no_secret_asks_for_none(reader: SecretReader, server: Server) -> None:
    no_secret = rendered(auth={"type": "BearerToken"})
    result = await SecretChanges(reader).follow(OWNER, no_secret, at_work=AT_WORK, paused=False)
    assert server.what_was_asked() == []
    assert (result.digest, result.verdict.reason) == (None, Reason.NOT_REFERENCED)


async def test_no_value_is_kept_or_said(reader: SecretReader, server: Server) -> None:
    result = await followed(reader)
    kept = repr((vars(reader), [vars(entry) for entry in reader._entries.values()], result))
    for text in (CANARY, base64.b64encode(CANARY.encode()).decode()):
        assert text not in kept
    assert "api-key" in kept
