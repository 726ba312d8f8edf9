"""Decides how long a store may take to answer: as its user asks in the environment, else by default."""

from __future__ import annotations

import os
from collections.abc import Mapping

from agentservice_runtime.rejected import ConfigurationRejected


def answer_seconds(variable: str, *, default: float, environ: Mapping[str, str] = os.environ) -> float:
    """Return the seconds of ``variable``. Raises ConfigurationRejected."""
    given = environ.get(variable)
    try:
        seconds = default if given is None else float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 60:  # NaN is neither
        raise ConfigurationRejected("spec.runtime.env", f"{variable} is a number of seconds, at most 60")
    return seconds
