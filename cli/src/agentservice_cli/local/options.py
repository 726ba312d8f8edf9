"""Decides nothing: what was typed after `agentservice run`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What was typed. `secrets` are the values of `--secret`; they may hold keys, so they are never shown."""

    files: tuple[str, ...]
    name: str | None
    namespace: str | None
    host: str
    port: int
    secrets: tuple[str, ...] = field(repr=False)
