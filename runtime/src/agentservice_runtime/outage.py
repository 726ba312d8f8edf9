"""Decides how often a service that cannot be used is complained of: when it goes, and when it is back."""

from __future__ import annotations

import logging

from agentservice_runtime.logs import FIELDS, LOGGER


class Outage:
    """Whether what one part of the runtime needs is away now."""

    def __init__(self, part: str, *, away: str, back: str) -> None:
        """``part`` ends the logger's name; ``away`` and ``back`` are what is logged."""
        self._logger = logging.getLogger(f"{LOGGER}.{part}")
        self._away = away
        self._back = back
        self._is_away = False

    def tell(self, error: Exception | None) -> None:
        """Log the first ``error``, and the first success after it. Only its type: a client's own words may name the address."""
        if (error is not None) == self._is_away:
            return
        self._is_away = error is not None
        if error is None:
            self._logger.info(self._back)
        else:
            self._logger.warning(self._away, extra={FIELDS: {"error": type(error).__name__}})
