"""Decides how many input tokens a model request can be billed at most, from the UTF-8 bytes of what it sends.

No tokenizer in use makes more tokens than bytes: byte-level BPE and SentencePiece with byte fallback spend at least one
byte on a token. What providers add around a text (roles, separators, the frame of a tool) is covered by a fixed amount
for each message, part and tool. An image is billed by its area, so it has a ceiling per provider; audio by its length,
which its bytes bound; video, documents and files at a provider have no bound that can be told from here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson
from pydantic_ai.messages import (
    AudioUrl,
    BaseToolReturnPart,
    BinaryContent,
    CachePoint,
    DocumentUrl,
    FilePart,
    FileUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition
from pydantic_core import to_json

REQUEST_OVERHEAD: Final = 512
"""Tokens: the frame of a request, and a provider's own words about tools (Anthropic adds 346 for them)."""
MESSAGE_OVERHEAD: Final = 48
PART_OVERHEAD: Final = 64
"""A part's role, its ids and the syntax around it."""
TOOL_OVERHEAD: Final = 128
NATIVE_TOOL_OVERHEAD: Final = 2_048
"""A provider's own description of a tool that it runs itself."""

IMAGE_TOKENS: Final[Mapping[str, int]] = {
    "anthropic": 5_000,
    "bedrock": 5_000,
    "google": 6_000,
    "google-gla": 6_000,
    "google-vertex": 6_000,
    "google-cloud": 6_000,
}
"""The most that one image is billed as: by `Model.system`."""
IMAGE_TOKENS_ELSEWHERE: Final = 50_000
"""gpt-4o-mini bills 2,833 and 5,667 for each of up to 8 tiles, the dearest that is known."""
AUDIO_BYTES_PER_TOKEN: Final = 16
"""32 tokens a second at most (Gemini), at 6 kbit/s at least (Opus): 23 bytes for each token."""

_MAX_SCHEMAS: Final = 1_024


@dataclass(slots=True)
class Size:
    """What was found in a request."""

    tokens: int = 0
    """At most, without what is in ``unbounded``."""
    unbounded: str | None = None
    """What cannot be bounded, in words; None when nothing."""


def utf8(text: str) -> int:
    """Return the number of UTF-8 bytes; constant time for ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@dataclass(slots=True)
class Sizer:
    """Measures requests. Schemas of tools are measured once: the same objects come with each request of an agent."""

    _schemas: OrderedDict[int, tuple[Any, int]] = field(default_factory=OrderedDict[int, tuple[Any, int]])

    def measure(self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters, *, system: str) -> Size:
        """Return the size of a request to a model of the provider ``system``."""
        images = IMAGE_TOKENS.get(system, IMAGE_TOKENS_ELSEWHERE)
        size = Size(tokens=REQUEST_OVERHEAD)
        for message in messages:
            size.tokens += MESSAGE_OVERHEAD
            if isinstance(message, ModelResponse):
                # thoughts that the provider keeps are sent by their ids, and read again
                size.tokens += message.usage.output_reasoning_tokens
            for part in message.parts:
                size.tokens += PART_OVERHEAD
                measure = _PARTS.get(type(part))
                if measure is None:
                    measure = _measure_of(type(part))
                measure(part, size, images)
        size.tokens += max(_instructions_of(messages), _instruction_parts(parameters))
        for tool in parameters.function_tools:
            size.tokens += self._tool(tool)
        for tool in parameters.output_tools:
            size.tokens += self._tool(tool)
        if parameters.output_object is not None:
            size.tokens += TOOL_OVERHEAD + self._schema(parameters.output_object.json_schema)
            size.tokens += utf8(parameters.output_object.description or "")
        if parameters.output_mode == "prompted":
            size.tokens += utf8(parameters.prompted_output_instructions or "")
        size.tokens += NATIVE_TOOL_OVERHEAD * len(parameters.native_tools)
        return size

    def _tool(self, tool: ToolDefinition) -> int:
        described = tool.description
        return (
            TOOL_OVERHEAD
            + utf8(tool.name)
            + (utf8(described) if described else 0)
            + self._schema(tool.parameters_json_schema)
        )

    def _schema(self, schema: Any) -> int:
        key = id(schema)
        known = self._schemas.get(key)
        # the object is kept beside its size, so its id is not given to another one
        if known is not None and known[0] is schema:
            return known[1]
        found = json_bytes(schema)
        self._schemas[key] = (schema, found)
        if len(self._schemas) > _MAX_SCHEMAS:
            self._schemas.popitem(last=False)
        return found


def json_bytes(value: Any) -> int:
    """Return the bytes of ``value`` as JSON."""
    try:
        return len(orjson.dumps(value))
    except TypeError:
        return len(to_json(value, fallback=str, inf_nan_mode="strings"))


def _instructions_of(messages: Sequence[ModelMessage]) -> int:
    # each request carries the instructions of its time; only the last ones are sent
    for message in reversed(messages):
        if isinstance(message, ModelRequest):
            return utf8(message.instructions) if message.instructions else 0
    return 0


def _instruction_parts(parameters: ModelRequestParameters) -> int:
    parts = parameters.instruction_parts
    return sum(utf8(part.content) + 4 for part in parts) if parts else 0


def _text(part: Any, size: Size, images: int) -> None:
    size.tokens += utf8(part.content)


def _user(part: UserPromptPart, size: Size, images: int) -> None:
    content = part.content
    if isinstance(content, str):
        size.tokens += utf8(content)
    else:
        _content(content, size, images)


def _content(items: Iterable[Any], size: Size, images: int) -> None:
    for item in items:
        size.tokens += PART_OVERHEAD
        match item:
            case str():
                size.tokens += utf8(item)
            case TextContent(content=text):
                size.tokens += utf8(text)
            case CachePoint():
                pass
            case _:
                _value(item, size, images)


def _value(value: Any, size: Size, images: int) -> None:
    match value:
        case str():
            size.tokens += utf8(value)
        case BinaryContent():
            _binary(value, size, images)
        case ImageUrl():
            size.tokens += images + utf8(value.url)
        case AudioUrl() | VideoUrl() | DocumentUrl() | FileUrl():
            size.unbounded = f"{_KINDS.get(type(value), 'a file')} that is named by a URL"
        case UploadedFile():
            size.unbounded = "a file that is stored at the model's provider"
        case list() | tuple():
            _content(cast("Sequence[Any]", value), size, images)
        case None:
            pass
        case _:
            size.tokens += json_bytes(value)


def _binary(content: BinaryContent, size: Size, images: int) -> None:
    kind = content.media_type
    if kind.startswith("image/"):
        size.tokens += images
    elif kind.startswith("audio/"):
        size.tokens += PART_OVERHEAD + len(content.data) // AUDIO_BYTES_PER_TOKEN
    elif kind.startswith("text/") or kind in ("application/json", "application/xml", "application/yaml"):
        size.tokens += len(content.data)
    else:
        size.unbounded = "a video" if kind.startswith("video/") else "a document"


def _returned(part: BaseToolReturnPart[Any], size: Size, images: int) -> None:
    size.tokens += utf8(part.tool_name)
    _value(part.content, size, images)


def _called(part: ToolCallPart | NativeToolCallPart, size: Size, images: int) -> None:
    args: Any = part.args
    size.tokens += utf8(part.tool_name) + (utf8(args) if isinstance(args, str) else json_bytes(args))


def _thinking(part: ThinkingPart, size: Size, images: int) -> None:
    size.tokens += utf8(part.content) + utf8(part.signature or "")
    if part.provider_details:
        size.tokens += json_bytes(part.provider_details)


def _file(part: FilePart, size: Size, images: int) -> None:
    _binary(part.content, size, images)


def _any(part: Any, size: Size, images: int) -> None:
    # feedback about an answer is shown to the model indented and fenced
    size.tokens += 2 * json_bytes(part) + PART_OVERHEAD


_KINDS: Final[Mapping[type, str]] = {AudioUrl: "audio", VideoUrl: "a video", DocumentUrl: "a document"}
_Measure = Callable[[Any, Size, int], None]
_PARTS: Final[dict[type, _Measure]] = {
    SystemPromptPart: _text,
    UserPromptPart: _user,
    ToolReturnPart: _returned,
    NativeToolReturnPart: _returned,
    TextPart: _text,
    ThinkingPart: _thinking,
    ToolCallPart: _called,
    NativeToolCallPart: _called,
    FilePart: _file,
}


def _measure_of(kind: type) -> _Measure:
    """Return how to measure a part that is not in the table: a subclass of one that is, or anything as JSON."""
    return next((_PARTS[base] for base in kind.__mro__ if base in _PARTS), _any)
