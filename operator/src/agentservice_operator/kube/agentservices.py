"""Decides how the belief about AgentServices is repaired: by lists of our own beside kopf's event stream.

kopf tells changes at once but has gaps: after a 410 it watches again without telling what happened meanwhile, and a
watch task may die silently. `relist` mends both: it is called at the start, at intervals, and whenever kopf has listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import Gone
from agentservice_operator.kube.resources import AGENTSERVICES
from agentservice_operator.kube.store import ObjectStore, key_of
from agentservice_operator.manifest import Key, Manifest


class AgentServiceStore(ObjectStore):
    """The AgentServices in the watched namespaces."""

    def observe(self, event_type: str, content: Manifest) -> None:
        """One event: ADDED, MODIFIED or DELETED.

        Events of one object come in order, those of two objects of one name (deleted and made again) may not.
        """
        if event_type == "DELETED":
            self.bury(content)
        else:
            self.put(content)

    async def relist(self, client: Client, *, namespaces: Sequence[str] = ()) -> int:
        """Read all AgentServices, put what is newer, drop what is gone. Returns how many statements were news to us.

        Raises:
            KubeError: as the client; the store then holds what was read so far, and nothing was dropped.
        """
        news = 0
        for namespace in tuple(namespaces) or ("",):
            try:
                news += await self._relist(client, namespace)
            except Gone:
                news += await self._relist(client, namespace)  # the pages outlived the server's history: once more
        return news

    async def _relist(self, client: Client, namespace: str) -> int:
        seen: set[Key] = set()
        news = 0
        version = ""
        async with aclosing(client.pages(AGENTSERVICES, namespace=namespace or None)) as pages:
            async for page in pages:
                version = page.resource_version
                for content in page.items:
                    seen.add(key_of(content))
                    news += self.put(content)
        return news + self.prune(seen=seen, version=version, namespace=namespace)
