"""The few requests that the launcher itself makes to an API server: a kubectl process for each would cost 0.2 s."""

import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devcluster.certificates import Pair
from devcluster.errors import ClusterError


class RefusedError(ClusterError):
    """The server answered with an error status."""

    def __init__(self, *, status: int, method: str, path: str, message: str) -> None:
        super().__init__(f"{method} {path}: {status} {message}")
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Api:
    """Requests with a client certificate, one connection each."""

    server: str
    authority: Path
    pair: Pair

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        timeout: float = 10,
    ) -> Any:
        """Send one request and decode its answer (text where it is not JSON).

        Raises RefusedError for an error status, OSError when nobody answers. `timeout` in seconds.
        """
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.pair.certificate, self.pair.key)
        url = urlsplit(self.server)
        connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=timeout)
        with contextlib.closing(connection):
            payload = body if isinstance(body, (str, bytes)) else None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": content_type, "Accept": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        decoded: Any = text
        with contextlib.suppress(ValueError):
            decoded = json.loads(text)
        if answer.status >= 400:
            message = decoded.get("message", text) if isinstance(decoded, dict) else text  # pyright: ignore[reportUnknownVariableType]
            raise RefusedError(status=answer.status, method=method, path=path, message=str(message)[:500])  # pyright: ignore[reportUnknownArgumentType]
        return decoded

    def found(self, path: str) -> bool:
        """Whether the path answers at all; nobody there yet and not found are both no."""
        try:
            self.request("GET", path)
        except (RefusedError, OSError, http.client.HTTPException):
            return False
        return True


def wait_until(
    what: str, ready: Callable[[], bool], *, timeout: float, watch: Callable[[], None] = lambda: None
) -> None:
    """Ask every 0.1 s until `ready`. `watch` may raise to end the waiting early. Raises ClusterError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        watch()
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} is not ready after {timeout:.0f} s: `dc logs` shows why")
        time.sleep(0.1)
