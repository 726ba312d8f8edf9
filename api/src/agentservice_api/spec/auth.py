"""Decides what `spec.auth` may say: who may call the agent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, ListType, Model, Rule
from agentservice_api.spec.references import ListItemName, SecretSource


class AuthType(StrEnum):
    """How callers prove who they are."""

    NONE = "None"
    BEARER_TOKEN = "BearerToken"  # noqa: S105


CallerHeader = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[-A-Za-z0-9]+$"),
    Explained("auth.callerHeader is an HTTP header's name of letters, digits and '-', for instance X-Caller-Id"),
]
"""The name of the header with the end user."""


class AuthToken(Model):
    """A bearer token and the name by which its holder is known."""

    name: ListItemName = Field(description="The caller's name in logs.")
    value_from: SecretSource = Field(description="The Secret's key that holds the token.")


class AuthSpec(Model):
    """Who may call the agent."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.tokens) || size(self.tokens) == 0 || (has(self.type) && self.type == 'BearerToken')",
            message="auth.tokens are used by type BearerToken only: set auth.type to BearerToken or remove the tokens",
            field_path=".tokens",
        ),
        Rule(
            rule="!has(self.callerHeader) || (has(self.type) && self.type == 'BearerToken')",
            message="auth.callerHeader is honoured after authentication only: set auth.type to BearerToken or remove it",
            field_path=".callerHeader",
        ),
        Rule(
            rule="!has(self.callerHeader) || !self.callerHeader.matches('(?i)^(authorization|proxy-authorization|cookie|host|connection|"
            "content-length|content-type|transfer-encoding|te|upgrade|accept|accept-encoding|user-agent|forwarded|x-forwarded-.*)$')",
            message="auth.callerHeader names a header with a meaning of its own: choose another, for instance X-Caller-Id",
            field_path=".callerHeader",
        ),
    )

    type: AuthType = Field(
        default=AuthType.NONE,
        description="None (default) or BearerToken. BearerToken without tokens: the operator generates one Secret, once; "
        "status.auth.secretName names it.",
    )
    tokens: Annotated[tuple[AuthToken, ...], ListType("map", ("name",)), Field(max_length=64)] = Field(
        default=(),
        description="Tokens that are accepted. Default, with type BearerToken: one that the operator generates.",
    )
    caller_header: CallerHeader | None = Field(
        default=None,
        description="A header that names the end user, honoured after authentication: caller = token's name + this header.",
    )
