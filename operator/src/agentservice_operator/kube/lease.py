"""Decides who leads: one Lease (coordination.k8s.io/v1), changed by compare-and-swap on its resourceVersion only.

The semantics are client-go's leader election (15/10/2 s), with its two rules that make it safe: the holder's own clock
is never read, only how long *we* have seen the record unchanged; and a leader that could not renew within its
deadline stops being one before anybody else may begin, because the deadline is shorter than the lease.
`decide` is pure; `Elector` does the I/O around it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import AlreadyExists, Conflict, Forbidden, KubeError, NotFound
from agentservice_operator.kube.resources import LEASES
from agentservice_operator.manifest import Manifest

FIELD_MANAGER = "agentservice-operator-election"

logger = logging.getLogger(__name__)


class LeadershipLost(Exception):  # noqa: N818 - what happened, not a fault
    """We lead no longer, or cannot know. Whoever holds this must stop writing at once: exit."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds. `renew_deadline` < `duration`, and `retry` < `renew_deadline`: checked."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew_deadline < self.duration:
            raise ValueError("a lease needs 0 < retry < renew_deadline < duration")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A Lease as last read, and since when (our monotonic seconds) it has looked like that. None: there is no Lease."""

    lease: Manifest | None
    since: float

    @property
    def holder(self) -> str:
        return str((self._spec).get("holderIdentity") or "")

    @property
    def duration(self) -> float:
        """What its holder promised. 0 when the record says nothing: nobody promised anything."""
        return float(self._spec.get("leaseDurationSeconds") or 0)

    @property
    def expires(self) -> float:
        """When it may be taken, in our monotonic seconds, if it stays as it is."""
        return self.since + self.duration

    @property
    def _spec(self) -> dict[str, Any]:
        return (self.lease or {}).get("spec") or {}


class Decision(Enum):
    """What to do about a Lease."""

    CREATE = "create"
    """There is none: POST it; 409 means that somebody was faster."""
    TAKE = "take"
    """Released, or unchanged for longer than its duration: swap the holder."""
    RENEW = "renew"
    """It is ours."""
    WAIT = "wait"
    """Somebody else holds it."""


def decide(observed: Observation, *, me: str, now: float) -> Decision:
    """What `me` may do at `now`, given what it saw."""
    if observed.lease is None:
        return Decision.CREATE
    if observed.holder == me:
        return Decision.RENEW
    if not observed.holder or now >= observed.expires:
        return Decision.TAKE
    return Decision.WAIT


def observe(previous: Observation | None, lease: Manifest | None, *, now: float) -> Observation:
    """The new observation: the time of the old one stands as long as the record has not changed."""
    if previous is not None and _version(previous.lease) == _version(lease):
        return Observation(lease=lease, since=previous.since)
    return Observation(lease=lease, since=now)


def held_by(observed: Observation, *, me: str, namespace: str, name: str, timing: Timing, wall: datetime) -> Manifest:
    """The record by which `me` holds the lease: to be created, or to be put with the observed resourceVersion.

    `wall` is only for people who read the record.
    """
    stamp = wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec: dict[str, Any] = dict((observed.lease or {}).get("spec") or {})
    if observed.holder != me:
        spec["acquireTime"] = stamp
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if observed.lease else 0)
    spec |= {"holderIdentity": me, "leaseDurationSeconds": round(timing.duration), "renewTime": stamp}
    return _record(observed, namespace=namespace, name=name, spec=spec)


def released(observed: Observation, *, namespace: str, name: str, wall: datetime) -> Manifest:
    """The record that lets the next one begin at once."""
    spec: dict[str, Any] = dict((observed.lease or {}).get("spec") or {})
    spec |= {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "renewTime": wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    return _record(observed, namespace=namespace, name=name, spec=spec)


def _record(observed: Observation, *, namespace: str, name: str, spec: dict[str, Any]) -> Manifest:
    metadata: dict[str, Any] = {"namespace": namespace, "name": name}
    if observed.lease is not None:
        old: dict[str, Any] = observed.lease["metadata"]
        metadata |= {key: old[key] for key in ("uid", "resourceVersion", "labels", "annotations") if key in old}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}


def _version(lease: Manifest | None) -> str:
    return "" if lease is None else f"{lease['metadata'].get('uid')}/{lease['metadata'].get('resourceVersion')}"


class Elector:
    """One candidate. `acquire`, then `hold` for as long as one leads, then `release`.

    `identity` must be unique per process (pod name and a random word), so that a restarted container does not think it
    leads. `clock` is monotonic seconds, `wall` the UTC time for readers of the record, `random` [0, 1).
    The client must have no guard of its own: `guard` here is the fence for everybody else's writes.
    """

    def __init__(
        self,
        *,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        timing: Timing | None = None,
    ) -> None:
        self.identity = identity
        self._client = client
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._wall = wall
        self._random = random
        self._sleep = sleep
        self._timing = timing or Timing()
        self._observed: Observation | None = None
        self._renewed_at: float | None = None
        self._complaint = ""

    @property
    def leading(self) -> bool:
        """True as long as nobody else can have begun to lead: within the renew deadline of the last success."""
        return self._renewed_at is not None and self._clock() < self._renewed_at + self._timing.renew_deadline

    def guard(self) -> None:
        """The fence: call it before a write.

        Raises:
            LeadershipLost: the lease is not, or no longer safely, ours. A process that was frozen notices here first.
        """
        if not self.leading:
            raise LeadershipLost(f"{self.identity} does not hold the lease {self._namespace}/{self._name}")

    async def acquire(self) -> None:
        """Return when we lead. Errors of the API server are waited out, and said once each."""
        while True:
            try:
                if await self._try(timeout=self._timing.renew_deadline):
                    self._complaint = ""
                    return
            except (KubeError, TimeoutError) as error:
                self._complain(error)
            await self._sleep(self._until_next_look())

    async def hold(self) -> None:
        """Renew for ever.

        Raises:
            LeadershipLost: somebody else holds the lease, or no renewal succeeded within the deadline.
        """
        while True:
            await self._sleep(self._timing.retry)
            renewed_at = self._renewed_at
            if renewed_at is None:
                raise LeadershipLost("hold() needs an acquired lease")
            left = renewed_at + self._timing.renew_deadline - self._clock()
            if left <= 0:
                self._renewed_at = None
                raise LeadershipLost(f"could not renew the lease within {self._timing.renew_deadline:g} s")
            try:
                if await self._try(timeout=left):
                    self._complaint = ""
                    continue
            except (KubeError, TimeoutError) as error:
                self._complain(error)
                continue
            self._renewed_at = None
            holder = self._observed.holder if self._observed is not None else ""
            raise LeadershipLost(f"the lease is held by {holder or 'nobody'}")

    async def release(self, *, timeout: float = 3.0) -> None:  # noqa: ASYNC109 - a bound on the whole, callers have no scope
        """Give the lease up if it is ours, so that the next one begins at once. Never raises; at most `timeout` s."""
        observed, self._renewed_at = self._observed, None
        if observed is None or observed.holder != self.identity:
            return
        record = released(observed, namespace=self._namespace, name=self._name, wall=self._wall())
        try:
            async with asyncio.timeout(timeout):
                await self._client.replace(LEASES, record, field_manager=FIELD_MANAGER)
        except (KubeError, TimeoutError) as error:
            logger.warning("could not release the lease, it expires by itself: %s", error)

    def _until_next_look(self) -> float:
        """Seconds: a retry with jitter, or sooner when somebody else's lease expires before that."""
        retry = self._timing.retry * (1 + self._random() * 0.2)
        left = self._observed.expires - self._clock() if self._observed is not None else 0.0
        return min(retry, left) if left > 0 else retry

    async def _try(self, *, timeout: float) -> bool:  # noqa: ASYNC109 - passed on to asyncio.timeout
        """One attempt to hold the lease. False: it is somebody else's."""
        async with asyncio.timeout(timeout):
            if self._observed is None or self._observed.holder != self.identity:
                await self._read()
            # What we were the last to write need not be read: the compare-and-swap tells if it has changed.
            for _ in range(2):
                began = self._clock()
                observed = self._observed
                if observed is None:
                    raise RuntimeError("unreachable: the lease was read above")
                decision = decide(observed, me=self.identity, now=began)
                if decision is Decision.WAIT:
                    return False
                record = held_by(
                    observed,
                    me=self.identity,
                    namespace=self._namespace,
                    name=self._name,
                    timing=self._timing,
                    wall=self._wall(),
                )
                try:
                    if decision is Decision.CREATE:
                        written = await self._client.create(LEASES, record, field_manager=FIELD_MANAGER)
                    else:
                        written = await self._client.replace(LEASES, record, field_manager=FIELD_MANAGER)
                except (AlreadyExists, Conflict, NotFound):
                    # Somebody was faster, or it was our own write whose answer was lost: look again.
                    await self._read()
                    continue
                self._observed = Observation(lease=written, since=began)
                self._renewed_at = (
                    began  # counted from before it was sent: the server may have seen it as early as that
                )
                return True
            return False

    async def _read(self) -> None:
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
        except NotFound:
            lease = None
        self._observed = observe(self._observed, lease, now=self._clock())

    def _complain(self, error: Exception) -> None:
        text = (
            f'grant the verbs "get", "create" and "update" on leases.coordination.k8s.io in namespace {self._namespace}'
            if isinstance(error, Forbidden)
            else str(error) or type(error).__name__
        )
        if text != self._complaint:
            self._complaint = text
            logger.warning("lease %s/%s: %s; retrying", self._namespace, self._name, text)
