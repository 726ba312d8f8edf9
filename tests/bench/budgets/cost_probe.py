"""One process with the same agent several times, without a budget and with one: what the meter adds to the processor time of a run.

The runs take turns in small batches: each round goes through the agents and back again (A B C C B A), so whatever else the
machine does, and whatever one leaves behind in its caches, meets all of them alike. What the process needs to exist is kept out of the garbage
collector's way, so that a full collection does not fall on one of them by chance; what the runs themselves make is collected as
ever. `/v1/run` is called without a network between, so nothing of a client's work is counted. Started as
`python -m tests.bench.budgets.cost_probe` it reads one line of JSON, tells its progress as lines, and ends with the processor seconds of each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import disable_created_metrics
from pydantic import BaseModel
from tests.bench.budgets import load
from tests.bench.budgets.agent import configuration
from tests.bench.budgets.ledgers import LedgerChoice, make

from agentservice_api import RuntimeConfig
from agentservice_runtime.app import create_app
from agentservice_runtime.secrets import SecretFiles

BATCH: Final = 4
AT_ONCE: Final = 4
WARM_UP: Final = 20
"""Rounds that are not counted."""
BODY: Final = json.dumps({"input": load.TEXT}).encode()


class Subject(BaseModel):
    """One agent."""

    name: str
    choice: LedgerChoice | None
    pod_uid: str = ""


class Probe(BaseModel):
    """What is to be measured."""

    server: str
    subjects: list[Subject]
    rounds: int


async def call(app: FastAPI) -> None:
    """Have the application answer one POST /v1/run. Raises AssertionError when it does not serve it."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/run",
        "raw_path": b"/v1/run",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "http.request", "body": BODY, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent


async def batch(app: FastAPI) -> float:
    """Return the processor seconds, user and system, of this process for one batch of runs."""
    left = BATCH

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call(app)

    began = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(client())
    return time.process_time() - began


async def measure(probe: Probe) -> Mapping[str, list[float]]:
    seconds: dict[str, list[float]] = {subject.name: [] for subject in probe.subjects}
    async with contextlib.AsyncExitStack() as running:
        secrets = Path(running.enter_context(tempfile.TemporaryDirectory()))
        apps: dict[str, FastAPI] = {}
        for subject in probe.subjects:
            config, files = configuration(account=f"cost-{subject.name}", server=probe.server, choice=subject.choice)
            for place, value in files.items():
                path = secrets / subject.name / place
                path.parent.mkdir(parents=True)
                path.write_text(value)
            ledger = make(subject.choice, pod_uid=subject.pod_uid) if subject.choice is not None else None
            app = create_app(
                RuntimeConfig.model_validate(config), secrets=SecretFiles(secrets / subject.name), ledger=ledger
            )
            await running.enter_async_context(app.router.lifespan_context(app))
            apps[subject.name] = app
        names = list(apps)
        for number in range(-WARM_UP, probe.rounds):
            if number == 0:
                gc.collect()
                gc.freeze()
            took = dict.fromkeys(names, 0.0)
            for name in [*names, *reversed(names)]:
                took[name] += await batch(apps[name])
            if number >= 0:
                for name, spent in took.items():
                    seconds[name].append(spent)
            names = [*names[1:], names[0]]
            sys.stdout.write(json.dumps({"round": number}) + "\n")
            sys.stdout.flush()
    return seconds


def main() -> None:
    disable_created_metrics()
    probe = Probe.model_validate_json(sys.stdin.readline())
    seconds = asyncio.run(measure(probe))
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
