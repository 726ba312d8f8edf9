"""Decides nothing: one HTTP request to an agent, its answer in pieces as they arrive."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from agentservice_cli.exits import CliError


@dataclass(frozen=True)
class Answer:
    """An answer whose body may still be under way."""

    status: int
    content_type: str
    chunks: Iterator[bytes]


Exchange = Callable[[str, bytes, Mapping[str, str]], Answer]
"""Send a body to a path (which begins with /) with these headers. Raises CliError when nobody answers."""


def to_url(url: str, *, timeout: float, method: str = "POST") -> Exchange:
    """Return the exchange with the agent at `url`; proxies are those of the environment, never for this machine.

    `timeout` in seconds is the longest silence.
    """

    def exchange(path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        request = urllib.request.Request(url.rstrip("/") + path, data=body, headers=dict(headers), method=method)  # noqa: S310  the scheme is checked where the target is decided
        proxies: dict[str, str] | None = {} if is_this_machine(url) else None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
        try:
            response = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers.get("Content-Type", ""), iter([error.read()]))
        except urllib.error.URLError as error:
            raise unreachable(url, error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(url, error) from None
        return Answer(response.status, response.headers.get("Content-Type", ""), pieces(response, url))

    return exchange


def pieces(response: http.client.HTTPResponse, who: str) -> Iterator[bytes]:
    """Yield what has arrived whenever something has. Raises CliError when the connection breaks."""
    while True:
        try:
            chunk = response.read1(65536)
        except TimeoutError:
            raise CliError(f"{who} has been silent for too long", mend="wait longer with --timeout SECONDS") from None
        except (OSError, http.client.HTTPException) as error:
            raise CliError(f"the connection to {who} broke: {error}", mend="ask again") from None
        if not chunk:
            return
        yield chunk


def unreachable(who: str, reason: object) -> CliError:
    """Return the error for an agent that does not answer at all."""
    if isinstance(reason, TimeoutError):
        return CliError(f"{who} did not answer in time", mend="wait longer with --timeout SECONDS")
    text = (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
    mend = "check the address"
    if is_this_machine(who):
        mend = (
            "start it with `agentservice run -f agent.yaml`, or name an agent in the cluster: agentservice ask NAME ..."
        )
    if isinstance(reason, socket.gaierror):
        text = "its host name is not known"
    return CliError(f"nothing answers at {who}: {text}", mend=mend)


def is_this_machine(url: str) -> bool:
    """Whether the URL's host is the loopback of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
