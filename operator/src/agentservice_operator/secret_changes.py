"""Decides which digest of Secrets the pods bear in one reconcile: today's, or the one at work when today's cannot be told.

So nothing that goes wrong with reading replaces a pod: no permission, an API server that does not answer, a Secret that is away for a moment.
"""

from __future__ import annotations

from agentservice_operator.manifest import Owner
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
)
from agentservice_operator.secret_reader import SecretReader, UnreadableError


async def follow(
    reader: SecretReader, owner: Owner, rendered: Rendered, *, at_work: str | None, paused: bool
) -> Followed:
    """Return the digest for the pods of ``rendered``; ``at_work`` is the one that they bear now.

    Raises the client's TransportError and Unauthorized.
    """
    if paused:
        return Followed(at_work=at_work, digest=at_work, verdict=is_paused())
    wanted = references(rendered.children, besides=rendered.generated_secret)
    if not wanted:
        return Followed(verdict=not_referenced())
    try:
        look = await reader.look(owner.namespace, (reference.name for reference in wanted))
    except UnreadableError as error:
        verdict = is_unreadable(error.where, why=str(error), forbidden=error.forbidden)
        return Followed(at_work=at_work, digest=at_work, verdict=verdict, again_in=error.again_in)
    absent = missing(wanted, look.found)
    if absent is not None:
        return Followed(at_work=at_work, digest=at_work, verdict=is_missing(absent), again_in=look.again_in)
    return Followed(
        at_work=at_work,
        digest=digest(wanted, look.found, uid=owner.uid, key=look.key),
        verdict=is_followed(reader.interval),
        again_in=look.again_in,
    )
