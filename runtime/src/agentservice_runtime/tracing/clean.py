"""Decides what of a span leaves the process: no key ever, and no content unless it was asked for.

pydantic-ai leaves prompts and answers out by itself. An exception's message is another way out, for it may quote a request
or an upstream body, and so is the query of a URL. Both are taken off here, whoever made the span: this program, a library,
or the user's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

_MESSAGES: Final = ("exception.message", "exception.stacktrace", "logfire.msg", "logfire.json_schema")
"""Members of an event `exception`, and of the span that logs one, that may quote anything."""
_URLS: Final = frozenset({"http.url", "url.full", "http.target"})
_QUERY: Final = "url.query"
_EXCEPTION: Final = "exception.type"

Redact = Callable[[str], str]


def cleaned(span: ReadableSpan, *, redact: Redact, with_content: bool) -> ReadableSpan:
    """Return ``span`` as it may leave."""
    attributes = _attributes(span.attributes, redact=redact, with_content=with_content)
    events = [
        Event(
            redact(event.name),
            attributes=_attributes(event.attributes, redact=redact, with_content=with_content),
            timestamp=event.timestamp,
        )
        for event in span.events
    ]
    status = span.status
    if status.description:
        status = Status(status.status_code, redact(status.description) if with_content else None)
    return ReadableSpan(
        name=redact(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(given: Mapping[str, Any] | None, *, redact: Redact, with_content: bool) -> dict[str, Any]:
    known = given or {}
    hidden = () if with_content or _EXCEPTION not in known else _MESSAGES
    found: dict[str, Any] = {}
    for name, value in known.items():
        if name == _QUERY or name in hidden:
            continue
        if name in _URLS and isinstance(value, str):
            value = value.partition("?")[0]
        found[name] = _redacted(value, redact)
    return found


def _redacted(value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [redact(item) if isinstance(item, str) else item for item in cast("Sequence[Any]", value)]
    return value
