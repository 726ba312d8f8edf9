"""Decides what the bytes of a server-sent event stream say (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event; `data` is decoded JSON, or the text when it is not JSON."""

    name: str
    data: Any


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield each complete event. Comments, ids and what is cut off at the end are dropped."""
    name, data = "", list[str]()
    for line in lines(chunks):
        if line == "":
            if data:
                yield Event(name or "message", _decoded("\n".join(data)))
            name, data = "", []
            continue
        member, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if member == "event":
            name = value
        elif member == "data":
            data.append(value)


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines as soon as they are complete; a character cut by a chunk's end is put together again."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
