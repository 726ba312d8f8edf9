"""Decides the life of the process: start, serve, stop without losing what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
import uvloop
from prometheus_client import disable_created_metrics

from agentservice_api import RuntimeConfig
from agentservice_api.config import Role
from agentservice_runtime import logs
from agentservice_runtime.app import create_app
from agentservice_runtime.drain import Drain, DrainPlan
from agentservice_runtime.protocol import Patience, impatient
from agentservice_runtime.rejected import StartFailed
from agentservice_runtime.secrets import SecretFiles

DEFAULT_PORT: Final = 8000
_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the idle timeout of usual proxies (nginx 60 s), so that they close first and lose no request."""
_BACKLOG: Final = 2048


def serve(
    config: RuntimeConfig,
    *,
    secrets_dir: Path,
    host: str = "0.0.0.0",  # noqa: S104  a pod's only interface is the pod's
    port: int = DEFAULT_PORT,
    revision: str = "",
    role: Role = Role.SERVER,
) -> None:
    """Serve the agent, or work for it, until SIGTERM or SIGINT, then drain. Raises ConfigurationRejected or StartFailed at start."""
    secrets = SecretFiles(secrets_dir)
    logs.configure(config.observability, secrets=secrets, constant={"environment": config.observability.environment})
    # the gauges *_created that the client library adds to each counter double the series for nothing
    disable_created_metrics()
    _never_sniff()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, secrets=secrets, host=host, port=port, revision=revision, role=role))
    # a second is saved where the interpreter would search all modules for garbage before it ends
    gc.freeze()


def _never_sniff() -> None:
    """Say that asyncio runs on this thread: anyio, where OpenAI's SDK brings sniffio, looks for it a hundred times a run (5 %)."""
    with contextlib.suppress(ImportError):
        from sniffio import thread_local

        thread_local.name = "asyncio"


async def _serve(
    config: RuntimeConfig, *, secrets: SecretFiles, host: str, port: int, revision: str, role: Role
) -> None:
    drain = Drain()
    plan = DrainPlan.of(config.serving.drain_timeout_seconds, is_called=role is Role.SERVER)
    app = create_app(config, secrets=secrets, revision=revision, drain=drain, role=role)
    logger = logging.getLogger(logs.LOGGER)
    about = {"agent": config.name, "revision": revision, "port": port, "role": role}
    listener = _listen(host, port)
    server = _Server(
        uvicorn.Config(
            app,
            http=impatient(Patience()),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        ),
        drain=drain,
        plan=plan,
        clock=time.monotonic,
    )
    lifespan = app.router.lifespan_context(app)
    await lifespan.__aenter__()
    _settle_memory()
    try:
        logger.info("serving", extra={logs.FIELDS: about})
        await server.serve(sockets=[listener])
        await drain.finish_others(seconds=plan.accept_seconds + plan.finish_seconds)
    finally:
        await _close(lifespan, seconds=plan.close_seconds)
        logger.info("stopped", extra={logs.FIELDS: about})


def _settle_memory() -> None:
    """Give back what the imports needed for a moment, a tenth of the process; what they left stays, so it is never collected."""
    gc.collect()
    gc.freeze()
    # glibc keeps freed memory until it is asked; others have no such function
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def _close(lifespan: contextlib.AbstractAsyncContextManager[object], *, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await lifespan.__aexit__(None, None, None)
    except Exception:
        # the pod goes away whatever the user's code says to that
        logging.getLogger(logs.LOGGER).exception("closing ctx.deps failed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartFailed(f"cannot listen on {host} port {port}: {error.strerror}") from None


class _Server(uvicorn.Server):
    """uvicorn's server with our way to stop: SIGTERM first makes the pod not ready and serves on for a moment."""

    def __init__(self, config: uvicorn.Config, *, drain: Drain, plan: DrainPlan, clock: Callable[[], float]) -> None:
        super().__init__(config)
        # uvicorn's annotation says int; it only hands the number to asyncio.wait_for
        self.config.timeout_graceful_shutdown = plan.finish_seconds  # pyright: ignore[reportAttributeAccessIssue]
        self._drain = drain
        self._plan = plan
        self._clock = clock
        self._accept_until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. SIGINT (a person at a terminal) waits for no endpoints; a second one waits for nothing."""
        is_first = not self._drain.is_draining
        self._drain.begin()
        if sig == signal.SIGINT:
            self.force_exit = not is_first
            self.should_exit = True
        elif is_first:
            self._accept_until = self._clock() + self._plan.accept_seconds
        if is_first:
            _exit_after(self._plan.total_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: is it time to stop accepting?"""
        if self._accept_until is not None and self._clock() >= self._accept_until:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs. What had to be cancelled may still tell its client so."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=self._plan.close_seconds)


def _exit_after(seconds: float) -> None:
    """End the process after ``seconds`` even when user code holds the loop or a thread: the kubelet would kill it."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
