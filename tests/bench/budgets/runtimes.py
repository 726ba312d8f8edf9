"""Whole runtimes in place of workers: `/v1/run` over HTTP, the meter around the model, the ledger as the pods have it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from tests.bench.budgets import load
from tests.bench.budgets.agent import configuration
from tests.bench.budgets.ledgers import Access, LedgerChoice

from agentservice_runtime.ledger.choice import FILE_VARIABLE
from devcluster.standalone import free_ports

SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
FINAL_SECONDS: Final = 120
"""A refusal that says to come back later than this means: exhausted."""


class RuntimeProcess:
    """`agentservice-runtime` with one agent that calls the bench's model server. A context manager."""

    def __init__(
        self,
        *,
        account: str,
        server: str,
        choice: LedgerChoice | None,
        pod_uid: str = "",
        changes: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        """Without ``choice`` it has no budget; ``account`` is whom the model server bills.

        ``changes`` take the place of members of the configuration, ``secrets`` are more values by NAME/KEY, and ``wrapper`` is what the program is started by.
        """
        (self.port,) = free_ports(1)
        self._folder = tempfile.TemporaryDirectory(prefix="agentservice-bench-")
        self._account = account
        self._server = server
        self._choice = choice
        self._pod_uid = pod_uid
        self._changes = changes or {}
        self._secrets = secrets or {}
        self._more_environment = environment or {}
        self._wrapper = wrapper

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.whole_log[-3000:]

    @property
    def whole_log(self) -> str:
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> RuntimeProcess:
        folder = Path(self._folder.name)
        config, files = configuration(account=self._account, server=self._server, choice=self._choice)
        config |= self._changes
        for place, value in {**files, **self._secrets}.items():
            path = folder / "secrets" / place
            path.parent.mkdir(parents=True)
            path.write_text(value)
        wrapper = [*self._wrapper]
        environment: dict[str, str] = {}
        if self._choice is not None and self._choice.access is not None:
            in_pod, environment = _as_in_a_pod(self._choice.access)
            wrapper += in_pod
        (folder / "config.json").write_text(json.dumps(config))
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--config", str(folder / "config.json")]
        options += ["--secrets-dir", str(folder / "secrets"), "--termination-log", str(folder / "termination-log")]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    *wrapper,
                    sys.executable,
                    "-m",
                    "agentservice_runtime.main",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **self._environment(), **environment, **self._more_environment},
                start_new_session=True,
            )
        self._wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _environment(self) -> dict[str, str]:
        choice = self._choice
        namespace = choice.access.namespace if choice is not None and choice.access is not None else "default"
        pod = {"POD_UID": self._pod_uid, "POD_NAME": self._account, "POD_NAMESPACE": namespace}
        return pod | ({FILE_VARIABLE: str(choice.path)} if choice is not None and choice.path is not None else {})

    def _wait_ready(self) -> None:
        try:
            wait_ready(self.url, self._process)
        except AssertionError as error:
            raise AssertionError(f"the runtime: {error}: {self.log}") from None


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until `/ready` answers 200. Raises AssertionError when the process ends before, or after a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return
        except (OSError, urllib.error.HTTPError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"it does not start ({error})") from None
            time.sleep(0.01)


def _as_in_a_pod(access: Access) -> tuple[list[str], dict[str, str]]:
    """Return what puts the token where the kubelet puts it, for this process alone, and the environment of a pod. Needs root."""
    script = (
        f"mount -t tmpfs none /run && mkdir -p {SERVICE_ACCOUNT} && cp {access.authority} {SERVICE_ACCOUNT}/ca.crt"
        f' && cp {access.token} {SERVICE_ACCOUNT}/token && exec "$@"'
    )
    url = urlsplit(access.server)
    place = {"KUBERNETES_SERVICE_HOST": url.hostname or "", "KUBERNETES_SERVICE_PORT": str(url.port)}
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"], place


async def _drive(urls: Sequence[str], *, clients: int, requests: int | None) -> Counter[str]:
    outcomes = Counter[str]()
    left = requests

    async def client(url: str) -> None:
        nonlocal left
        while left is None or left > 0:
            if left is not None:
                left -= 1
            try:
                async with session.post(f"{url}/v1/run", json={"input": load.TEXT}) as response:
                    await response.read()
                    again = int(response.headers.get("retry-after", 0))
                    outcome = _outcome(response.status, again)
            except ClientError as error:
                outcome = type(error).__name__
            outcomes[outcome] += 1
            if outcome != "served" and left is None:
                return

    async with (
        ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=120)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for url in urls:
            for _ in range(clients):
                tasks.create_task(client(url))
    return outcomes


def _outcome(status: int, again: int) -> str:
    if status == 200:
        return "served"
    if status == 429:
        return "exhausted" if again > FINAL_SECONDS else "busy"
    return f"answered {status}"


def drive(urls: Sequence[str], *, clients: int = load.CLIENTS, requests: int | None = None) -> Counter[str]:
    """Have so many clients of each runtime ask until each is refused, or until so many requests have been sent.

    Returns how often they were `served`, `exhausted`, `busy`, or met something else.
    """
    return asyncio.run(_drive(urls, clients=clients, requests=requests))
