"""Decides what `DELETE /v1/cache` purges: the answers with a tag, those to messages that begin so, or all of this service.

Whoever may ask the agent may do it, for all callers: a purge costs model requests, and shows nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import QueryParams

from agentservice_runtime.cache.outcome import Unavailable
from agentservice_runtime.cache.purges import MAX_PREFIX
from agentservice_runtime.errors import Category, Problem, ServiceError, unprocessable
from agentservice_runtime.logs import FIELDS, LOGGER

if TYPE_CHECKING:  # its store imports the Redis client
    from agentservice_runtime.cache.cache import Cache

NO_CACHE: Final = Problem(
    status=404,
    title="No cache",
    detail="This agent keeps no answers: spec.cache is not enabled.",
    category=Category.VALIDATION,
)
NOT_PURGED: Final = Problem(
    status=503,
    title="Cache unavailable",
    detail="The cache's Redis does not answer, so it is not known whether the answers were purged. Send the request again.",
    category=Category.EXTERNAL_SERVICE,
    retryable=True,
    retry_after=5,
)


class PurgeEndpoint:
    """Answers `DELETE /v1/cache`."""

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache

    async def purge(self, query: QueryParams, *, caller: str | None) -> dict[str, Any]:
        """Purge for ``caller`` and say what. Raises ServiceError."""
        if self._cache is None:
            raise ServiceError(NO_CACHE)
        tag, prefix = self._what(self._cache, query)
        try:
            await self._cache.purge(tag=tag, prefix=prefix)
        except Unavailable:
            raise ServiceError(NOT_PURGED) from None
        what = "tag" if tag is not None else "prefix" if prefix is not None else "all"
        fields = {"caller": caller, "what": what, **({} if tag is None else {"tag": tag})}
        logging.getLogger(f"{LOGGER}.cache").info("cache purged", extra={FIELDS: fields})
        return {"purged": what}

    def _what(self, cache: Cache, query: QueryParams) -> tuple[str | None, str | None]:
        unknown = sorted(query.keys() - {"tag", "prefix"})
        # a parameter that is misspelt must not purge everything
        if unknown or len(query.multi_items()) > 1:
            raise unprocessable("give one of the parameters tag and prefix, once, or none to purge all answers")
        tag, prefix = query.get("tag"), query.get("prefix")
        if tag is not None and tag not in cache.tags:
            known = ", ".join(sorted(cache.tags)) or "none"
            raise unprocessable(f"no answer has this tag; spec.cache.tags names: {known}")
        if prefix is not None and not 0 < len(prefix) <= MAX_PREFIX:
            raise unprocessable(f"prefix is the beginning of a message, 1 to {MAX_PREFIX} characters")
        return tag, prefix
