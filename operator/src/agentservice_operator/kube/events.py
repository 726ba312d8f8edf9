"""Decides which transitions become Kubernetes Events (events.k8s.io/v1), and posts them apart from the reconcile.

The same (object, reason, note) is said once within `REPEAT_SECONDS`, an object gets `BURST` events and then one per
`REFILL_SECONDS` (client-go's spam filter), and a full queue drops the newest. Losing an Event loses nothing:
conditions carry the state. Nothing here raises into the caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import AlreadyExists, Forbidden, KubeError, NotFound
from agentservice_operator.kube.resources import EVENTS
from agentservice_operator.manifest import Manifest

CONTROLLER = "agentservice.dev/operator"
FIELD_MANAGER = "agentservice-operator-events"
NOTE_LIMIT = 1024
"""Bytes: the API's own limit for `note`."""
REPEAT_SECONDS = 600.0
BURST = 25
REFILL_SECONDS = 300.0
BUSY_SECONDS = 1.0
"""How long each Event waits while there is work: when a thousand agents are made, they come first, and what is told of them later."""
_REMEMBERED = 4096
_WAITING = 1000

logger = logging.getLogger(__name__)


class EventType(Enum):
    """The two types that the API knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class Filter:
    """Which events pass. Without I/O; times are monotonic seconds. Remembers a bounded number of objects and notes."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def passes(self, *, uid: str, reason: str, note: str, now: float) -> bool:
        """True when the event is to be posted, which is then remembered."""
        key = (uid, reason, note)
        said_at = self._said.get(key)
        if said_at is not None and now - said_at < REPEAT_SECONDS:
            return False
        bucket = self._buckets.setdefault(uid, _Bucket(tokens=float(BURST), filled_at=now))
        bucket.tokens = min(float(BURST), bucket.tokens + (now - bucket.filled_at) / REFILL_SECONDS)
        bucket.filled_at = now
        self._buckets.move_to_end(uid)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        self._said[key] = now
        self._said.move_to_end(key)
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return True


def event_manifest(
    *,
    regarding: Mapping[str, Any],
    event_type: EventType,
    reason: str,
    action: str,
    note: str,
    instance: str,
    wall: datetime,
    word: str,
) -> Manifest:
    """The Event about `regarding` (a whole object or apiVersion, kind and metadata). `word` makes its name unique."""
    metadata = regarding["metadata"]
    reference = {
        "apiVersion": regarding["apiVersion"],
        "kind": regarding["kind"],
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "uid": metadata["uid"],
    }
    if "resourceVersion" in metadata:
        reference["resourceVersion"] = metadata["resourceVersion"]
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {
            "name": f"{metadata['name'][:200]}.{word}",
            "namespace": metadata.get("namespace") or "default",
        },
        "eventTime": wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": event_type.value,
        "reason": reason,
        "action": action,
        "note": note.encode()[:NOTE_LIMIT].decode(errors="ignore"),
        "regarding": reference,
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    }


class Recorder:
    """Takes events from reconciles and posts them in the background.

    `instance` is the pod's name; `clock` monotonic seconds, `wall` UTC, `word` a random hexadecimal word per call. `busy`
    tells whether there is work that is more urgent than telling.
    """

    def __init__(
        self,
        *,
        client: Client,
        instance: str,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
        word: Callable[[], str],
        busy: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._busy = busy
        self._sleep = sleep
        self._client = client
        self._instance = instance
        self._clock = clock
        self._wall = wall
        self._word = word
        self._filter = Filter()
        self._waiting: asyncio.Queue[Manifest] = asyncio.Queue(maxsize=_WAITING)

    def record(
        self,
        regarding: Mapping[str, Any],
        *,
        event_type: EventType,
        reason: str,
        action: str,
        note: str,
    ) -> None:
        """Say that something has happened to `regarding`. Returns at once and never raises.

        `reason` and `action` are CamelCase words, `note` a sentence for people, without secrets.
        """
        try:
            uid = regarding["metadata"]["uid"]
            if not self._filter.passes(uid=uid, reason=reason, note=note, now=self._clock()):
                return
            self._waiting.put_nowait(
                event_manifest(
                    regarding=regarding,
                    event_type=event_type,
                    reason=reason,
                    action=action,
                    note=note,
                    instance=self._instance,
                    wall=self._wall(),
                    word=self._word(),
                )
            )
        except (KeyError, asyncio.QueueFull) as error:
            logger.debug("event %s dropped: %s", reason, type(error).__name__)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            manifest = await self._waiting.get()
            if self._busy():
                await self._sleep(BUSY_SECONDS)
            await self._post(manifest)

    async def flush(self) -> None:
        """Post what waits. For the end of the process: bound it with a timeout."""
        while not self._waiting.empty():
            await self._post(self._waiting.get_nowait())

    async def _post(self, manifest: Manifest) -> None:
        try:
            await self._client.create(EVENTS, manifest, field_manager=FIELD_MANAGER)
        except (AlreadyExists, Forbidden, NotFound) as error:
            # It was posted, and the answer was lost. Or a namespace that is being deleted takes none: not worth a warning.
            logger.debug("event %s not posted: %s", manifest["reason"], error)
        except KubeError as error:
            logger.warning("event %s not posted: %s", manifest["reason"], error)
