"""`agentservice render`: the children of each AgentService, offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentservice_cli import manifests
from agentservice_cli.cluster.platform import Installation
from agentservice_cli.cluster.rendering import UID_PLACEHOLDER, children_of, instructions_from, resource_of
from agentservice_cli.exits import CliError
from agentservice_cli.local.agent import parse_agent
from agentservice_cli.local.sources import read_sources


def render_files(
    files: Sequence[str], *, name: str | None, namespace: str | None, installation: Installation
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the children of every AgentService (or the one called `name`), and notes on what is a placeholder.

    Raises CliError.
    """
    found = manifests.read(files)
    documents = found.agents if name is None and found.agents else (found.agent(name),)
    sources = read_sources(found)
    children, notes = list[dict[str, Any]](), list[str]()
    for document in documents:
        if not document.name:
            raise CliError(f"{document.origin}: metadata.name is missing", mend="give the AgentService a name")
        parse_agent(document.content, origin=document.origin)
        where = namespace or document.namespace or "default"
        resource = resource_of(
            document.content, namespace=where, uid=UID_PLACEHOLDER, installation=installation, origin=document.origin
        )
        rendered = children_of(resource, installation=installation, instructions=instructions_from(resource, sources))
        children += rendered.children
        notes.append(
            f"{document.name}: revision {rendered.revision}; the owner's uid {UID_PLACEHOLDER} is a placeholder"
        )
        if rendered.generated_secret:
            notes.append(
                f"{document.name}: the operator also generates the Secret {document.name}-token-UID8, once, with a random token"
            )
    return children, notes
