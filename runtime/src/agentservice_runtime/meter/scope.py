"""Decides which meter a model request belongs to, and which run pays for it: a context variable carries both.

Tasks, and threads that pydantic-ai starts for tools, inherit the context of the run. Code that has lost it (a thread of
its own) belongs to the process's meter and to no run.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

from agentservice_runtime.meter.account import Account

if TYPE_CHECKING:
    from agentservice_runtime.meter.meter import Meter


class Scope:
    """What is requested inside of it, and in whatever that starts, is metered by ``meter`` and charged to ``account``.

    Without a meter it is not metered at all.
    """

    __slots__ = ("_token", "account", "meter")

    def __init__(self, meter: Meter | None, account: Account | None) -> None:
        self.meter = meter
        self.account = account
        self._token: Token[Scope] | None = None

    def __enter__(self) -> Scope:
        self._token = _SCOPE.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _SCOPE.reset(self._token)


@contextmanager
def in_process(meter: Meter) -> Generator[None]:
    """What has no scope of its own is metered by ``meter``."""
    scope = Scope(meter, None)
    _PROCESS.append(scope)
    try:
        yield
    finally:
        _PROCESS.remove(scope)


def current_scope() -> Scope | None:
    """Return the scope that applies here, None where nothing is metered."""
    found = _SCOPE.get(None)
    if found is not None:
        return found if found.meter is not None else None
    return _PROCESS[-1] if _PROCESS else None


def current_account() -> Account | None:
    """Return the account of the run that this code is part of; None outside of one."""
    scope = _SCOPE.get(None)
    return None if scope is None else scope.account


_SCOPE: Final[ContextVar[Scope]] = ContextVar("agentservice_scope")
_PROCESS: Final[list[Scope]] = []
"""A process has one meter; tests that run two applications in one process have two."""
