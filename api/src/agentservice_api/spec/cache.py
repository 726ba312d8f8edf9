"""Decides what `spec.cache` may say: which answers are given again, to whom, and for how long."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, ListType, Model

MAX_TTL_SECONDS: Final = 2_592_000
"""30 days."""

Tag = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
    Explained("a tag of cache.tags is letters, digits, '-', '_' and '.', for instance catalog"),
]
"""A word by which answers are purged."""


class CacheScope(StrEnum):
    """Among whom an answer is shared."""

    CALLER = "Caller"
    """The caller who got it: the token's name and the header of auth.callerHeader."""
    SHARED = "Shared"
    """All callers alike."""


class CacheSpec(Model):
    """Answers that are given again, without a model request, to requests that are equal in everything the model is sent."""

    enabled: bool = Field(default=False, description="Whether answers are kept. Default false. Needs spec.redis.")
    ttl_seconds: Annotated[int, Field(ge=1, le=MAX_TTL_SECONDS)] = Field(
        default=3600, description="Seconds that an answer is kept at most; up to a tenth less, by chance. Default 3600."
    )
    scope: CacheScope = Field(
        default=CacheScope.CALLER,
        description="Caller (default): an answer is given again to the caller who got it, and a request whose caller is not known is "
        "not cached. Shared: to everybody.",
    )
    tags: Annotated[tuple[Tag, ...], ListType("set"), Field(max_length=16)] = Field(
        default=(), description="Words by which the answers can be purged. Default: none."
    )
    cacheable_tools: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...],
        ListType("set"),
        Field(max_length=128),
    ] = Field(
        default=(),
        description="Tools, by the names that the model sees, whose results may be kept with the answer and whose effects need not happen "
        "again. A run that calls another tool is not cached. Default: none.",
    )
