"""The command line as a person has it: programs in their own process, a port of their own."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 60.0
"""Seconds until a started agent must answer. Much more than it takes: the machine may be busy."""


@dataclass
class Terminal:
    """A person's terminal: a folder, an environment, and the program `agentservice`."""

    folder: Path
    program: list[str]
    environment: dict[str, str]
    port: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def serve(self, *arguments: str) -> "Served":
        """Start `agentservice run` in the background."""
        log = self.folder / f"run-{len(self.started)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*self.program, "run", *arguments, "--port", str(self.port)],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return Served(process, log)


@dataclass
class Served:
    """A running `agentservice run`."""

    process: subprocess.Popen[str]
    log: Path

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until the log says `text` so many times."""
        wait_until(lambda: self.log.read_text().count(text) >= times, f"{text!r} x{times} in:", self.log)

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)


def wait_until(condition: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{log.read_text()}"
        time.sleep(0.05)


@contextmanager
def opened(folder: Path, program: list[str]) -> Generator[Terminal]:
    """A terminal in an empty folder, without a cluster; what was started ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hidden = ("KUBECONFIG", "KUBERNETES_", "AGENTSERVICE_", "PYTHONPATH", "OPENAI_", "PYTEST_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / ".run"), "TMPDIR": str(folder / ".tmp")}
    (folder / ".tmp").mkdir()
    terminal = Terminal(folder=folder, program=program, environment=environment, port=port)
    try:
        yield terminal
    finally:
        for process in terminal.started:
            if process.poll() is None:
                process.kill()
                process.wait()
