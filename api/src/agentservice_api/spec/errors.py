"""Decides what `spec.errors` may say: what callers read when a run fails."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from agentservice_api.schema import Model

ErrorMessage = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class ErrorMessages(Model):
    """Texts by category. They replace `detail` of the problem; everything else of it stays."""

    rate_limit: ErrorMessage | None = Field(
        default=None, alias="rate_limit", description="The model's provider limits the rate of requests."
    )
    timeout: ErrorMessage | None = Field(
        default=None, alias="timeout", description="The run, or something that it waited for, took too long."
    )
    validation: ErrorMessage | None = Field(
        default=None,
        alias="validation",
        description="The model's answer does not fit, or its provider refuses the request. What is wrong with a caller's own request is "
        "always told in our words, which name the field.",
    )
    external_service: ErrorMessage | None = Field(
        default=None,
        alias="external_service",
        description="The model's provider or a tool server failed or refused.",
    )
    internal: ErrorMessage | None = Field(
        default=None, alias="internal", description="The agent's own code failed, or the runtime."
    )
    budget: ErrorMessage | None = Field(
        default=None, alias="budget", description="A limit of the run or of the budget is used up."
    )
    overloaded: ErrorMessage | None = Field(
        default=None, alias="overloaded", description="The pod has no room for another run, or is stopping."
    )


class ErrorsSpec(Model):
    """What callers read when a run fails."""

    messages: ErrorMessages = Field(
        default=ErrorMessages(), description="Texts in place of ours, by the category of the failure."
    )
