"""Starts the processes of a row and talks to them: the model server, and the workers that call it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.budgets.model_server import Bill
from tests.bench.budgets.worker import Order

from agentservice_api.budget import Amount
from devcluster.standalone import free_ports

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, kw_only=True)
class Billed:
    """What the model server has billed to one account."""

    bills: tuple[Bill, ...]

    @property
    def amount(self) -> Amount:
        return Amount(sum(bill.tokens for bill in self.bills), sum(bill.nano_usd for bill in self.bills))


class ModelServerProcess:
    """The model server, in a process of its own. A context manager."""

    def __init__(self, *, seed: int = 1) -> None:
        (self.port,) = free_ports(1)
        self._seed = seed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ModelServerProcess:
        program = Path(__file__).with_name("model_server.py")
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, str(program), str(self.port), str(self._seed)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.billed("nobody")
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def billed(self, account: str) -> Billed:
        return Billed(bills=tuple(Bill(*bill) for bill in self._get(account)["bills"]))

    def in_flight(self, account: str) -> Counter[int]:
        """How many requests wait for their answer, by the process that sent them."""
        return Counter({int(process): number for process, number in self._get(account)["in_flight"].items()})

    def hold(self, account: str) -> None:
        """Bill, but do not answer, until `release`."""
        self._post(account, "hold")

    def release(self, account: str) -> None:
        self._post(account, "release")

    def _get(self, account: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/accounts/{account}", timeout=20) as answer:
            return json.loads(answer.read())

    def _post(self, account: str, what: str) -> None:
        request = urllib.request.Request(f"{self.url}/accounts/{account}/{what}", method="POST")
        with urllib.request.urlopen(request, timeout=20):
            pass


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a worker's clients met."""

    outcomes: Mapping[str, int]
    waited: float
    """The longest wait while BUSY, in seconds."""
    view: Mapping[str, Amount]
    """By window: spent and reserved, as its ledger last saw it."""
    reserved: Mapping[str, Amount]
    """Of that, what was reserved."""
    seconds: float
    cpu: float
    memory: int
    """Resident, in kilobytes."""


class WorkerProcess:
    """One worker; the kernel kills it with the thread that started it."""

    def __init__(self, *, pod_uid: str = "", wrapper: Sequence[str] = ()) -> None:
        """`pod_uid` says in which pod it stands; an order may name another. `wrapper` is a program that starts it."""
        self.pod_uid = pod_uid
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *wrapper, sys.executable, "-m", "tests.bench.budgets.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def take(self, order: Order) -> WorkerProcess:
        """Give it an order; `wait_ready` waits until it has opened its ledger."""
        self._write(order.model_dump_json())
        return self

    def wait_ready(self, *, seconds: float = 60) -> WorkerProcess:
        self._hear("ready", seconds=seconds)
        return self

    def go(self) -> None:
        self._write()

    def wait_done(self, *, seconds: float = 300) -> Done:
        said = self._hear("done", seconds=seconds)
        view = {name: Amount(t + rt, n + rn) for name, t, n, rt, rn in said["view"]}
        reserved = {name: Amount(rt, rn) for name, _, _, rt, rn in said["view"]}
        same = {name: said[name] for name in ("outcomes", "waited", "seconds", "cpu", "memory")}
        return Done(view=view, reserved=reserved, **same)

    def close(self) -> WorkerProcess:
        """Have it close its ledger; `wait_closed` waits for it."""
        self._write()
        return self

    def wait_closed(self, *, seconds: float = 60) -> None:
        self._hear("closed", seconds=seconds)

    def kill(self) -> None:
        """SIGKILL; nothing happens when it has ended."""
        self._process.kill()
        self._process.wait()

    @property
    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def _write(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def _hear(self, event: str, *, seconds: float) -> dict[str, Any]:
        try:
            said = self._said.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"the worker has not said {event} within {seconds:g} s: {self.errors}") from None
        if said is None or said["event"] != event:
            raise AssertionError(f"the worker said {said} instead of {event}: {self.errors}")
        return said


@contextlib.contextmanager
def workers(count: int) -> Iterator[list[WorkerProcess]]:
    """So many workers without an order; whatever is left of them in the end is killed."""
    started = [WorkerProcess() for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()
