"""Decides how log lines look: one JSON object a line, with the key and the revision of the object being reconciled."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from agentservice_operator.manifest import Key
from agentservice_operator.shell.settings import LogFormat

_key: ContextVar[Key | None] = ContextVar("agentservice_key", default=None)
_revision: ContextVar[str] = ContextVar("agentservice_revision", default="")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_QUIET: dict[str, int] = {
    # kopf tells of every handler call and of its own retries; ours is the log of what was decided.
    "kopf": logging.WARNING,
    "kopf.objects": logging.ERROR,
    "aiohttp.access": logging.WARNING,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
}


@contextmanager
def about(key: Key) -> Generator[None]:
    """Lines written inside carry the object's key, and its revision once `set_revision` was called."""
    key_token, revision_token = _key.set(key), _revision.set("")
    try:
        yield
    finally:
        _key.reset(key_token)
        _revision.reset(revision_token)


def set_revision(revision: str) -> None:
    """The revision that the current reconcile works towards."""
    _revision.set(revision)


class JsonFormatter(logging.Formatter):
    """`time` (UTC, RFC 3339), `level`, `logger`, `message`, `namespace`, `name`, `revision`, extras, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        key = _key.get()
        if key is not None:
            line["namespace"], line["name"] = key
        revision = _revision.get()
        if revision:
            line["revision"] = revision
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=_word).decode()


class TextFormatter(logging.Formatter):
    """For people at a terminal: time, level, key@revision, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(about)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        key, revision = _key.get(), _revision.get()
        at = f"@{revision}" if revision else ""
        record.about = f"[{key[0]}/{key[1]}{at}] " if key is not None else ""
        return super().format(record)


def configure(*, level: int, log_format: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Make all loggers of this process write to `stream`. Replaces whatever handlers there were."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, quiet))
    logging.captureWarnings(True)


def _word(value: object) -> str:
    # Only the type: an extra that is not plain data was not meant for a log.
    return f"<{type(value).__name__}>"
