"""Decides how a fault in a specification is told: the field, and what is wrong with the mend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One fault. Neither part ever holds the value of a Secret."""

    field: str
    """Path as the author writes it, for instance ``spec.agent.mcpServers[0].url``."""
    message: str
    """What is wrong and how to mend it, without the field's path in front."""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"
