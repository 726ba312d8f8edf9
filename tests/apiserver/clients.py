"""Clients of a real API server, each over connections of its own."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.credentials import Connection, Endpoint, from_kubeconfig


@asynccontextmanager
async def opened(source: Path | Endpoint) -> AsyncIterator[Connection]:
    """A connection to where a kubeconfig or an endpoint says."""
    endpoint = from_kubeconfig(source) if isinstance(source, Path) else source
    connection = Connection(endpoint, clock=time.monotonic)
    try:
        yield connection
    finally:
        await connection.close()


def client_over(connection: Connection, **changes: Any) -> Client:
    """A client as the operator has it; ``changes`` are other arguments."""
    arguments: dict[str, Any] = {"clock": time.monotonic, "random": random.random}
    return Client(wire=connection.wire, session=connection.session(), server=connection.server, **(arguments | changes))


@asynccontextmanager
async def connected(source: Path | Endpoint, **changes: Any) -> AsyncIterator[Client]:
    """A client over a connection that ends with the context."""
    async with opened(source) as connection:
        yield client_over(connection, **changes)
