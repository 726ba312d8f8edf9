"""Decides which model object `spec.model` stands for, and how its key reaches each request.

A provider's SDK never holds the key. It is given a placeholder; a hook of the HTTP client puts the key of this
moment into the headers of each request. So a rotated key is used at once, and nothing that the SDK logs, retries or
quotes in an error can hold it.
"""

from __future__ import annotations

import inspect
import os
import secrets as randomness
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, get_args

import httpx2

from agentservice_api.spec import ModelChoice
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.testmodel import NAME as TEST
from agentservice_runtime.tracing.clients import traced

NAME_FIELD: Final = "spec.model.name"
_NO_KEY: Final = "no-key"
_CONNECT_SECONDS: Final = 5.0
_MAX_CONNECTIONS: Final = 1000

_FOREIGN_CLIENT: Final = frozenset({"groq", "mistral", "cohere", "huggingface", "xai"})
"""Providers whose SDKs take another HTTP library's client: their key is read once, at start."""

_EXTRAS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "boto3": "bedrock",
    "botocore": "bedrock",
}


def build_model(spec: ModelChoice, *, secrets: SecretFiles, field: str = "spec.model") -> Any:
    """Return a pydantic-ai Model, or None when the name is empty (the entrypoint's own).

    Raises ConfigurationRejected with the member of ``field``, where the choice stands, that is at fault.
    """
    try:
        return _build(spec, secrets=secrets)
    except ConfigurationRejected as error:
        raise ConfigurationRejected(error.field.replace("spec.model", field, 1), error.message) from None


def _build(spec: ModelChoice, *, secrets: SecretFiles) -> Any:
    if not spec.name:
        return None
    if spec.name == TEST:
        from agentservice_runtime.testmodel import EchoModel

        return EchoModel()
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    def factory(provider_name: str) -> Any:
        return _provider(provider_name, spec, secrets=secrets)

    try:
        return infer_model(spec.name, provider_factory=factory)
    except ImportError as error:
        raise ConfigurationRejected(NAME_FIELD, _missing(spec.name, error)) from None
    except UserError as error:
        raise ConfigurationRejected(NAME_FIELD, _first_line(error)) from None


def model_settings(spec: ModelChoice) -> dict[str, Any]:
    """Return the pydantic-ai settings of every model request. SDK retries are off: each attempt must be seen."""
    given = spec.settings
    settings: dict[str, Any] = {"max_retries": 0}
    if given.max_tokens is not None:
        settings["max_tokens"] = given.max_tokens
    if given.temperature is not None:
        settings["temperature"] = float(given.temperature)
    if given.top_p is not None:
        settings["top_p"] = float(given.top_p)
    if given.seed is not None:
        settings["seed"] = given.seed
    if given.extra:
        settings["extra_body"] = dict(given.extra)
    return settings


def in_place_of(given: Mapping[str, Any] | None, *, replaced: frozenset[str], own: Mapping[str, Any]) -> Any:
    """Return the settings of a request to a model that takes over: ``own``, and of ``given`` what is not among ``replaced``."""
    return {**{name: value for name, value in (given or {}).items() if name not in replaced}, **own}


def _provider(name: str, spec: ModelChoice, *, secrets: SecretFiles) -> Any:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.providers import infer_provider_class

    try:
        provider = infer_provider_class(name)
    except ValueError:
        raise ConfigurationRejected(
            NAME_FIELD, f"there is no provider {name!r}: use for instance openai-chat:, anthropic:, google: or bedrock:"
        ) from None
    accepted: Mapping[str, Any] = inspect.signature(provider.__init__).parameters
    arguments: dict[str, Any] = {}
    if spec.base_url:
        target = next((n for n in ("base_url", "azure_endpoint") if n in accepted), None)
        if target is None:
            raise ConfigurationRejected(
                "spec.model.baseURL",
                f"the provider {name!r} takes none: remove it, or use openai-chat: for a compatible server",
            )
        arguments[target] = spec.base_url
    key = spec.api_key.secret_key_ref if spec.api_key else None
    hooked = "http_client" in accepted and name not in _FOREIGN_CLIENT
    is_openai = hooked and _has_openai_client(provider)
    hooks: list[Any] = []
    if key is not None:
        if "api_key" not in accepted:
            raise ConfigurationRejected(
                "spec.model.apiKey", f"the provider {name!r} takes none: remove it and use the platform's identity"
            )
        arguments["api_key"] = placeholder = f"key-{randomness.token_hex(8)}"
        if hooked:
            hooks.append(key_hook(placeholder, lambda: secrets.read(key)))
        else:
            arguments["api_key"] = secrets.read(key) or placeholder
    elif spec.base_url and "api_key" in accepted and not _key_in_environment(name):
        arguments["api_key"] = _NO_KEY
    if hooks or is_openai:
        arguments["http_client"] = _http_client(hooks)
    try:
        made = provider(**arguments)
    except (UserError, TypeError, ValueError) as error:
        raise ConfigurationRejected("spec.model", _first_line(error)) from None
    if is_openai:
        from agentservice_runtime.openai_client import shorten

        shorten(made.client)
    return made


def _has_openai_client(provider: type[Any]) -> bool:
    """Tell whether a provider is one of the many that are spoken to by OpenAI's SDK, without importing it for the others."""
    clients = (client for base in getattr(provider, "__orig_bases__", ()) for client in get_args(base))
    return any(getattr(client, "__name__", "") == "AsyncOpenAI" for client in clients)


def _http_client(hooks: list[Any]) -> httpx2.AsyncClient:
    from agentservice_runtime.aiohttp_transport import AiohttpTransport

    return traced(
        httpx2.AsyncClient(
            transport=AiohttpTransport(max_connections=_MAX_CONNECTIONS),
            timeout=httpx2.Timeout(600.0, connect=_CONNECT_SECONDS),
            event_hooks={"request": hooks},
        )
    )


def key_hook(placeholder: str, read: Callable[[], str | None]) -> Callable[[Any], Awaitable[None]]:
    """Return a request hook that replaces ``placeholder`` in the headers by what ``read`` returns."""

    async def put_key(request: Any) -> None:
        for name, value in list(request.headers.items()):
            if placeholder in value:
                request.headers[name] = value.replace(placeholder, read() or _NO_KEY)

    return put_key


def _key_in_environment(provider: str) -> bool:
    prefix = provider.partition("-")[0].upper()
    return f"{prefix}_API_KEY" in os.environ


def _missing(model: str, error: ImportError) -> str:
    package = (error.__cause__.name if isinstance(error.__cause__, ImportError) else error.name) or "a package"
    extra = _EXTRAS.get(package.partition(".")[0], model.partition(":")[0].partition("-")[0])
    return f"{model} needs the package {package!r}, which this image lacks: install agentservice-runtime[{extra}]"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
