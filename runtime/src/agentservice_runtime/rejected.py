"""Decides how a configuration that cannot be used is reported: one line that names the field and the mend."""

from __future__ import annotations

from typing import Final

EX_CONFIG: Final = 78
"""Exit code of a rejected configuration (sysexits.h): restarting will not mend it."""


class ConfigurationRejected(Exception):  # noqa: N818  the operator's reason has this name
    """The configuration cannot be used. ``field`` is a path such as ``spec.agent.entrypoint``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class StartFailed(Exception):  # noqa: N818
    """The process could not start for a reason that may pass: a restart may mend it."""
