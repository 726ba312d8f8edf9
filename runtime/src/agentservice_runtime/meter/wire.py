"""Decides whether a model request, as it leaves the process, keeps within what was reserved for it.

User code can change a request after pydantic-ai has made it: a subclass of a model, settings of a client, a hook. So the
body is looked at once more by a hook of the HTTP client, whoever made that client. A client that has no such hook
(boto3, gRPC) sends unseen; there the check of the settings is the only one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote

import orjson

from agentservice_runtime.meter import settings as words
from agentservice_runtime.meter.size import utf8

_CONTENT_KEYS: Final = ("messages", "input", "contents", "prompt")
"""One of them is in the body of each model request."""
_MODEL_IN_PATH: Final = ("/models/", "/deployments/", "/model/")
_FILE_KEYS: Final = frozenset({"data", "bytes", "filedata", "imageurl", "url"})
_MIN_FILE: Final = 256
_CLIENT_TOOLS: Final = ("function", "custom", "memory", "tool_search", "bash_", "text_editor_", "computer_")
"""Types of tools that run here, whatever the model asks for."""
_NUMBER_BYTES: Final = 4

_LOOKED_AT: Final = (
    words.CAP_KEYS
    | words.COUNT_KEYS
    | words.MODEL_KEYS
    | words.STATE_KEYS
    | words.TIER_KEYS
    | words.TOOL_KEYS
    | words.NESTED_KEYS
    | {"modalities"}
)

Hook = Callable[[Any], Awaitable[None]]


class Expected(NamedTuple):
    """What was reserved for."""

    model: str
    """As the provider calls it."""
    output_cap: int
    input_tokens: int
    allows_billed_tools: bool


def body_of(request: Any) -> bytes | None:
    """Return the JSON body of an httpx or httpx2 request, or None when it has none that could be a model request."""
    if request.method != "POST":
        return None
    try:
        content: bytes = request.content
    except Exception:  # the body of an upload is a stream that may be read once
        return None
    return content if content[:1] == b"{" else None


def parse(content: bytes) -> dict[str, Any] | None:
    """Return the body of a model request, or None when ``content`` is something else."""
    try:
        body: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    found = cast("dict[str, Any]", body)
    return found if any(key in found for key in _CONTENT_KEYS) else None


def violation(body: Mapping[str, Any], *, path: str, expected: Expected) -> str | None:
    """Return what in the request may cost more than was reserved, in words, or None."""
    caps = 0
    for key, value in body.items():
        name = words.plain(key)
        if name not in _LOOKED_AT or value is None or value is False:
            continue
        if name in words.CAP_KEYS:
            caps += 1
        if name not in words.NESTED_KEYS:
            if _exceeds(name, value, expected):
                return key
        elif isinstance(value, Mapping):
            for below, inner in cast("Mapping[str, Any]", value).items():
                inner_name = words.plain(below)
                if inner_name in words.CAP_KEYS:
                    caps += 1
                if inner is not None and inner is not False and _exceeds(inner_name, inner, expected):
                    return f"{key}.{below}"
    if not caps:
        return "no output cap"
    return "another model" if "model" not in body and _is_path_of_another(unquote(path), expected.model) else None


def text_bytes(value: Any) -> int:
    """Return the UTF-8 bytes of all that a body says; files in it are not counted, for they are not billed by bytes."""
    match value:
        case str():
            return utf8(value)
        case dict():
            total = 0
            for key, below in cast("dict[str, Any]", value).items():
                total += utf8(key)
                if isinstance(below, str) and len(below) > _MIN_FILE and words.plain(key) in _FILE_KEYS:
                    continue
                total += text_bytes(below)
            return total
        case list():
            return sum(text_bytes(item) for item in cast("list[Any]", value))
        case _:
            return _NUMBER_BYTES


def watch(client: Any, hook: Hook) -> bool:
    """Have ``hook`` see each request of the HTTP client behind a provider's ``client``. False: it cannot be found."""
    inner = getattr(getattr(client, "_client", None), "event_hooks", None)
    if isinstance(inner, dict) and hook in cast("dict[str, list[Hook]]", inner).get("request", ()):
        return True  # as it is from the second request on
    for found in _http_clients(client):
        hooks: Any = getattr(found, "event_hooks", None)
        if isinstance(hooks, dict):
            listed = cast("dict[str, list[Hook]]", hooks).setdefault("request", [])
            if hook not in listed:
                listed.append(hook)
            return True
    return False


def _http_clients(client: Any) -> Iterator[Any]:
    yield client
    # OpenAI, Anthropic, Groq and others that Stainless generates; pydantic-ai reads the same attribute
    yield getattr(client, "_client", None)
    # google-genai, likewise
    yield getattr(getattr(client, "_api_client", None), "_async_httpx_client", None)
    # mistralai
    yield getattr(getattr(client, "sdk_configuration", None), "async_client", None)


def _exceeds(name: str, value: Any, expected: Expected) -> bool:
    """Tell whether a member of a body, which is there and not switched off, goes beyond what was reserved for."""
    if name in words.CAP_KEYS:
        # less than 1 means no cap to some servers
        return not isinstance(value, int) or not 0 < value <= expected.output_cap
    if name in words.COUNT_KEYS:
        return value != 1
    if name == "model":
        return value != expected.model
    if name == "prompt":
        return not isinstance(value, str)  # the text of a completion is no stored prompt
    if name in words.MODEL_KEYS or name in words.STATE_KEYS:
        return True
    if name in words.TIER_KEYS:
        return words.is_dear_tier(value)
    if name == "modalities":
        return value != ["text"]
    if expected.allows_billed_tools or name not in words.TOOL_KEYS:
        return False
    if name == "tools":
        return any(_is_billed(tool) for tool in cast("Sequence[Any]", value))
    return name not in ("functions", "toolconfig")


def _is_path_of_another(path: str, model: str) -> bool:
    for part in _MODEL_IN_PATH:
        _, found, rest = path.partition(part)
        if found:
            return not (rest == model or rest.startswith((f"{model}:", f"{model}/")))
    return False


def _is_billed(tool: Any) -> bool:
    if not isinstance(tool, dict):
        return True
    known = cast("dict[str, Any]", tool)
    kind = known.get("type")
    if kind is not None:
        return not str(kind).startswith(_CLIENT_TOOLS)
    # Google: one member for each kind of tool; elsewhere a tool without a type is a function
    return not ("name" in known or set(map(words.plain, known)) <= {"functiondeclarations"})
