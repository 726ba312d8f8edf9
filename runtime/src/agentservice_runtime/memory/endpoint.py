"""Decides what `GET` and `DELETE /v1/conversations/{id}` answer."""

from __future__ import annotations

from typing import Any

from agentservice_runtime.errors import ServiceError
from agentservice_runtime.memory.memory import NO_MEMORY, Memory, conversation_id
from agentservice_runtime.runlog import RunRecord


class ConversationsEndpoint:
    """Shows and forgets conversations, to the caller whose they are."""

    def __init__(self, memory: Memory | None) -> None:
        self._memory = memory

    async def show(self, name: str, record: RunRecord) -> dict[str, Any]:
        """Return what was said, the oldest first. Raises ServiceError."""
        said = await self._known().read(conversation_id(name), end_user=record.end_user)
        return {"conversation_id": name, "messages": [message for turn in said for message in turn.shown()]}

    async def forget(self, name: str, record: RunRecord) -> dict[str, Any]:
        """Forget it. Raises ServiceError."""
        await self._known().delete(conversation_id(name), end_user=record.end_user)
        return {"conversation_id": name, "status": "deleted"}

    def _known(self) -> Memory:
        if self._memory is None:
            raise ServiceError(NO_MEMORY)
        return self._memory
