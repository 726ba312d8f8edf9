"""The table of docs/fault-table.md is what happens: each fault is driven, and each cell compared."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.services.redis_server import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "fault-table.md"
KEY = "sk-canary-key-0123456789"
PROMPT = "the canary prompt"
MODEL_REQUESTS = "agentservice_model_requests_total"
RUNS = "pydantic_ai_requests_total"


@dataclass(frozen=True)
class Row:
    """One line of the table, its cells as they are written."""

    fault: str
    status: str
    category: str
    retry: str
    requests: str
    counted: str
    detail: str


def documented() -> dict[str, Row]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [Row(*(cell.strip().replace("`", "") for cell in line.strip("|").split(" | "))) for line in lines[1:]]
    return {row.fault: row for row in rows}


class Driven:
    """An agent whose model is the command that the prompt begins with, and what its metrics said before."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.before = self._counts()

    def _counts(self) -> dict[tuple[str, str], float]:
        text = self.agent.client.get("/metrics").text
        return {
            (sample.name, sample.labels["status"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in (RUNS, MODEL_REQUESTS)
        }

    def forget(self) -> None:
        """Count from now on."""
        self.before = self._counts()

    def row(self, fault: str, answer: tuple[int, dict[str, Any], Any]) -> Row:
        """Return what the fault has led to, as the table has it."""
        status, body, headers = answer
        now = self._counts()
        risen = {key: value - self.before.get(key, 0) for key, value in now.items() if value != self.before.get(key, 0)}
        self.before = now
        sent = {told: count for (name, told), count in risen.items() if name == MODEL_REQUESTS}
        ended = [told for (name, told) in risen if name == RUNS]
        again = "no"
        if body.get("retryable"):
            again = f"after {headers.get('retry-after')} s" if headers.get("retry-after") else "yes"
        return Row(
            fault=fault,
            status=str(status),
            category=body.get("category") or "",
            retry=again,
            requests=", ".join(f"{count:.0f} {told}" for told, count in sorted(sent.items())) or "none",
            counted=", ".join(sorted(ended)),
            detail=body.get("detail") or "the answer",
        )


def asked(command: str) -> Callable[[Any], tuple[int, dict[str, Any], Any]]:
    def ask(agent: Any) -> tuple[int, dict[str, Any], Any]:
        answer = agent.run(f"{command} {PROMPT}")
        return answer.status_code, answer.json(), answer.headers

    return ask


def streamed(command: str) -> Callable[[Any], tuple[int, dict[str, Any], Any]]:
    def ask(agent: Any) -> tuple[int, dict[str, Any], Any]:
        answer = agent.client.post("/v1/stream", json={"input": f"{command} {PROMPT}"})
        name, data = agent.events(answer.text)[-1]
        return answer.status_code, data if name == "error" else {}, {"retry-after": data.get("retry_after")}

    return ask


def large(agent: Any) -> tuple[int, dict[str, Any], Any]:
    answer = agent.run("x" * 5_000_000)
    return answer.status_code, answer.json(), answer.headers


def trickled(agent: Any) -> tuple[int, dict[str, Any], Any]:
    """Send a head and the beginning of a body, and read what is said to that."""
    with socket.create_connection(("127.0.0.1", agent.port)) as line:
        line.settimeout(120)
        line.sendall(
            b"POST /v1/run HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"
        )
        told = line.makefile("rb")
        status = int(told.readline().split()[1])
        headers = dict(item.decode().strip().lower().split(": ", 1) for item in iter(told.readline, b"\r\n"))
        return status, httpx2.Response(200, content=told.read(int(headers["content-length"]))).json(), headers


FAULTS: dict[str, Callable[[Any], tuple[int, dict[str, Any], Any]]] = {
    "429, Retry-After of 1 s": asked("429-soon"),
    "429, Retry-After beyond maxBackoffSeconds": asked("429"),
    "429, the quota is used up": asked("quota"),
    "500": asked("500"),
    "503": asked("503"),
    "401": asked("401"),
    "404": asked("404"),
    "400": asked("400"),
    "400, the context is too long": asked("context"),
    "hangs": asked("hang"),
    "answers garbage": asked("malformed"),
    "hangs up in its answer": asked("drop"),
    "tells no usage": asked("silent"),
    "is slow to begin a stream": streamed("slow-500"),
    "tells an error in its stream": streamed("break"),
    "cuts its stream": streamed("drop"),
    "(a caller) sends 5 MB": large,
}
SLOW = "(a caller) sends its body too slowly"
FROZEN = "(Redis) is frozen, of a cached agent"


@pytest.fixture(scope="module")
def driven(embed_shared: Any, configuration: Any) -> Iterator[Driven]:
    config = configuration(
        agent={"instructions": "x", "limits": {"runTimeoutSeconds": 15}},
        model={"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
        | {"retry": {"maxAttempts": 2, "backoffSeconds": 1, "maxBackoffSeconds": 5}},
    )
    yield Driven(embed_shared(config, model="as-asked", secrets={"openai/api-key": KEY}))


def test_every_fault_of_the_table_is_driven() -> None:
    assert documented().keys() == {*FAULTS, SLOW, FROZEN}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leads_to_what_the_table_says(driven: Driven, events: Any, fault: str) -> None:
    driven.agent.events = events
    found = driven.row(fault, FAULTS[fault](driven.agent))
    assert found == documented()[fault]
    assert KEY not in driven.agent.stdout()
    assert KEY not in found.detail
    assert PROMPT not in found.detail


def test_a_caller_that_is_too_slow_is_told_so_and_holds_up_nobody(driven: Driven) -> None:
    answers: list[tuple[int, dict[str, Any], Any]] = []
    slow = threading.Thread(target=lambda: answers.append(trickled(driven.agent)))
    slow.start()
    assert driven.agent.run(f"recovered {PROMPT}").status_code == 200
    driven.forget()
    slow.join()
    assert driven.row(SLOW, answers[0]) == documented()[SLOW]


def test_a_frozen_redis_fails_no_run(installed: None, embed_shared: Any, configuration: Any) -> None:
    kept = {"ttlSeconds": 60, "scope": "Shared", "uid": "frozen"}
    cache = {"redisUrl": {"secretKeyRef": {"name": "redis", "key": "url"}}, **kept}
    with RedisServer() as redis:
        agent = embed_shared(configuration(cache=cache), model="as-asked", secrets={"redis/url": redis.url})
        driven = Driven(agent)
        os.kill(redis.pid, signal.SIGSTOP)
        answer = agent.run(f"recovered {PROMPT}")
        assert driven.row(FROZEN, (answer.status_code, answer.json(), answer.headers)) == documented()[FROZEN]
        assert answer.headers["x-cache"] == "MISS"
