"""A real runtime process, a real provider process, real HTTP between them: no cluster, no mocks."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics
from tests.services.programs import at_hand
from tests.services.redis_server import RedisServer

from agentservice_api import RuntimeConfig
from agentservice_runtime import logs
from agentservice_runtime.app import create_app
from agentservice_runtime.secrets import SecretFiles
from devcluster.packages import Need

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition: Callable[[], Any], *, seconds: float = 150, what: str = "the condition") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} was not met within {seconds} s")


@dataclass
class Provider:
    url: str

    def state(self) -> dict[str, Any]:
        return httpx2.get(f"{self.url}/state").json()

    def forget(self) -> None:
        httpx2.delete(f"{self.url}/state")

    def serving(self, command: str, **choice: Any) -> dict[str, Any]:
        """The choice of a model of this provider. A failure is final unless the choice says otherwise."""
        known = {"retry": {"maxAttempts": 1}, **choice}
        return {**known, "name": f"openai-chat:{command}", "baseURL": f"{self.url}/v1"}


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "provider.py"), str(port)])
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return httpx2.get(f"{url}/state").status_code == 200
        except httpx2.TransportError:
            return False

    wait_until(up, what="the provider's first answer")
    yield Provider(url)
    process.terminate()
    process.wait(10)


def _write_secret(folder: Path, name: str, key: str, value: str) -> None:
    path = folder / "secrets" / name / key
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{key}.new")
    fresh.write_text(value)
    fresh.replace(path)


@dataclass
class Agent:
    """A runtime process."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    clients: list[httpx2.Client] = field(default_factory=list)

    @property
    def client(self) -> httpx2.Client:
        if not self.clients:
            self.clients.append(httpx2.Client(base_url=self.url, timeout=30))
        return self.clients[0]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def run(self, value: Any, **kwargs: Any) -> httpx2.Response:
        return self.client.post("/v1/run", json={"input": value}, **kwargs)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples called ``name`` with these labels."""
        found = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{value}"' in head for key, value in labels.items()):
                found += float(value)
        return found

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def lines(self, message: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stdout().splitlines() if line.startswith("{")]
        return [line for line in found if message is None or line["message"] == message]

    def secret(self, name: str, key: str, value: str) -> None:
        _write_secret(self.folder, name, key, value)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit_code(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


def _configuration(**parts: Any) -> dict[str, Any]:
    """The smallest configuration, with ``parts`` in place of its members."""
    return {
        "schemaVersion": 1,
        "name": "support",
        "namespace": "team-a",
        "agent": {"instructions": "Answer briefly."},
        "model": {"name": "test"},
        "auth": {},
        "serving": {"concurrencyPerPod": 8, "drainTimeoutSeconds": 10},
        "observability": {},
        **parts,
    }


@pytest.fixture
def launch(tmp_path: Path, provider: Provider) -> Iterator[Callable[..., Agent]]:
    """Start runtimes that live as long as the test."""
    yield from _launcher(tmp_path, provider)


@pytest.fixture(scope="module")
def launch_shared(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Callable[..., Agent]]:
    """Start runtimes that live as long as the module's tests."""
    yield from _launcher(tmp_path_factory.mktemp("shared"), provider)


def _launcher(tmp_path: Path, provider: Provider) -> Iterator[Callable[..., Agent]]:
    """Start runtimes: launch(configuration, model="429", secrets={"openai/key": "sk-1"}, code={"mine.py": "..."})."""
    started: list[Agent] = []

    def start(
        config: dict[str, Any] | None = None,
        *,
        model: str | None = None,
        secrets: dict[str, str] | None = None,
        code: dict[str, str] | None = None,
        environ: dict[str, str] | None = None,
        wait: bool = True,
        port: int | None = None,
    ) -> Agent:
        config = config or _configuration()
        if model is not None:
            config["model"] = provider.serving(model, **config["model"])
        folder = tmp_path / f"agent-{len(started)}"
        (folder / "secrets").mkdir(parents=True)
        (folder / "app").mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "termination-log").touch()
        for name, text in (code or {}).items():
            (folder / "app" / name).write_text(text)
        port = port or free_port()
        agent = Agent(process=None, url=f"http://127.0.0.1:{port}", folder=folder)  # pyright: ignore
        for place, value in (secrets or {}).items():
            agent.secret(*place.split("/"), value)
        options = ["--host", "127.0.0.1", "--port", str(port), "--config", str(folder / "config.json")]
        options += ["--secrets-dir", str(folder / "secrets"), "--termination-log", str(folder / "termination-log")]
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            agent.process = subprocess.Popen(
                [sys.executable, "-m", "agentservice_runtime.main", *options],
                stdout=out,
                stderr=err,
                cwd=folder / "app",
                env={**os.environ, "AGENTSERVICE_REVISION": "5f2c9d1a", **(environ or {})},
            )
        started.append(agent)
        if wait:
            wait_until(lambda: answers(agent), what="the runtime's first answer")
        return agent

    def answers(agent: Agent) -> bool:
        if agent.process.poll() is not None:
            raise AssertionError(f"the runtime ended with {agent.process.returncode}: {agent.stderr()}{agent.stdout()}")
        try:
            return agent.client.get("/health").status_code == 200
        except httpx2.TransportError:
            return False

    yield start
    for agent in started:
        agent.close()


class Embedded(Agent):
    """The same program in a thread of the tests' own process, for tests that do not ask about the process."""

    def __init__(self, *, app: FastAPI, folder: Path, log: io.StringIO) -> None:
        port = free_port()
        super().__init__(process=None, url=f"http://127.0.0.1:{port}", folder=folder)  # pyright: ignore
        self.log = log
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        wait_until(lambda: self.server.started or not self.thread.is_alive(), what="the server's start")

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.should_exit = True
        self.thread.join(20)

    def stdout(self) -> str:
        return self.log.getvalue()

    def stderr(self) -> str:
        return ""


@pytest.fixture
def embed(tmp_path: Path, provider: Provider) -> Iterator[Callable[..., Agent]]:
    """As launch, but in this process: starts in milliseconds."""
    yield from _embedder(tmp_path, provider)


@pytest.fixture(scope="module")
def embed_shared(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Callable[..., Agent]]:
    """As launch_shared, but in this process."""
    yield from _embedder(tmp_path_factory.mktemp("shared"), provider)


def _embedder(tmp_path: Path, provider: Provider) -> Iterator[Callable[..., Agent]]:
    started: list[Embedded] = []
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    disable_created_metrics()

    def start(
        config: dict[str, Any] | None = None,
        *,
        model: str | None = None,
        secrets: dict[str, str] | None = None,
        code: dict[str, str] | None = None,
    ) -> Agent:
        config = config or _configuration()
        if model is not None:
            config["model"] = provider.serving(model, **config["model"])
        folder = tmp_path / f"embedded-{len(started)}"
        folder.mkdir()
        for place, value in (secrets or {}).items():
            _write_secret(folder, *place.split("/"), value)
        for name, text in (code or {}).items():
            (folder / name).write_text(text)
            sys.modules.pop(name.removesuffix(".py"), None)
        sys.path.insert(0, str(folder))
        try:
            parsed = RuntimeConfig.model_validate(config)
            files = SecretFiles(folder / "secrets")
            log = io.StringIO()
            logs.configure(parsed.observability, secrets=files, constant={}, stream=log)
            app = create_app(parsed, secrets=files, revision="5f2c9d1a")
        finally:
            sys.path.remove(str(folder))
        started.append(Embedded(app=app, folder=folder, log=log))
        return started[-1]

    yield start
    for agent in started:
        agent.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def _events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The server-sent events of ``text``."""
    found: list[tuple[str, dict[str, Any]]] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture(name="configuration", scope="session")
def configuration_fixture() -> Callable[..., dict[str, Any]]:
    return _configuration


@pytest.fixture(name="events")
def events_fixture() -> Callable[[str], list[tuple[str, dict[str, Any]]]]:
    return _events


@pytest.fixture(name="wait_until", scope="session")
def wait_until_fixture() -> Callable[..., Any]:
    return wait_until


@pytest.fixture(scope="module")
def installed() -> None:
    """A redis-server is at hand."""
    at_hand(Need.REDIS)


@pytest.fixture(scope="module")
def redis(installed: None) -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server
