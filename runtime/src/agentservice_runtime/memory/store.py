"""Decides what a store of conversations must do, whichever it is.

A conversation has one turn at a time: `begin` gives it to one token, for a while that `renew` prolongs, and only whoever still
holds it may `keep`. So a process that stood still, or a conversation that was deleted meanwhile, brings nothing back.
"""

from __future__ import annotations

from typing import Final, Protocol

CONNECTIONS: Final = 8
"""Of one process. No step takes longer than a round trip."""


class Unavailable(Exception):  # noqa: N818  told to callers as a problem
    """The store cannot be asked."""


class Busy(Exception):  # noqa: N818
    """Another turn of the conversation is under way."""


class Store(Protocol):
    """Conversations by their keys. Every method but `close` raises Unavailable."""

    async def begin(self, key: str, *, token: str, lease_seconds: float) -> bytes | None:
        """Begin a turn and return what is kept, None when nothing is. Raises Busy."""
        ...

    async def renew(self, key: str, *, token: str, lease_seconds: float) -> None:
        """Prolong the turn, if it is still this token's."""
        ...

    async def keep(self, key: str, *, token: str, body: bytes, seconds: float) -> bool:
        """Keep what was said for ``seconds`` and end the turn. Returns False when it is not this token's any more."""
        ...

    async def leave(self, key: str, *, token: str) -> None:
        """End the turn and leave what is kept as it is."""
        ...

    async def read(self, key: str) -> bytes | None:
        """Return what is kept."""
        ...

    async def delete(self, key: str) -> bool:
        """Forget the conversation, the turn under way too. Returns whether anything was kept."""
        ...

    async def sweep(self) -> None:
        """Remove what has outlived its time, where the store does not do so by itself."""
        ...

    async def close(self) -> None:
        """Close all connections. Never raises."""
        ...
