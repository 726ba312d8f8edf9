"""Decides which settings of a model request would let it cost more than its bound, and what its output cap is.

The same names are looked for in pydantic-ai's settings, in `extra_body` and in the body on the wire: the number of
answers, caps of one's own, another model, a dearer tier, conversations and prompts that a provider keeps, tools that it
runs and bills by the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.native_tools import AbstractNativeTool

DEFAULT_OUTPUT_CAP: Final = 4_096
"""Output tokens that a request may have when neither `maxTokens` nor the model's maximum says less."""
THINKING_OUTPUT_CAP: Final = 32_000
"""The same with thinking, whose tokens count as output."""

COUNT_KEYS: Final = frozenset(
    {"n", "bestof", "candidatecount", "numcompletions", "numreturnsequences", "numgenerations", "numoutputs"}
)
"""How many answers: each is billed. Keys are compared in lower case and without `_` and `-`."""
CAP_KEYS: Final = frozenset(
    {
        "maxtokens",
        "maxcompletiontokens",
        "maxoutputtokens",
        "maxnewtokens",
        "maxtokenstosample",
        "maxtokencount",
        "maxgenlen",
        "maxgentokens",
        "maxlength",
        "numpredict",
        "npredict",
    }
)
MODEL_KEYS: Final = frozenset({"model", "models", "modelid", "fallbackmodels", "route", "preset"})
TIER_KEYS: Final = frozenset({"servicetier", "speed", "performanceconfig"})
STATE_KEYS: Final = frozenset(
    {
        "previousresponseid",
        "conversation",
        "prompt",
        "promptvariables",
        "cachedcontent",
        "background",
        "contextmanagement",
        "prediction",
        "container",
    }
)
"""What is billed, but not in the request: kept at the provider, or made there."""
TOOL_KEYS: Final = frozenset({"tools", "plugins", "websearchoptions", "mcpservers", "toolconfig", "functions"})
CONTENT_KEYS: Final = frozenset({"messages", "input", "contents", "system", "instructions", "modalities", "audio"})
NESTED_KEYS: Final = frozenset(
    {"generationconfig", "inferenceconfig", "additionalmodelrequestfields", "parameters", "options"}
)
"""Objects of a body that hold such settings too."""
CHEAP_TIERS: Final = frozenset({"auto", "default", "standard", "standardonly", "flex", "batch"})
"""Tiers that cost the list price or less."""

_STANDARD_TIERS: Final = frozenset({"auto", "default", "standard", "standardonly"})

_EXTRA_BODY: Final = COUNT_KEYS | CAP_KEYS | MODEL_KEYS | TIER_KEYS | STATE_KEYS | TOOL_KEYS | CONTENT_KEYS | {"stream"}
REFUSED_SETTINGS: Final = frozenset(
    {
        "openai_prediction",
        "openai_previous_response_id",
        "openai_conversation_id",
        "openai_background",
        "openai_context_management",
        "openai_native_tools",
        "google_cached_content",
        "xai_previous_response_id",
        "xai_agent_count",
        "anthropic_container",
        "anthropic_context_management",
        "openrouter_models",
        "openrouter_preset",
        "bedrock_prompt_variables",
        "bedrock_inference_profile",
        "bedrock_performance_configuration",
    }
)
_HARMLESS: Final = frozenset({"max_retries", "max_tokens", "temperature", "top_p", "seed", "timeout"})
REFUSED_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "openai_transport": frozenset({"websocket"}),
    "openai_reasoning_mode": frozenset({"pro"}),
    "anthropic_speed": frozenset({"fast"}),
}
TIER_SETTINGS: Final = ("service_tier", "openai_service_tier", "anthropic_service_tier", "bedrock_service_tier")
_GOOGLE_TIER: Final = "google_cloud_service_tier"
_TIER_HEADERS: Final = ("service-tier", "shared-request-type")
_THINKING_PROFILE: Final = ("thinking_always_enabled", "thinking_enabled_by_default", "openai_supports_reasoning")
_THINKING_SETTINGS: Final = ("anthropic_thinking", "google_thinking_config", "openai_reasoning_effort")

FREE_NATIVE_TOOLS: Final = frozenset({"memory", "tool_search"})
"""Native tools that run here, or cost nothing but their tokens. Every other one is billed by the call or by time."""


@lru_cache(maxsize=4_096)
def plain(key: str) -> str:
    """Return ``key`` as it is compared: Google's SDK, for one, takes snake case and camel case alike."""
    return key.replace("_", "").replace("-", "").lower()


def refused_setting(settings: Mapping[str, Any]) -> str | None:
    """Return the setting that a Hard budget cannot bound, in words, or None."""
    if settings.keys() <= _HARMLESS:
        return None
    for name in REFUSED_SETTINGS & settings.keys():
        if settings[name]:
            return name
    for name, values in REFUSED_VALUES.items():
        if settings.get(name) in values:
            return f"{name}={settings[name]}"
    for name in TIER_SETTINGS:
        if is_dear_tier(settings.get(name)):
            return f"{name}"
    if "priority" in str(settings.get(_GOOGLE_TIER) or ""):
        return _GOOGLE_TIER
    extra: Any = settings.get("extra_body")
    if extra:
        if not isinstance(extra, Mapping):
            return "extra_body that is not a map"
        found = next(_refused_keys(cast("Mapping[str, Any]", extra)), None)
        if found is not None:
            return f"extra_body.{found}"
    fields: Any = settings.get("bedrock_additional_model_requests_fields")
    if isinstance(fields, Mapping):
        found = next(_refused_keys(cast("Mapping[str, Any]", fields)), None)
        if found is not None:
            return f"bedrock_additional_model_requests_fields.{found}"
    headers: Any = settings.get("extra_headers")
    for name in cast("Mapping[str, Any]", headers) if isinstance(headers, Mapping) else ():
        if any(part in name.lower() for part in _TIER_HEADERS):
            return f"extra_headers.{name}"
    return None


def is_dear_tier(value: Any) -> bool:
    """Tell whether a service tier may cost more than the list price."""
    if isinstance(value, Mapping):  # Bedrock: {"type": "priority"}
        value = cast("Mapping[str, Any]", value).get("type")
    return value is not None and plain(str(value)) not in CHEAP_TIERS


def is_other_tier(value: Any) -> bool:
    """Tell whether an answer says that it was served in another tier than the standard one."""
    return value is not None and plain(str(value)) not in _STANDARD_TIERS


def _refused_keys(body: Mapping[str, Any]) -> Iterator[str]:
    for key, value in body.items():
        name = plain(key)
        if name in TIER_KEYS and not is_dear_tier(value):
            continue
        if name in COUNT_KEYS and value == 1:
            continue
        if name in _EXTRA_BODY:
            yield key
        elif name in NESTED_KEYS and isinstance(value, Mapping):
            yield from (f"{key}.{below}" for below in _refused_keys(cast("Mapping[str, Any]", value)))


def billed_tool(parameters: ModelRequestParameters) -> AbstractNativeTool | None:
    """Return a tool that the provider runs and bills, or None."""
    return next((tool for tool in parameters.native_tools if tool.kind not in FREE_NATIVE_TOOLS), None)


class Traits(NamedTuple):
    """What the profile of a model says of its output."""

    thinks: bool
    """Whatever the settings say."""
    most_output: int | None
    """Tokens."""


def traits_of(profile: Mapping[str, Any]) -> Traits:
    """Return what ``profile`` says."""
    maximum: Any = profile.get("anthropic_max_output_tokens")
    return Traits(
        thinks=any(profile.get(name) for name in _THINKING_PROFILE),
        most_output=maximum if isinstance(maximum, int) else None,
    )


def thinks(traits: Traits, settings: Mapping[str, Any], parameters: ModelRequestParameters) -> bool:
    """Tell whether the model will think: its thoughts are output too, and its cap must leave room for an answer."""
    if traits.thinks or parameters.thinking:
        return True
    if settings.keys() <= _HARMLESS:
        return False
    if settings.get("thinking"):
        return True
    return any(settings.get(name) not in (None, "none", False) for name in _THINKING_SETTINGS)


def output_cap(traits: Traits, settings: Mapping[str, Any], *, thinks: bool) -> int:
    """Return the output cap of a request: `maxTokens`, the model's maximum or the default, whichever is least."""
    wanted = settings.get("max_tokens")
    if not isinstance(wanted, int):
        wanted = THINKING_OUTPUT_CAP if thinks else DEFAULT_OUTPUT_CAP
    return wanted if traits.most_output is None else min(wanted, traits.most_output)


def model_profile(model: Model[Any]) -> Mapping[str, Any]:
    """Return what pydantic-ai knows of the model; empty where it knows nothing."""
    try:
        return cast("Mapping[str, Any]", model.profile)
    except NotImplementedError:
        return {}
