"""Decides how log lines look, and that none of them holds a key or a prompt.

Lines of this program and of the user's code are written as they are, those of libraries without their text: a
library may quote a request or an upstream body. Every line loses each Secret's value that was ever read. Of an
exception the types and places are written, never the message.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, TextIO, cast

import orjson
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from agentservice_api.spec import LogFormat, ObservabilitySpec
from agentservice_runtime.secrets import SecretFiles

LOGGER: Final = "agentservice"
FIELDS: Final = "agentservice_fields"
"""Name of the record's attribute that holds further members of the line."""

_LIBRARIES: Final = frozenset(
    {
        "anthropic", "anyio", "asyncio", "botocore", "boto3", "fastapi", "fastmcp", "genai_prices", "google", "google_genai",
        "h11", "httpcore", "httpcore2", "httpx", "httpx2", "mcp", "openai", "opentelemetry", "py", "pydantic_ai",
        "starlette", "urllib3", "uvicorn",
    }
)  # fmt: skip
_WITHHELD: Final = "a library logged something; its text is withheld because it may hold content"
_MAX_FRAMES: Final = 20
_MAX_CAUSES: Final = 8


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool, secrets: SecretFiles, constant: dict[str, Any]) -> None:
        super().__init__()
        self._as_json = as_json
        self._secrets = secrets
        self._constant = constant

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        is_library = record.name.partition(".")[0] in _LIBRARIES
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _WITHHELD if is_library else record.getMessage(),
            **self._constant,
            **_place_in_trace(),
            **getattr(record, FIELDS, {}),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line["error"] = error_types(error)
            line["at"] = frames(error)
        if self._as_json:
            text = orjson.dumps(line, default=str).decode()
        else:
            rest = " ".join(f"{k}={v}" for k, v in line.items() if k not in ("time", "level", "message", "logger"))
            text = f"{line['time']} {line['level'].upper():7} {line['message']} {rest}".rstrip().replace("\n", "\\n")
        return self._secrets.redact(text)


def configure(
    spec: ObservabilitySpec, *, secrets: SecretFiles, constant: dict[str, Any], stream: TextIO | None = None
) -> None:
    """Send every logger's lines to ``stream`` (standard output)."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(_Formatter(as_json=spec.log_format is LogFormat.JSON, secrets=secrets, constant=constant))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(spec.log_level.upper())
    logging.captureWarnings(True)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True


def _place_in_trace() -> dict[str, str]:
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def error_types(error: BaseException) -> list[str]:
    """Return the names of the types of ``error`` and of what caused it, outermost first."""
    return [f"{type(e).__module__}.{type(e).__qualname__}".removeprefix("builtins.") for e in _chain(error)]


def frames(error: BaseException) -> list[str]:
    """Return where ``error`` comes from, innermost last: files, lines and functions, no values and no messages."""
    innermost = list(_chain(error))[-1]
    places: list[str] = []
    trace = innermost.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return places[-_MAX_FRAMES:]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _MAX_CAUSES:
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            current = cast("BaseExceptionGroup[BaseException]", current).exceptions[0]
        else:
            current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
