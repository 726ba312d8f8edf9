"""Decides what `spec.model` may say: which model, where it is, with which key and settings."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, ListType, Model, Rule
from agentservice_api.spec.references import OpenObject, SecretSource

Decimal0to2 = Annotated[
    str,
    StringConstraints(max_length=8, pattern=r"^([01](\.[0-9]{1,4})?|2(\.0{1,4})?)$"),
    Explained('write a decimal string from "0" to "2" with at most 4 decimals, for instance "0.2"'),
]
Decimal0to1 = Annotated[
    str,
    StringConstraints(max_length=8, pattern=r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$"),
    Explained('write a decimal string from "0" to "1" with at most 4 decimals, for instance "0.9"'),
]


class ModelSettings(Model):
    """Settings of every model request."""

    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Cap of output tokens of one model request. Default: the provider's."
    )
    temperature: Decimal0to2 | None = Field(default=None, description='A decimal string from "0" to "2".')
    top_p: Decimal0to1 | None = Field(default=None, description='A decimal string from "0" to "1".')
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Asks the provider for repeatable answers, as far as it can. Default: none."
    )
    extra: OpenObject | None = Field(
        default=None, description="Further members of the request's body, as the provider names them."
    )


PerMillionUSD = Annotated[
    str,
    StringConstraints(max_length=16, pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$"),
    Explained(
        "a price is a decimal string of US dollars per million tokens, at most 6 digits before the point and 9 after it, "
        'for instance "0.15"'
    ),
]


class Pricing(Model):
    """What a million tokens cost. Replaces the built-in price and the platform's price book, from the moment it is applied."""

    input_per_million_usd: PerMillionUSD = Field(description="USD per million input tokens.")
    output_per_million_usd: PerMillionUSD = Field(description="USD per million output tokens, reasoning included.")
    cached_input_per_million_usd: PerMillionUSD | None = Field(
        default=None,
        description="USD per million input tokens that the provider read from its cache. Default: as input.",
    )


class ModelChoice(Model):
    """A model: which, where, with which key, settings and price."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.baseURL) || !self.baseURL.matches('^https?://[^/]*@')",
            message="model.baseURL holds a user or password, which everyone who may read this object would see: use model.apiKey",
            field_path=".baseURL",
        ),
    )

    name: Annotated[
        str,
        StringConstraints(max_length=256, pattern=r"^([a-z][a-z0-9-]*:[^\s]+|test)?$"),
        Explained("model.name is provider:model, for instance openai-chat:gpt-4o-mini, or test"),
    ] = Field(
        description="A pydantic-ai model string such as openai-chat:gpt-4o-mini. `test` needs no key and calls no tools. May be empty beside "
        "agent.entrypoint: the agent's own model."
    )
    base_url: (
        Annotated[
            str,
            StringConstraints(max_length=2048, pattern=r"^(https?://[^\s]+)?$"),
            Explained("model.baseURL begins with http:// or https:// and holds no spaces"),
        ]
        | None
    ) = Field(
        default=None,
        alias="baseURL",
        description="An OpenAI-compatible server or a gateway, for instance http://vllm.models.svc/v1.",
    )
    api_key: SecretSource | None = Field(
        default=None,
        description="Absent: the platform's identity (IRSA, workload identity), or a server that needs no key.",
    )
    settings: ModelSettings = Field(default=ModelSettings(), description="Settings of every model request.")
    pricing: Pricing | None = Field(
        default=None,
        description="What the model costs, in place of the built-in price. Needed for a limit in USD where the price is not known: "
        "with a baseURL, a private model, a discount.",
    )


class Fallback(ModelChoice):
    """A model that answers where those before it cannot."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *ModelChoice.rules,
        Rule(
            rule="self.name != ''",
            message="a fallback has no name: name its model, for instance anthropic:claude-haiku-4-5, or remove it",
            field_path=".name",
        ),
    )


class Retry(Model):
    """How often a model request that failed is sent again, and after which pause."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.backoffSeconds) ? self.backoffSeconds : 1) <= (has(self.maxBackoffSeconds) ? self.maxBackoffSeconds : 60)",
            message="model.retry.backoffSeconds is more than maxBackoffSeconds (default 60): lower it or raise maxBackoffSeconds",
            field_path=".backoffSeconds",
        ),
    )

    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        default=3, description="Attempts of each model at one request, the first one included. 1: no retry. Default 3."
    )
    backoff_seconds: Annotated[int, Field(ge=1, le=60)] = Field(
        default=1, description="Pause after the first failure; it doubles with each further one. Default 1."
    )
    max_backoff_seconds: Annotated[int, Field(ge=1, le=600)] = Field(
        default=60,
        description="Longest pause. A provider that asks for more (Retry-After) is not asked again by this run. Default 60.",
    )


class ModelSpec(ModelChoice):
    """The model that answers, and what happens when it cannot."""

    fallbacks: Annotated[tuple[Fallback, ...], ListType("atomic"), Field(max_length=4)] = Field(
        default=(),
        description="Models that take over, in this order, when the one before is unavailable, limits the rate, fails or times out, after its "
        "retries; never when a key or a request is refused. The one that answered goes on for the rest of the run.",
    )
    retry: Retry = Field(
        default=Retry(), description="Retries of model requests that failed for a reason that may pass."
    )
