"""Decides which versions matter to somebody who reports a problem."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = (
    "agentservice",
    "agentservice-api",
    "agentservice-runtime",
    "agentservice-operator",
    "pydantic-ai-slim",
    "kubernetes",
)


def installed() -> dict[str, str]:
    """Return each distribution's version; one that is not installed says so."""
    found = {name: _version(name) for name in _DISTRIBUTIONS}
    return {**found, "python": platform.python_version(), "platform": platform.platform(terse=True)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
