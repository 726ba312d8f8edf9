"""Decides what /healthz, /readyz and /metrics answer. The server runs from the start of the process, before imports.

Alive: the event loop answers, and no reconcile has been running for longer than `STUCK_SECONDS`. Ready: everything is
imported and, on the leader, every informer has listed once; a standby is Ready, or a rollout would never finish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

STUCK_SECONDS = 300.0
"""A reconcile is cut off long before this (`controller.RECONCILE_SECONDS`): beyond it, cancelling did not work."""


@dataclass
class Health:
    """What the process knows of itself, written by `main` as it starts.

    `waiting_for` names what readiness waits for; empty means Ready. `longest_running` gives the seconds of the oldest
    running reconcile. `metrics` renders the exposition.
    """

    waiting_for: list[str] = field(default_factory=lambda: ["imports"])
    longest_running: Callable[[], float] = lambda: 0.0
    metrics: Callable[[], tuple[bytes, str]] = lambda: (b"", "text/plain")

    def liveness(self) -> tuple[bool, str]:
        longest = self.longest_running()
        if longest > STUCK_SECONDS:
            return False, f"a reconcile has been running for {longest:.0f} s"
        return True, "ok"

    def readiness(self) -> tuple[bool, str]:
        if self.waiting_for:
            return False, "waiting for " + ", ".join(self.waiting_for)
        return True, "ok"


class HealthServer:
    """The HTTP server. `port` 0 takes any free one; `port` tells which after `start`."""

    def __init__(self, health: Health, *, port: int, host: str | None = None) -> None:
        self.port = port
        self._host = host
        self._health = health
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Listen on all addresses, IPv6 included where there is any.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(*self._health.liveness())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(*self._health.readiness())

    async def _metrics(self, _: web.Request) -> web.Response:
        body, content_type = self._health.metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})


def _answer(good: bool, text: str) -> web.Response:
    return web.Response(text=text + "\n", status=200 if good else 503)
