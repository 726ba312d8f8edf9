"""Decides the text behind `agent.instructionsFrom`, reading its ConfigMap again only when that has changed."""

from __future__ import annotations

from typing import Final

from agentservice_api import AgentService
from agentservice_operator.caches import Store
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import NotFound
from agentservice_operator.kube.resources import CONFIGMAPS

LIMIT: Final = 131_072
"""Characters, as for `agent.instructions`."""


class UnresolvedReferenceError(Exception):
    """The ConfigMap or its key is missing or unusable. The text says what to create."""


class Instructions:
    """Reads referenced ConfigMaps; their metadata is watched, their content is fetched when its version is new."""

    def __init__(self, *, client: Client, references: Store) -> None:
        self._client = client
        self._references = references
        self._read: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}

    async def of(self, resource: AgentService) -> str | None:
        """Return the text, None when the specification has its instructions elsewhere.

        Raises UnresolvedReferenceError, and the client's errors.
        """
        source = resource.spec.agent.instructions_from
        if source is None:
            return None
        namespace, reference = resource.metadata.namespace, source.config_map_key_ref
        where = f"agent.instructionsFrom: ConfigMap {namespace}/{reference.name}"
        data = await self._data(namespace, reference.name)
        if data is None:
            raise UnresolvedReferenceError(
                f"{where} does not exist: create it with the key {reference.key}; it is picked up by itself"
            )
        text = data.get(reference.key)
        if text is None:
            raise UnresolvedReferenceError(f"{where} has no key {reference.key}: add it; it is picked up by itself")
        if not text.strip() or len(text) > LIMIT:
            raise UnresolvedReferenceError(
                f"{where}, key {reference.key}, must hold 1 to {LIMIT} characters, it holds {len(text)}"
            )
        return text

    async def _data(self, namespace: str, name: str) -> dict[str, str] | None:
        known = self._references.get(namespace, name)
        if known is None:
            self._read.pop((namespace, name), None)
            return None
        version = known["metadata"]["resourceVersion"]
        read = self._read.get((namespace, name))
        if read is not None and read[0] == version:
            return read[1]
        try:
            live = await self._client.get(CONFIGMAPS, namespace, name)
        except NotFound:
            return None
        data: dict[str, str] = live.get("data") or {}
        self._read[namespace, name] = (live["metadata"]["resourceVersion"], data)
        return data
