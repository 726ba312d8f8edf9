"""Decides what `spec.observability` may say: logs and the environment's name."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, Model


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
