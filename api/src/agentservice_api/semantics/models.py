"""Decides whether the model can be built: a provider that exists and is in the image, settings that we may pass on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from agentservice_api.problem import Problem
from agentservice_api.spec import AgentServiceSpec, ModelChoice

SHIPPED: Final = frozenset(
    {
        "alibaba", "anthropic", "azure", "azure-responses", "bedrock", "bedrock-mantle", "cerebras", "crusoe", "deepseek", "fireworks",
        "github", "google", "google-cloud", "heroku", "litellm", "meta", "moonshotai", "nebius", "ollama", "openai", "openai-chat",
        "openai-responses", "openrouter", "ovhcloud", "sambanova", "snowflake", "together", "vercel", "vllm", "zai",
    }
)  # fmt: skip
"""Providers of pydantic-ai that the runtime's image can reach: those of the extras openai, anthropic, google and bedrock."""
NOT_SHIPPED: Final = frozenset({"cohere", "groq", "huggingface", "mistral", "xai"})
"""Providers of pydantic-ai that need a package which only an image of the user's own can have."""
_FORBIDDEN_EXTRA: Final = frozenset(
    {
        "n", "candidate_count", "candidatecount", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "maxoutputtokens",
        "service_tier", "servicetier", "model", "stream", "stream_options", "messages",
    }
)  # fmt: skip
"""Members of a request, in lower case, that would break the bound on what a request may cost, or the runtime itself."""


def model_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    """Yield what is wrong with any model that the specification names."""
    for field, model in spec.models:
        own = model is spec.model and spec.agent.entrypoint is not None
        yield from _choice_problems(spec, model, field, entrypoint=own)


def _choice_problems(spec: AgentServiceSpec, model: ModelChoice, field: str, *, entrypoint: bool) -> Iterator[Problem]:
    yield from _name_problems(model.name, f"{field}.name", own_image=bool(spec.runtime.image), entrypoint=entrypoint)
    if model.base_url:
        yield from url_problems(model.base_url, f"{field}.baseURL")
    for key in model.settings.extra or {}:
        if key.lower() in _FORBIDDEN_EXTRA:
            yield Problem(
                f"{field}.settings.extra.{key}",
                "may not be set here: the number of answers, token caps, the service tier, the model and streaming decide what a request "
                "costs; use settings.maxTokens and model.name",
            )


def _name_problems(name: str, field: str, *, own_image: bool, entrypoint: bool) -> Iterator[Problem]:
    if name == "test":
        return
    if not name:
        if not entrypoint:
            yield Problem(field, "may be empty only beside agent.entrypoint: name a model, or test")
        return
    provider = name.partition(":")[0]
    if provider in SHIPPED:
        return
    if provider in NOT_SHIPPED:
        if not own_image:
            yield Problem(
                field,
                f"the default image lacks the provider {provider}: build an image with pydantic-ai-slim[{provider}] on it and name it in "
                "runtime.image",
            )
        return
    near = difflib.get_close_matches(provider, sorted(SHIPPED | NOT_SHIPPED), n=1, cutoff=0.75)
    if own_image and not near:
        return  # its pydantic-ai may be newer than ours
    mend = f"did you mean {near[0]}?" if near else "an OpenAI-compatible server is openai-chat with model.baseURL"
    yield Problem(field, f"there is no provider {provider[:60]}: {mend}")


def url_problems(url: str, field: str) -> Iterator[Problem]:
    """Yield what is wrong with an address that already begins with http:// or https://."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        yield Problem(field, f"is not a URL: {error}")
        return
    if not host:
        yield Problem(field, "names no host: write http://host:port/path")
    if port == 0:
        yield Problem(field, "names port 0: write a port from 1 to 65535")
    if parts.fragment:
        yield Problem(field, "holds a #fragment, which is never sent: remove it")
