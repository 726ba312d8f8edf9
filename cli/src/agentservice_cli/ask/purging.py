"""Decides how an agent is told to purge cached answers."""

from __future__ import annotations

from urllib.parse import urlencode

from agentservice_cli.ask.conversation import refusal
from agentservice_cli.ask.exchange import Exchange


def purge(exchange: Exchange, *, tag: str | None, prefix: str | None, token: str | None) -> None:
    """Purge by tag or by prefix, or all answers. `exchange` sends DELETE. Raises CliError."""
    headers = {"User-Agent": "agentservice-cli"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    what = {name: value for name, value in (("tag", tag), ("prefix", prefix)) if value is not None}
    answer = exchange(f"/v1/cache?{urlencode(what)}" if what else "/v1/cache", b"", headers)
    if answer.status != 200:
        raise refusal(answer)
    for _ in answer.chunks:
        pass
