"""Decides how an MCP server of `spec.agent.mcpServers` becomes tools; its headers come from Secrets at each request."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx2

from agentservice_api.spec.agent import HeaderValue, McpServer
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles


class SecretHeaders(httpx2.Auth):
    """Sets headers from Secrets on each request, so that a rotated value is used at once."""

    def __init__(self, headers: tuple[HeaderValue, ...], *, secrets: SecretFiles) -> None:
        self._headers = headers
        self._secrets = secrets

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Set the headers of ``request``."""
        for header in self._headers:
            value = self._secrets.read(header.value_from.secret_key_ref)
            if value is not None:
                request.headers[header.name] = value
        yield request


def build_toolset(server: McpServer, *, index: int, secrets: SecretFiles, timeout_seconds: float) -> Any:
    """Return the toolset of ``server``. It connects at a run's first use. Raises ConfigurationRejected."""
    field = f"spec.agent.mcpServers[{index}]"
    try:
        from pydantic_ai.mcp import MCPToolset
    except ImportError:
        raise ConfigurationRejected(
            field, "MCP needs packages that this image lacks: install agentservice-runtime[mcp]"
        ) from None
    try:
        toolset: Any = MCPToolset(
            server.url,
            id=server.name,
            auth=SecretHeaders(server.headers, secrets=secrets) if server.headers else None,
            read_timeout=timeout_seconds,
        )
    except Exception as error:
        raise ConfigurationRejected(field, f"cannot be used: {type(error).__name__}") from error
    if server.allowed_tools:
        allowed = frozenset(server.allowed_tools)

        def is_allowed(_ctx: Any, tool: Any) -> bool:
            return tool.name in allowed

        toolset = toolset.filtered(is_allowed)
    return toolset
