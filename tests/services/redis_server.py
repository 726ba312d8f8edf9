"""A real redis-server of a test's own, which may be killed, emptied and started again at the same address."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from tests.services.programs import program

from devcluster.packages import Need
from devcluster.standalone import free_ports


class Persistence(StrEnum):
    """What of its data a Redis finds again after SIGKILL."""

    NOTHING = "nothing"
    """It comes back empty."""
    RDB = "rdb"
    """Snapshots as in the default configuration: it comes back with an old state, or with none."""
    AOF = "aof"
    """`appendonly yes`, `appendfsync always`: nothing. With `everysec`, writes wait while a slow disk is synced: up to two seconds are gone."""

    @property
    def options(self) -> list[str]:
        match self:
            case Persistence.NOTHING:
                return ["--save", "", "--appendonly", "no"]
            case Persistence.RDB:
                return ["--save", "3600 1 300 100 60 10000", "--appendonly", "no"]
            case Persistence.AOF:
                return ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]


class RedisServer:
    """redis-server on 127.0.0.1, ended by the kernel with the thread that started it. A context manager."""

    def __init__(self, *, persistence: Persistence = Persistence.NOTHING, password: str = "", host: str = "127.0.0.1"):
        self.persistence = persistence
        self.host = host
        (self.port,) = free_ports(1)
        self._password = password
        self._directory = Path(tempfile.mkdtemp(prefix="agentservice-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> RedisServer:
        """Start it and wait until it has loaded its data and answers."""
        where = ["--bind", self.host, "--port", str(self.port), "--dir", str(self._directory)]
        access = ["--protected-mode", "no", *(["--requirepass", self._password] if self._password else [])]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program(Need.REDIS), *where, *access, *self.persistence.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"redis-server does not start:\n{(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def command(self, *words: str) -> str:
        """Send one command and return the first bytes of the answer, as the protocol has them."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            for line in (("AUTH", self._password), words) if self._password else (words,):
                connection.sendall(b"*%d\r\n" % len(line) + b"".join(_bulk(word) for word in line))
                answer = connection.recv(65536)
        return answer.decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL: what the disk does not have is lost. Nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Take away what a killed one has left on disk."""
        assert self._process is None
        for path in self._directory.iterdir():
            if path.name != "log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return "PONG" in self.command("PING")
        return False


def _bulk(word: str) -> bytes:
    data = word.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)
