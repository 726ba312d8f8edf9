"""Decides what `ctx.deps` is: built once per pod before the first run, closed after the last."""

from __future__ import annotations

import inspect
import logging
import os
import sysconfig
import traceback
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from agentservice_runtime.imports import resolve
from agentservice_runtime.rejected import ConfigurationRejected, StartFailed

FIELD: Final = "spec.agent.deps"
_LIBRARY: Final = (
    "<frozen",
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
)


@dataclass(frozen=True, kw_only=True)
class Deps:
    """`ctx.deps` of an agent that builds none of its own, from the pod's environment."""

    database_url: str | None
    """DATABASE_URL"""
    redis_url: str | None
    """REDIS_URL"""
    environment: str
    """ENVIRONMENT, such as production"""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("agent"))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Deps:
        """Read the environment variables."""
        return cls(
            database_url=environ.get("DATABASE_URL"),
            redis_url=environ.get("REDIS_URL"),
            environment=environ.get("ENVIRONMENT", "production"),
        )


def resolve_deps(path: str | None) -> Any:
    """Return what stands at ``path`` (None when there is no path). Raises ConfigurationRejected."""
    if path is None:
        return None
    source = resolve(path, field=FIELD)
    if inspect.isasyncgenfunction(source) or inspect.isgeneratorfunction(source):
        raise ConfigurationRejected(
            FIELD, f"{path} is a bare generator: decorate it with contextlib.asynccontextmanager (or contextmanager)"
        )
    if not (callable(source) or hasattr(source, "__aenter__") or hasattr(source, "__enter__")):
        raise ConfigurationRejected(
            FIELD,
            f"{path} is a {type(source).__name__}: point at a callable, coroutine function or async context manager",
        )
    return source


async def build_deps(source: Any, *, stack: AsyncExitStack) -> Any:
    """Build `ctx.deps`; what must be closed is put on ``stack``. Raises StartFailed.

    The message names the error's type only: the text of a failed connection may hold its password.
    """
    if source is None:
        return Deps.from_environ()
    try:
        value: Any = source if _is_manager(source) and not inspect.isclass(source) else source()
        if inspect.isawaitable(value):
            value = await value
        if _is_manager(value):
            return await stack.enter_async_context(value)
        if _is_generator_manager(value):
            return stack.enter_context(value)
    except Exception as error:
        raise StartFailed(f"{FIELD}: {_why(error)}") from error
    return value


def _is_manager(source: Any) -> bool:
    return hasattr(source, "__aenter__") and hasattr(source, "__aexit__")


def _is_generator_manager(value: Any) -> bool:
    # a plain object with __enter__ (a lock, a file) is used as it is; @contextmanager asks to be entered
    return type(value).__name__ == "_GeneratorContextManager"


def _why(error: Exception) -> str:
    trace = list(traceback.walk_tb(error.__traceback__))
    if isinstance(error, KeyError) and trace and trace[-1][0].f_globals.get("__name__") == "os":
        return f"the environment variable {error.args[0]} is not set: add it to spec.runtime.env"
    # the last place in the user's own code: deeper ones are a library's
    own = [(frame, line) for frame, line in trace if not frame.f_code.co_filename.startswith(_LIBRARY)]
    frame, line = (own or trace)[-1]
    return f"building ctx.deps failed with {type(error).__name__} at {frame.f_code.co_filename}:{line}"
