"""Decides whether a request's body is read at all: its type, size, time, syntax and depth."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import Any, Final, cast

import orjson
from starlette.requests import ClientDisconnect, Request

from agentservice_runtime.errors import Category, ClientGone, FieldError, Problem, ServiceError
from agentservice_runtime.runner import invalid

READ_SECONDS: Final = 20.0
"""Seconds that a body may take to arrive. Clients that trickle bytes are answered 408."""
MAX_DEPTH: Final = 100
"""Arrays and objects inside each other. Beyond it lies nothing that an agent's schema describes."""


async def read_body(request: Request, *, max_bytes: int, read_seconds: float = READ_SECONDS) -> dict[str, Any]:
    """Return the members of the JSON body. Raises ServiceError (400, 408, 413, 415, 422) or ClientGone."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise _refused(415, "Unsupported media type", "Send JSON with the header 'Content-Type: application/json'.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _refused(415, "Unsupported content encoding", "Send the body uncompressed.")
    try:
        async with asyncio.timeout(read_seconds):
            content = await _read(request, max_bytes=max_bytes)
    except TimeoutError:
        raise _refused(
            408, "Request too slow", f"The body took longer than {read_seconds:g} seconds to arrive."
        ) from None
    except ClientDisconnect:
        raise ClientGone from None
    return parse_body(content)


def parse_body(content: bytes) -> dict[str, Any]:
    """Return the members of ``content``. Raises ServiceError (400, 422)."""
    try:
        # orjson stops at a depth of 1,024 by itself, so the parser cannot be made to overflow
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _refused(
            400,
            "Malformed JSON",
            f"The body is no valid JSON: {error.msg} at line {error.lineno} column {error.colno}.",
        ) from None
    if _deeper_than(body, MAX_DEPTH):
        raise _refused(
            400, "JSON too deep", f"The body has more than {MAX_DEPTH} arrays and objects inside each other."
        )
    if not isinstance(body, dict):
        raise invalid((FieldError(path="body", message="must be an object"),))
    return cast("dict[str, Any]", body)


def input_of(members: dict[str, Any], *, beside: Container[str] = ()) -> Any:
    """Return the member `input`, beside which only those of ``beside`` may stand. Raises ServiceError (422)."""
    unknown = tuple(
        FieldError(path=name[:100], message="is no field of this request: remove it")
        for name in members
        if name != "input" and name not in beside
    )
    if unknown:
        raise invalid(unknown[:10])
    if "input" not in members:
        raise invalid((FieldError(path="input", message="is required"),))
    return members["input"]


async def _read(request: Request, *, max_bytes: int) -> bytes:
    too_large = _refused(
        413, "Body too large", f"The body is larger than spec.agent.limits.maxBodyBytes ({max_bytes} bytes)."
    )
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    return bytes(content)


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(cast("dict[str, Any]", item).values())
            elif isinstance(item, list):
                below.extend(cast("list[Any]", item))
        level = [item for item in below if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _refused(status: int, title: str, detail: str) -> ServiceError:
    return ServiceError(Problem(status=status, title=title, detail=detail, category=Category.VALIDATION))
