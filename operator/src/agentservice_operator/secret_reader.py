"""Decides when a Secret is read again, and what is kept of it: fingerprints, never a value.

Only for agents with `rollout.restartOnSecretChange`, and only by `get`: to list or to watch is to read every Secret there is. So a Secret is
looked at once an interval, for all agents that refer to it together. A look asks for its metadata, out of the API server's own cache; the
values are read when the resourceVersion is another one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, cast

from agentservice_api import names
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import AlreadyExists, ApiError, Forbidden, NotFound, Unauthorized
from agentservice_operator.kube.resources import SECRETS
from agentservice_operator.manifest import Manifest
from agentservice_operator.secret_keys import Fingerprints, fingerprint

ABSENT_SECONDS: Final = 10.0
"""A Secret that does not exist is looked for after so long, if that is sooner: an agent is often applied just before its Secret."""
JITTER: Final = 0.1
"""By so much of the interval, up or down, a look is moved by chance."""
_KEY: Final = "key"
_KEY_BYTES: Final = 32
_KEPT_INTERVALS: Final = 10
"""For so long nobody has to ask for a Secret until what is known of it is forgotten."""


class UnreadableError(Exception):
    """A Secret cannot be read. The text says why; ``again_in``: seconds until it is tried again."""

    def __init__(self, where: str, *, why: str, forbidden: bool, again_in: float) -> None:
        self.where = where
        self.forbidden = forbidden
        self.again_in = again_in
        super().__init__(why)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of some Secrets."""

    found: Mapping[str, Fingerprints | None]
    """By name; None where there is no such Secret."""
    key: bytes
    """With which the fingerprints were made."""
    again_in: float
    """Seconds until the first of them is looked at again."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    due: float
    """When it is looked at again."""
    version: tuple[str, str] | None = None
    """UID and resourceVersion; None: there is no such Secret, or it cannot be read."""
    fingerprints: Fingerprints | None = None
    refusal: str = ""
    """Why it cannot be read."""
    is_forbidden: bool = False


@dataclass(kw_only=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    known: _Known | None = None


class SecretReader:
    """Reads referenced Secrets.

    ``interval`` is in seconds, ``clock`` is monotonic seconds, ``random`` gives [0, 1), ``new_key`` a secret of so many random bytes. The key of
    the fingerprints stands in the Secret ``key_name`` of the operator's ``namespace``: made once, so that every process of the installation
    and every restart of it has the same.
    """

    def __init__(
        self,
        *,
        client: Client,
        namespace: str,
        key_name: str,
        interval: int,
        clock: Callable[[], float],
        random: Callable[[], float],
        new_key: Callable[[int], bytes],
    ) -> None:
        self.interval = interval
        self._client = client
        self._namespace = namespace
        self._key_name = key_name
        self._clock = clock
        self._random = random
        self._new_key = new_key
        self._key = b""
        self._key_entry = _Entry()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._sweep_at = 0.0

    async def look(self, namespace: str, secrets: Iterable[str]) -> Look:
        """Return what is known of these Secrets, which is no older than the interval.

        Raises UnreadableError, and the client's TransportError and Unauthorized.
        """
        if not self._key:
            await self._fresh(self._key_entry, self._namespace, self._key_name, self._read_key)
        known = {
            name: await self._fresh(self._entry(namespace, name), namespace, name, self._read)
            for name in sorted(set(secrets))
        }
        due = min((one.due for one in known.values()), default=self._clock() + self.interval)
        return Look(
            found={name: one.fingerprints for name, one in known.items()},
            key=self._key,
            again_in=max(0.0, due - self._clock()),
        )

    async def _fresh(
        self, entry: _Entry, namespace: str, name: str, read: Callable[[str, str, _Known | None], Awaitable[_Known]]
    ) -> _Known:
        """Return what is known of a Secret, after a look at it if that is due. Who asks meanwhile waits for the same look."""
        async with entry.lock:
            known = entry.known
            if known is None or self._clock() >= known.due:
                try:
                    known = await read(namespace, name, known)
                except Unauthorized:
                    raise
                except ApiError as error:
                    known = self._refused(error.message, forbidden=isinstance(error, Forbidden))
                entry.known = known
        if known.refusal:
            raise UnreadableError(
                f"{namespace}/{name}",
                why=known.refusal,
                forbidden=known.is_forbidden,
                again_in=max(0.0, known.due - self._clock()),
            )
        return known

    async def _read(self, namespace: str, name: str, known: _Known | None) -> _Known:
        # The server's cache may lag, so only that it has what we know counts; whatever else it says is asked of the store.
        if known is not None and known.version is not None and await self._cached(namespace, name) == known.version:
            return replace(known, due=self._due(self.interval))
        try:
            live = await self._client.get(SECRETS, namespace, name)
        except NotFound:
            return _Known(due=self._due(min(self.interval, ABSENT_SECONDS)))
        data = cast("dict[str, str]", live.get("data") or {})
        return _Known(
            due=self._due(self.interval),
            version=_version(live),
            fingerprints={key: fingerprint(value, key=self._key) for key, value in data.items()},
        )

    async def _cached(self, namespace: str, name: str) -> tuple[str, str] | None:
        try:
            return _version(await self._client.get_metadata(SECRETS, namespace, name))
        except NotFound:
            return None

    async def _read_key(self, namespace: str, name: str, _: _Known | None) -> _Known:
        try:
            live = await self._client.get(SECRETS, namespace, name)
        except NotFound:
            live = await self._make_key(namespace, name)
        key = _key_of(live)
        if key is None:
            return self._refused("it holds no key of ours: delete it, and it is made anew", forbidden=False)
        self._key = key
        return _Known(due=math.inf)

    async def _make_key(self, namespace: str, name: str) -> Manifest:
        manifest: Manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, "app.kubernetes.io/part-of": "agentservice"},
            },
            "type": "Opaque",
            "immutable": True,
            "data": {_KEY: base64.b64encode(self._new_key(_KEY_BYTES)).decode()},
        }
        try:
            return await self._client.create(SECRETS, manifest, field_manager=names.FIELD_MANAGER)
        except AlreadyExists:  # another process of ours was faster, or the answer to our own try was lost
            return await self._client.get(SECRETS, namespace, name)

    def _entry(self, namespace: str, name: str) -> _Entry:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + self.interval
            old = now - _KEPT_INTERVALS * self.interval
            self._entries = {
                where: entry for where, entry in self._entries.items() if entry.known is None or entry.known.due > old
            }
        return self._entries.setdefault((namespace, name), _Entry())

    def _refused(self, why: str, *, forbidden: bool) -> _Known:
        return _Known(due=self._due(self.interval), refusal=why, is_forbidden=forbidden)

    def _due(self, seconds: float) -> float:
        return self._clock() + seconds * (1 + JITTER * (2 * self._random() - 1))


def _version(live: Manifest) -> tuple[str, str]:
    return live["metadata"]["uid"], live["metadata"]["resourceVersion"]


def _key_of(live: Manifest) -> bytes | None:
    data = cast("dict[str, str]", live.get("data") or {})
    try:
        key = base64.b64decode(data.get(_KEY, ""), validate=True)
    except binascii.Error:
        return None
    return key if len(key) >= _KEY_BYTES else None
