"""The stack of examples/compose, up: who is in it, how to reach it, and what its door has written down."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from devcluster.settings import REPOSITORY

from .engine import Engine, variables

EXAMPLE = REPOSITORY / "examples" / "compose"
HERE = REPOSITORY / "tests" / "compose"
PROJECT = "agentservice-test"
AGENTS = ("agent-1", "agent-2", "agent-3")
PATIENCE = 120.0
"""Seconds. What does not come about in them on a busy machine never does."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: by nginx, or by an agent through it."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A line of nginx's log: which agents were asked, in turn, and what each of them said."""

    method: str
    path: str
    status: int
    run_id: str
    asked: tuple[str, ...]
    """Addresses."""
    reached: tuple[bool, ...]
    """Whether a connection came about, and so the request may have been begun."""


class Stack:
    """The containers of one project. `settings` are the variables of compose.yaml."""

    def __init__(self, engine: Engine, *, settings: Mapping[str, str], subnet: str) -> None:
        self._engine = engine
        self._environment = {**variables(engine), **settings}
        self._subnet = subnet
        self.settings = settings

    def compose(self, *arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
        """Run compose on the example and what the tests put on top, perhaps `without` one of the variables.

        Raises AssertionError when it does not end: podman-compose waits for ever for a container that it could not make.
        """
        files = ("--file", str(EXAMPLE / "compose.yaml"), "--file", str(HERE / "compose.test.yaml"))
        command = [*self._engine.compose, *files, "--project-name", PROJECT, "--env-file", "/dev/null", *arguments]
        environment = {name: value for name, value in self._environment.items() if name != without}
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=2 * PATIENCE
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"") + (error.stderr or b"")
            raise AssertionError(f"{' '.join(arguments)} does not end:\n{said.decode()[-4000:]}") from None

    def engine(self, *arguments: str) -> str:
        """Run docker or podman. Raises AssertionError."""
        command = [self._engine.program, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}"
        return done.stdout

    def logs(self, service: str) -> str:
        """What a service's container has said, on both of its outputs."""
        command = [self._engine.program, "logs", self.container(service)]
        return subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        ).stdout

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.service": service}
        wanted = [f"--filter=label={name}={value}" for name, value in labels.items()]
        (found,) = self.engine("ps", "--all", "--quiet", *wanted).split()
        return found

    def address(self, agent: str) -> str:
        """HOST:PORT of one agent, past nginx."""
        return f"{self._subnet}.1{agent.removeprefix('agent-')}:8000"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        to: str | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = PATIENCE,
    ) -> Answer:
        """Send one request on a connection of its own: to nginx, or to another HOST:PORT. Raises OSError, HTTPException."""
        sent = {"Authorization": f"Bearer {self.settings['AGENT_TOKEN']}", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(to or self.settings["LISTEN"], timeout=seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return Answer(
                status=answer.status,
                headers={name.lower(): value for name, value in answer.getheaders()},
                body=answer.read(),
            )
        finally:
            connection.close()

    def model(self) -> dict[str, Any]:
        """What the stand-in for the model's provider has seen."""
        return self.ask("GET", "/state", to=self.settings["MODEL_LISTEN"]).document

    def runs(self, agent: str) -> int:
        """How many runs one agent has ended, as it tells Prometheus."""
        lines = self.ask("GET", "/metrics", to=self.address(agent)).body.decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2])) for line in lines if line.startswith("pydantic_ai_requests_total{")
        )

    def query(self, expression: str) -> dict[str, float]:
        """What Prometheus answers to an instant query, by the label `pod`."""
        path = f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        found = self.ask("GET", path, to=self.settings["PROMETHEUS_LISTEN"]).document["data"]["result"]
        return {series["metric"].get("pod", ""): float(series["value"][1]) for series in found}

    def passed(self) -> list[Passed]:
        """What nginx has written down until now."""
        return [_passed(json.loads(line)) for line in self.logs("nginx").splitlines() if line.startswith("{")]

    def is_ready(self, agent: str) -> bool:
        """Whether an agent says so, past nginx."""
        try:
            return self.ask("GET", "/ready", to=self.address(agent), seconds=5).status == 200
        except (OSError, http.client.HTTPException):
            return False


def until(look: Callable[[], _T], *, what: str, seconds: float = PATIENCE) -> _T:
    """Look until something is there, and return it. Raises AssertionError that says `what` never was."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.1)
    return found


def _passed(line: Mapping[str, Any]) -> Passed:
    # one entry for each agent that was asked, "-" where no connection came about
    asked, connected = (
        tuple(part.strip() for part in str(line[name]).split(",")) for name in ("upstream", "upstream_connect")
    )
    return Passed(
        method=line["method"],
        path=line["path"],
        status=line["status"],
        run_id=line["request"],
        asked=asked,
        reached=tuple(seconds != "-" for seconds in connected),
    )
