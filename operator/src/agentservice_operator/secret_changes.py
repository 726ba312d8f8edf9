"""Decides which digest of Secrets the pods bear: today's, or the one at work when today's cannot be told or compared with it.

So nothing that goes wrong replaces a pod: no permission, an API server that does not answer, a Secret that is away for a moment, a new key
of the digests, a second installation with a key of its own.
"""

from __future__ import annotations

from agentservice_operator.manifest import Key, Owner
from agentservice_operator.render import Rendered
from agentservice_operator.secret_keys import (
    Followed,
    digest,
    is_followed,
    is_missing,
    is_paused,
    is_unreadable,
    missing,
    not_referenced,
    references,
    same_key,
)
from agentservice_operator.secret_reader import SecretReader, UnreadableError


class SecretChanges:
    """What is known of the Secrets of agents that are to be restarted by a change."""

    def __init__(self, reader: SecretReader) -> None:
        self._reader = reader
        self._first_seen: dict[Key, str] = {}
        """Of agents whose pods bear a digest by another key: ours of when we first saw that."""

    async def follow(self, owner: Owner, rendered: Rendered, *, at_work: str | None, paused: bool) -> Followed:
        """Return the digest for the pods of ``rendered``; ``at_work`` is the one that they bear now.

        Raises the client's TransportError and Unauthorized.
        """
        if paused:
            return Followed(at_work=at_work, digest=at_work, verdict=is_paused())
        wanted = references(rendered.children, besides=rendered.generated_secret)
        if not wanted:
            return Followed(verdict=not_referenced())
        try:
            look = await self._reader.look(owner.namespace, (reference.name for reference in wanted))
        except UnreadableError as error:
            verdict = is_unreadable(error.where, why=str(error), forbidden=error.forbidden)
            return Followed(at_work=at_work, digest=at_work, verdict=verdict, again_in=error.again_in)
        absent = missing(wanted, look.found)
        if absent is not None:
            return Followed(at_work=at_work, digest=at_work, verdict=is_missing(absent), again_in=look.again_in)
        today = digest(wanted, look.found, uid=owner.uid, key=look.key)
        return Followed(
            at_work=at_work,
            digest=self._for_pods(Key(owner.namespace, owner.name), today, at_work),
            verdict=is_followed(self._reader.interval),
            again_in=look.again_in,
        )

    def forget(self, key: Key) -> None:
        """Forget an AgentService that is gone."""
        self._first_seen.pop(key, None)

    def _for_pods(self, key: Key, today: str, at_work: str | None) -> str:
        if at_work is None or same_key(at_work, today):
            self._first_seen.pop(key, None)
            return today
        # What has changed before cannot be told; what changes from now on can.
        return at_work if self._first_seen.setdefault(key, today) == today else today
