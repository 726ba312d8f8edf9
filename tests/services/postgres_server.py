"""A real PostgreSQL of a test's own, which may be stopped and started again at the same address."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.services.programs import program

from devcluster.packages import Need
from devcluster.standalone import free_ports

USER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


class PostgresServer:
    """postgres on 127.0.0.1 with data that nobody misses, ended by the kernel with the thread that started it. A context manager."""

    def __init__(self, *, password: str) -> None:
        (self.port,) = free_ports(1)
        self._password = password
        self._bin = Path(program(Need.POSTGRES)).parent
        self._directory = Path(tempfile.mkdtemp(prefix="agentservice-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> PostgresServer:
        """Start it and wait until it answers."""
        options = ["-p", str(self.port), "-k", str(self._directory), "-c", "listen_addresses=127.0.0.1"]
        # nothing on disk is worth waiting for
        options += [
            "-c",
            "fsync=off",
            "-c",
            "full_page_writes=off",
            "-c",
            "max_connections=50",
            "-c",
            "shared_buffers=16MB",
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._data), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        ready = self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"postgres does not start:\n{(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def sql(self, text: str) -> str:
        """Run it and return what psql prints, unaligned and without headers."""
        command = ["psql", self.url, "-v", "ON_ERROR_STOP=1", "-Atc", text]
        return subprocess.run(self._command(*command), check=True, capture_output=True, text=True).stdout.strip()

    def stop(self) -> None:
        """End it at once; nothing happens when it does not run."""
        if self._process is not None:
            # immediate shutdown: SIGKILL would leave its children behind
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def __enter__(self) -> PostgresServer:
        if os.geteuid() == 0:
            shutil.chown(self._directory, USER)
        given = self._directory / "password"
        given.write_text(self._password)
        given.chmod(0o644)
        made = subprocess.run(
            self._command(
                "initdb", "-D", str(self._data), "-U", USER, f"--pwfile={given}", "-A", "scram-sha-256",
                "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
            ),
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _command(self, name: str, *arguments: str) -> list[str]:
        drop: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            drop = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
        # the kernel forgets the signal when the user changes, so it is asked for afterwards
        return ["setpriv", *drop, "setpriv", "--pdeathsig", "KILL", str(self._bin / name), *arguments]
