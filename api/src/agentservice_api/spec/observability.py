"""Decides what `spec.observability` may say: logs, traces, who scrapes, and the environment's name."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, ListType, Model, Rule
from agentservice_api.spec.references import HeaderName, SecretSource


class LogLevel(StrEnum):
    """The least severe message that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    JSON = "json"
    TEXT = "text"


class OtlpHeader(Model):
    """A header of every request to the collector, from a Secret."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!self.name.matches('(?i)^(host|connection|content-length|content-type|content-encoding|transfer-encoding|te|upgrade)$')",
            message="this header belongs to HTTP or to the exporter: remove it",
            field_path=".name",
        ),
    )

    name: HeaderName = Field(description="Name of the header, for instance Authorization.")
    value_from: SecretSource = Field(description="The Secret's key that holds the whole value of the header.")


class OtlpSpec(Model):
    """Where traces are sent by OTLP over HTTP, in protobuf."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!self.endpoint.matches('^https?://[^/]*@')",
            message="endpoint holds a user or password, which everyone who may read this object would see: use headersFrom",
            field_path=".endpoint",
        ),
    )

    endpoint: Annotated[
        str,
        StringConstraints(max_length=2048, pattern=r"^https?://[^\s?#]+$"),
        Explained("endpoint begins with http:// or https:// and holds no spaces and no query"),
    ] = Field(
        description="Address of the collector, for instance http://otel-collector.observability:4318; /v1/traces is added."
    )
    sample_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        default=100,
        description="Share of runs that are traced, where the caller has not decided it (traceparent). Default 100.",
    )
    headers_from: Annotated[tuple[OtlpHeader, ...], ListType("map", ("name",)), Field(max_length=16)] = Field(
        default=(), description="Headers of every request to the collector, from Secrets. Default: none."
    )


class LogfireSpec(Model):
    """Pydantic Logfire."""

    token_from: SecretSource = Field(description="The Secret's key that holds the project's write token.")


class ObservabilitySpec(Model):
    """What the agent tells about itself."""

    environment: Annotated[
        str,
        StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$"),
        Explained(
            "observability.environment is one word of letters, digits, '-', '_' and '.', for instance production"
        ),
    ] = Field(
        default="production",
        description="Name of the environment: the variable ENVIRONMENT, ctx.deps, logs. Default production.",
    )
    log_level: LogLevel = Field(
        default=LogLevel.INFO,
        description="The least severe message that is logged: debug, info, warning or error. Default info.",
    )
    log_format: LogFormat = Field(
        default=LogFormat.JSON, description="How a log line looks: json or text. Default json."
    )
    slow_run_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None, description="A run that takes longer is logged as a warning. Default: never."
    )
    include_content: bool = Field(
        default=False,
        description="true: traces hold prompts, answers, what tools are given and answer, and messages of errors. Default false.",
    )
    input_attributes: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...],
        ListType("set"),
        Field(max_length=16),
    ] = Field(
        default=(),
        description="Properties of the typed input (`agent.input.schema`) that a run's span carries, for instance customer_id. "
        "Default: none.",
    )
    otlp: OtlpSpec | None = Field(
        default=None, description="Traces go to this OpenTelemetry collector. Default: nowhere."
    )
    logfire: LogfireSpec | None = Field(
        default=None, description="Traces go to Pydantic Logfire, beside `otlp` where both are named. Default: nowhere."
    )

    @property
    def is_traced(self) -> bool:
        """Whether traces are sent anywhere."""
        return self.otlp is not None or self.logfire is not None

    @property
    def secrets(self) -> tuple[SecretSource, ...]:
        """Every Secret's key that sending traces needs."""
        headers = () if self.otlp is None else tuple(header.value_from for header in self.otlp.headers_from)
        return headers if self.logfire is None else (*headers, self.logfire.token_from)
