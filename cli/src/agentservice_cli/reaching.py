"""Decides how a command asks an agent that is named by its AgentService, a local run or a URL. The import of weight happens on use."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentservice_cli.connecting import connected
from agentservice_cli.terminal import note

if TYPE_CHECKING:
    from agentservice_cli.ask.exchange import Answer, Exchange

Target = Annotated[str, typer.Argument(metavar="NAME|URL", help="The AgentService, or where it answers.")]
Token = Annotated[
    str | None, typer.Option(envvar="AGENTSERVICE_TOKEN", help="The bearer token, or @FILE.", show_envvar=True)
]
Timeout = Annotated[float, typer.Option(min=1, help="Longest silence, in seconds.")]


class Agent:
    """One agent, asked with any method."""

    def __init__(
        self,
        target: str,
        *,
        token: str | None,
        timeout: float,
        namespace: str | None,
        context: str | None,
        kubeconfig: str | None,
    ) -> None:
        """Find it. Raises CliError."""
        from agentservice_cli.ask import conversation
        from agentservice_cli.ask import target as targets
        from agentservice_cli.local.running import local_runs

        self._given = conversation.secret_of(token) if token else None
        self._timeout = timeout
        self._namespace = namespace
        self._exchanges: dict[str, Exchange] = {}
        self._known: str | None = None
        self._whom = targets.decide(
            target, runs=local_runs(), cluster_is_meant=bool(namespace or context or kubeconfig)
        )
        if isinstance(self._whom, targets.AtUrl):
            self._known = self._whom.token or None
            if self._whom.about:
                note(self._whom.about)
        self._connect = functools.cache(lambda: connected(context, kubeconfig))

    def exchange(self, method: str) -> Exchange:
        """Return how it is asked. Raises CliError."""
        if method not in self._exchanges:
            self._exchanges[method] = self._reach(method)
        return self._exchanges[method]

    @property
    def token(self) -> str | None:
        """What it is asked with, once there is an exchange."""
        return self._given or self._known

    def ask(self, method: str, path: str, *, content: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send a request with JSON or nothing in it. Raises CliError when nobody answers."""
        exchange = self.exchange(method)
        sent = {"User-Agent": "agentservice-cli", **(headers or {})}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if content is not None:
            sent["Content-Type"] = "application/json"
        return exchange(path, b"" if content is None else json.dumps(content).encode(), sent)

    def _reach(self, method: str) -> Exchange:
        from agentservice_cli.ask.exchange import to_url
        from agentservice_cli.ask.target import AtUrl

        if isinstance(self._whom, AtUrl):
            return to_url(self._whom.url, timeout=self._timeout, method=method)
        cluster = self._connect()
        from agentservice_cli.cluster.exchange import reach

        reached = reach(
            cluster,
            namespace=self._namespace or cluster.namespace,
            name=self._whom.name,
            token=self._given,
            timeout=self._timeout,
            method=method,
        )
        self._known = reached.token
        return reached.exchange
