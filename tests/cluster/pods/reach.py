"""Runs in a pod of the cluster, for those who call: a node hears of pods that are ready a moment after they are."""

from __future__ import annotations

import asyncio
import time

import httpx2

SECONDS = 30.0


async def reach(client: httpx2.AsyncClient, url: str) -> None:
    """Return once something answers at the agent's ``url``, whatever it says, or after SECONDS: then the calls tell why not."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            await client.get(f"{url}/v1/run")
            return
        except httpx2.TransportError:
            await asyncio.sleep(0.2)
