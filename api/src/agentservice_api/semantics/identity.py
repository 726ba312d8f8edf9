"""Decides whether tokens, headers and Secrets are told apart: no two of them may mean the same thing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from agentservice_api.problem import Problem
from agentservice_api.semantics.models import url_problems
from agentservice_api.spec import AgentServiceSpec, AgentSpec, AuthSpec, SecretKeySelector

MAX_SECRET_KEYS: Final = 256
"""Distinct keys. They are listed in one projected volume, which is repeated in every pod and ReplicaSet."""


def mcp_problems(agent: AgentSpec) -> Iterator[Problem]:
    """Yield malformed addresses of MCP servers, and headers that stand there twice (their case does not matter)."""
    for index, server in enumerate(agent.mcp_servers):
        field = f"spec.agent.mcpServers[{index}]"
        yield from url_problems(server.url, f"{field}.url")
        seen: dict[str, int] = {}
        for position, header in enumerate(server.headers):
            first = seen.setdefault(header.name.lower(), position)
            if first != position:
                yield Problem(
                    f"{field}.headers[{position}].name",
                    f"is the same header as headers[{first}], whose name differs in case only: remove one",
                )


def auth_problems(auth: AuthSpec) -> Iterator[Problem]:
    """Yield tokens that stand in the same Secret key: their callers could not be told apart."""
    seen: dict[tuple[str, str], int] = {}
    for index, token in enumerate(auth.tokens):
        reference = token.value_from.secret_key_ref
        first = seen.setdefault((reference.name, reference.key), index)
        if first != index:
            yield Problem(
                f"spec.auth.tokens[{index}].valueFrom.secretKeyRef",
                f"is the Secret key of tokens[{first}] already, so the two callers could not be told apart: give each its own",
            )


def secret_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    """Yield a problem when more Secret keys are named than one pod should mount."""
    keys: defaultdict[tuple[str, str], int] = defaultdict(int)
    for reference in _secret_keys(spec):
        keys[reference.name, reference.key] += 1
    if len(keys) > MAX_SECRET_KEYS:
        yield Problem(
            "spec",
            f"names {len(keys)} Secret keys, at most {MAX_SECRET_KEYS} can be mounted: share keys between mcpServers",
        )


def _secret_keys(spec: AgentServiceSpec) -> Iterable[SecretKeySelector]:
    for _, model in spec.models:
        if model.api_key is not None:
            yield model.api_key.secret_key_ref
    if spec.redis is not None:
        yield spec.redis.url_from.secret_key_ref
    for token in spec.auth.tokens:
        yield token.value_from.secret_key_ref
    for server in spec.agent.mcp_servers:
        for header in server.headers:
            yield header.value_from.secret_key_ref
