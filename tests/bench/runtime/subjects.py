"""Decides who is compared: the bare loop, the guide's app and our runtime, each a process that has one processor to itself.

Everything else of the bench, the model server and whoever sends the requests, shares the other processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import uvloop
from tests.bench.budgets.processes import REPOSITORY
from tests.bench.budgets.runtimes import RuntimeProcess, wait_ready
from tests.bench.runtime.load import Load

from devcluster.standalone import free_ports

SUBJECT_CPU: Final = 0
OTHER_CPU: Final = 1
PINNED: Final = ("setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(SUBJECT_CPU))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one batch has cost."""

    cpu: float
    """Seconds of the process, user and system."""
    seconds: float
    first: Sequence[float] = ()
    """Seconds to the first token of each stream."""
    deltas: Sequence[int] = ()
    """Of each stream, where they are counted."""


class Subject(Protocol):
    """Someone who is measured."""

    def batch(self, *, requests: int, at_once: int, name: str, is_stream: bool = False) -> Batch:
        """Do so many runs and say what they cost. Two batches of one name are equal, request by request."""
        ...


def keep_off() -> None:
    """Leave the subjects' processor to them; what this process starts afterwards stays off it too."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {OTHER_CPU})


class Bare:
    """The bare loop. A context manager."""

    def __init__(self, *, server_port: int) -> None:
        self._port = server_port

    def __enter__(self) -> Bare:
        self._process = subprocess.Popen(
            [*PINNED, sys.executable, "-m", "tests.bench.runtime.bare", str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def batch(self, *, requests: int, at_once: int, name: str, is_stream: bool = False) -> Batch:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        order = {"requests": requests, "at_once": at_once, "batch": name, "stream": is_stream}
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        said = json.loads(stdout.readline())
        return Batch(cpu=said["cpu"], seconds=said["seconds"], first=said["first"])


class Served:
    """A process that is asked over HTTP."""

    def __init__(self, *, port: int, pid: int) -> None:
        self._port = port
        self._pid = pid

    def batch(self, *, requests: int, at_once: int, name: str, is_stream: bool = False) -> Batch:
        path = "/v1/stream" if is_stream else "/v1/run"
        load = Load(port=self._port, path=path, requests=requests, at_once=at_once, batch=name)
        cpu, began = cpu_seconds(self._pid), time.perf_counter()
        uvloop.run(load.send())
        seconds = time.perf_counter() - began
        return Batch(cpu=cpu_seconds(self._pid) - cpu, seconds=seconds, first=load.first, deltas=load.deltas)


class Guide:
    """The guide's app. A context manager that returns whom to ask."""

    def __init__(self, *, server_port: int) -> None:
        (self._port,) = free_ports(1)
        self._server = f"http://127.0.0.1:{server_port}"

    def __enter__(self) -> Served:
        app = ["tests.bench.runtime.guide:app", "--port", str(self._port), "--no-access-log", "--log-level", "warning"]
        self._process = subprocess.Popen(
            [*PINNED, sys.executable, "-m", "uvicorn", *app],
            cwd=REPOSITORY,
            env={**os.environ, "MODEL_SERVER": self._server},
        )
        wait_ready(f"http://127.0.0.1:{self._port}", self._process)
        return Served(port=self._port, pid=self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def served(runtime: RuntimeProcess) -> Served:
    """Return a runtime as one who is measured."""
    return Served(port=runtime.port, pid=runtime.pid)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of all threads of a process, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
