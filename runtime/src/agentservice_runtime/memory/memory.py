"""Decides who goes on with which conversation: the caller who began it, one turn at a time, and never without its store.

A run that fails leaves the conversation as it was. A run that is sent again under its id takes the place of the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic_ai.messages import ModelMessage

from agentservice_api import RuntimeConfig
from agentservice_api.spec import AuthType, ConversationStore
from agentservice_runtime.errors import Category, FieldError, Problem, ServiceError
from agentservice_runtime.logs import FIELDS, LOGGER, error_types
from agentservice_runtime.memory import turns
from agentservice_runtime.memory.store import Busy, Store, Unavailable
from agentservice_runtime.memory.turns import Turn, Unreadable
from agentservice_runtime.patience import answer_seconds
from agentservice_runtime.runner import invalid
from agentservice_runtime.secrets import SecretFiles as Secrets

ANSWER_VARIABLE: Final = "AGENTSERVICE_CONVERSATIONS_ANSWER_SECONDS"
"""How long the store may take to answer before a request is refused, in place of the default."""
ANSWER_SECONDS: Final = 5.0
LEASE_SECONDS: Final = 20.0
"""A pod that dies holds up the conversations it was in for so long."""
SWEEP_SECONDS: Final = 600.0
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")

NO_MEMORY: Final = Problem(
    status=404,
    title="No conversations",
    detail="This agent remembers no conversations: spec.conversations is not set.",
    category=Category.VALIDATION,
)
UNKNOWN: Final = Problem(
    status=404,
    title="No such conversation",
    detail="Nothing of yours is remembered under this id. It was never said, has outlived spec.conversations.retentionSeconds, or was deleted.",
    category=Category.VALIDATION,
)
BUSY: Final = Problem(
    status=409,
    title="Conversation busy",
    detail="Another turn of this conversation is under way. Send the request again when it has been answered.",
    category=Category.VALIDATION,
    retryable=True,
    retry_after=1,
)
UNREADABLE: Final = Problem(
    status=409,
    title="Conversation unreadable",
    detail="The conversation was kept by another version of the agent's runtime. Delete it, or begin one under another id.",
    category=Category.VALIDATION,
)
UNAVAILABLE: Final = Problem(
    status=503,
    title="Conversations unavailable",
    detail="What was said before cannot be read: the store of conversations does not answer. The model was not asked.",
    category=Category.EXTERNAL_SERVICE,
    retryable=True,
    retry_after=5,
)


@dataclass(kw_only=True)
class OpenTurn:
    """A turn under way."""

    conversation_id: str
    history: tuple[ModelMessage, ...]
    keep: Callable[[Turn], Any] = field(repr=False)
    """Keeps the turn and returns whether it is remembered. Never raises."""


class Memory:
    """What one agent remembers. It belongs to one loop."""

    def __init__(self, config: RuntimeConfig, *, store: Store, lease_seconds: float = LEASE_SECONDS) -> None:
        settings = config.conversations
        if settings is None:
            raise ValueError("the configuration has no conversations")
        self._store = store
        self._lease_seconds = lease_seconds
        self._retention_seconds = settings.retention_seconds
        self._most = turns.messages_at_most(config.agent.limits)
        self._header = config.auth.caller_header
        self._is_known = config.auth.type is not AuthType.NONE
        self._behind: set[asyncio.Task[None]] = set()

    def key(self, conversation_id: str, *, end_user: str | None) -> str:
        """Return the name of a caller's conversation, in which neither can be read. Raises ServiceError (422).

        Where nobody need say who they are, whoever knows the id goes on.
        """
        if end_user is None and self._is_known:
            raise invalid((FieldError(path=self._header or "Authorization", message="says whose conversation it is"),))
        return hashlib.sha256(orjson.dumps([end_user or "", conversation_id])).hexdigest()

    @asynccontextmanager
    async def turn(self, conversation_id: str, *, end_user: str | None, run_id: str) -> AsyncGenerator[OpenTurn]:
        """Hold the conversation's turn. Raises ServiceError (409, 422, 503) before anything is asked of the model."""
        key, token = self.key(conversation_id, end_user=end_user), secrets.token_hex(12)
        try:
            body = await self._store.begin(key, token=token, lease_seconds=self._lease_seconds)
        except Busy:
            raise ServiceError(BUSY) from None
        except Unavailable as error:
            raise self._unavailable(error) from None
        renewing = asyncio.create_task(self._renew(key, token))
        is_over = False
        try:
            earlier = [turn for turn in self._decoded(body) if turn.run_id != run_id]
            remembered = turns.newest(earlier, messages=self._most)

            async def keep(turn: Turn) -> bool:
                nonlocal is_over
                is_over = await self._keep(key, token, [*remembered, turn])
                return is_over

            history = tuple(message for turn in remembered for message in turn.messages)
            yield OpenTurn(conversation_id=conversation_id, history=history, keep=keep)
        finally:
            renewing.cancel()
            if not is_over:
                await self._leave(key, token)

    async def read(self, conversation_id: str, *, end_user: str | None) -> tuple[Turn, ...]:
        """Return what is remembered. Raises ServiceError (404, 409, 422, 503)."""
        try:
            body = await self._store.read(self.key(conversation_id, end_user=end_user))
        except Unavailable as error:
            raise self._unavailable(error) from None
        if not body:
            raise ServiceError(UNKNOWN)
        return self._decoded(body)

    async def delete(self, conversation_id: str, *, end_user: str | None) -> None:
        """Forget a conversation; what is being said in it is not remembered either. Raises ServiceError (404, 422, 503)."""
        try:
            is_gone = await self._store.delete(self.key(conversation_id, end_user=end_user))
        except Unavailable as error:
            raise self._unavailable(error) from None
        if not is_gone:
            raise ServiceError(UNKNOWN)

    async def sweep_for_ever(self) -> None:
        """Remove what has outlived its time, now and then."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * (0.5 + random.random()))  # noqa: S311  not a secret
            with suppress(Unavailable):
                await self._store.sweep()

    async def close(self) -> None:
        """Close all connections. Never raises."""
        if self._behind:
            await asyncio.wait(self._behind)
        await self._store.close()

    async def _keep(self, key: str, token: str, said: Sequence[Turn]) -> bool:
        try:
            body = turns.encode(turns.newest(said, messages=self._most))
            return bool(body) and await self._store.keep(key, token=token, body=body, seconds=self._retention_seconds)
        except Unavailable as error:
            _complain("a turn is not remembered: the store of conversations cannot be used", str(error))
        except Exception as error:
            _complain("a turn is not remembered", *error_types(error))
        return False

    async def _leave(self, key: str, token: str) -> None:
        """Let the next turn begin, also when who waits for it is cancelled."""

        async def leave() -> None:
            with suppress(Unavailable):
                await self._store.leave(key, token=token)

        leaving = asyncio.create_task(leave())
        self._behind.add(leaving)
        leaving.add_done_callback(self._behind.discard)
        await asyncio.shield(leaving)

    async def _renew(self, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 4)
            with suppress(Unavailable):
                await self._store.renew(key, token=token, lease_seconds=self._lease_seconds)

    def _decoded(self, body: bytes | None) -> tuple[Turn, ...]:
        try:
            return turns.decode(body) if body else ()
        except Unreadable:
            raise ServiceError(UNREADABLE) from None

    def _unavailable(self, error: Unavailable) -> ServiceError:
        _complain("the store of conversations cannot be used", str(error))
        return ServiceError(UNAVAILABLE)


def build_memory(config: RuntimeConfig, *, secrets: Secrets) -> Memory | None:
    """Return what the agent remembers with, None where it remembers nothing; nothing is connected yet. Raises ConfigurationRejected."""
    settings = config.conversations
    if settings is None:
        return None
    selector = settings.url.secret_key_ref

    def url() -> str | None:
        return secrets.read(selector)

    owner = "/".join((config.namespace, config.name, settings.uid))
    seconds = answer_seconds(ANSWER_VARIABLE, default=ANSWER_SECONDS)
    if settings.store is ConversationStore.REDIS:
        from agentservice_runtime.memory.redis_store import RedisStore

        return Memory(config, store=RedisStore(url, owner=owner, answer_seconds=seconds))
    # only who asks for it pays for its driver
    from agentservice_runtime.memory.postgres_store import PostgresStore

    return Memory(config, store=PostgresStore(url, owner=owner, answer_seconds=seconds))


def conversation_id(value: Any, *, path: str = "conversation_id") -> str:
    """Return the id of a conversation. Raises ServiceError (422)."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        told = "must be 1 to 128 letters, digits and . _ : @ -, the first a letter or digit"
        raise invalid((FieldError(path=path, message=told),))
    return value


def _complain(words: str, *kinds: str) -> None:
    logging.getLogger(f"{LOGGER}.conversations").warning(words, extra={FIELDS: {"error": [*kinds]}})
