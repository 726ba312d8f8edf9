"""Decides how a watch's bytes become events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import aiohttp
import orjson

from agentservice_operator.kube.errors import TransportError, error_from_status
from agentservice_operator.kube.resources import Resource
from agentservice_operator.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK (whose object carries only a resourceVersion)."""

    type: str
    object: Manifest


async def lines(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """The complete lines of a stream, of any length; what follows the last newline is dropped."""
    # Not `async for line in stream`: that refuses a line above 128 KiB, and a ConfigMap may have 1 MiB.
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        for piece in rest:
            yield b"".join(parts)
            parts = [piece]


def watch_event(line: bytes, resource: Resource) -> WatchEvent:
    """One line as an event.

    Raises:
        ApiError: an event of type ERROR; `Gone` when the resourceVersion is too old.
        TransportError: not JSON.
    """
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TransportError(f"watch of {resource.label}: a line that is not JSON") from error
    kind: str = event["type"]
    content: Manifest = event["object"]
    if kind == "ERROR":
        raise error_from_status(content, resource=resource)
    name_type(content, resource)
    return WatchEvent(type=kind, object=content)


def name_type(content: Manifest, resource: Resource) -> None:
    """Set apiVersion and kind: a list's items come without them, and partial objects say PartialObjectMetadata."""
    content["apiVersion"] = resource.api_version
    content["kind"] = resource.kind
