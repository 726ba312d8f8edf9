"""What tests of the cache have in common: agents that share a Redis, and those who ask them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx2
import pytest
from tests.runtime.callers import BATCH, WEB
from tests.services.redis_server import RedisServer

from agentservice_runtime import service

PATIENT = {"AGENTSERVICE_CACHE_ANSWER_SECONDS": "60"}
"""A machine that stands still makes Redis look lost, which is what other tests are about."""
EVER = 150
"""Seconds that a condition may take on a slow machine; nothing is asserted of how long anything takes."""
_NUMBERS = count()


def message() -> str:
    """A message that no other test sends."""
    return f"question {next(_NUMBERS)}"


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no agent of this process give up because the machine is slow."""
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(service, "_HEAD_SECONDS", EVER)


def cached(configuration: Callable[..., dict[str, Any]], **parts: Any) -> dict[str, Any]:
    cache = {"redisUrl": {"secretKeyRef": {"name": "redis", "key": "url"}}, "scope": "Shared", **parts.pop("cache", {})}
    serving = {"concurrencyPerPod": 64, "drainTimeoutSeconds": 10}
    return configuration(cache=cache, serving=serving, **parts)


def secrets(redis: RedisServer) -> dict[str, str]:
    return {"redis/url": redis.url, "web/token": WEB, "batch/token": BATCH}


def ask(agent: Any, value: str, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{agent.url}/v1/run", json={"input": value}, headers=headers, timeout=120)


class Asking:
    """Requests under way, each on a thread of its own."""

    def __init__(self) -> None:
        self.answers: list[httpx2.Response] = []
        self._threads: list[threading.Thread] = []

    def start(self, agent: Any, said: str, *, path: str = "/v1/run", **headers: str) -> None:
        def asking() -> None:
            answer = httpx2.post(f"{agent.url}{path}", json={"input": said}, headers=headers, timeout=EVER)
            self.answers.append(answer)

        thread = threading.Thread(target=asking)
        thread.start()
        self._threads.append(thread)

    def finish(self) -> list[httpx2.Response]:
        for thread in self._threads:
            thread.join(EVER)
        assert len(self.answers) == len(self._threads)
        return self.answers
