"""Decides how the writes of a program are counted and timed: from the API server's audit log, the same for every program."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True)
class Write:
    """One request that wrote. Times are seconds of the API server's clock."""

    agent: str
    verb: str
    resource: str
    """`services`, `agentservices/status`."""
    namespace: str
    name: str
    code: int
    began: float
    ended: float

    @property
    def succeeded(self) -> bool:
        return self.code < 300


@dataclass
class Timeline:
    """The writes since it was made or `forget` was called, as far as `poll` has read."""

    path: Path
    writes: list[Write] = field(default_factory=list[Write])
    _offset: int = 0

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.writes = []
        self._offset = self.path.stat().st_size

    def poll(self) -> int:
        """Read on; return how many writes are known now."""
        with self.path.open("rb") as log:
            log.seek(self._offset)
            text = log.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        self.writes += map(_write, complete.splitlines())
        return len(self.writes)

    def of(self, agent: str) -> list[Write]:
        """The writes of one program without Events and Leases."""
        return [w for w in self.writes if w.agent.startswith(agent) and w.resource not in ("events", "leases")]

    def until(self, goal: Callable[[], bool], *, seconds: float, quiet: float, every: float = 0.25) -> bool:
        """Poll until `goal`. False after `seconds`, or when nothing at all was written for `quiet` seconds."""
        deadline = time.monotonic() + seconds
        known, since = self.poll(), time.monotonic()
        while not goal():
            now = time.monotonic()
            if now > deadline or now - since > quiet:
                return False
            time.sleep(every)
            count = self.poll()
            if count != known:
                known, since = count, time.monotonic()
        return True

    def rest(self, *, seconds: float, limit: float = 600, but: Collection[str] = ("events", "leases")) -> None:
        """Wait until nothing was written for so long, ``but`` these."""
        deadline = time.monotonic() + limit
        known, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            if time.monotonic() > deadline:
                raise TimeoutError(f"something is still written after {limit:g} s: {self.writes[-3:]}")
            time.sleep(0.25)
            self.poll()
            count = sum(w.resource not in but for w in self.writes)
            if count != known:
                known, since = count, time.monotonic()


def by_kind(writes: Iterable[Write]) -> Counter[str]:
    """How many of each, as `create services`; refused ones are named with their code."""
    return Counter(f"{w.verb} {w.resource}{'' if w.succeeded else f' ({w.code})'}" for w in writes)


def _write(line: bytes) -> Write:
    entry = orjson.loads(line)
    reference = entry.get("objectRef") or {}
    resource, subresource = reference.get("resource", ""), reference.get("subresource", "")
    return Write(
        agent=entry.get("userAgent", ""),
        verb=entry["verb"],
        resource=f"{resource}/{subresource}" if subresource else resource,
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=(entry.get("responseStatus") or {}).get("code", 0),
        began=_seconds(entry["requestReceivedTimestamp"]),
        ended=_seconds(entry["stageTimestamp"]),
    )


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
