"""Decides what has to be written so that the children are as rendered, and nothing more.

For each rendered child: create what is missing, leave what is as we left it, apply what changed, take back what
somebody edited, never touch what is not ours. And prune what is ours but no longer rendered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from agentservice_api import names
from agentservice_operator.manifest import ChildKey, Manifest, Owner, child_key
from agentservice_operator.ownership import (
    foreign_items,
    owns_all,
    set_although_ours_is_empty,
)
from agentservice_operator.takeover import holds_strangers


class Verb(StrEnum):
    """What is done to one child."""

    CREATE = "create"
    APPLY = "apply"
    DELETE = "delete"
    KEEP = "keep"
    WAIT = "wait"
    """It belongs to a deleted namesake, or is being deleted itself: it will go away."""
    REFUSE = "refuse"
    """It is somebody else's."""


class Cause(StrEnum):
    """Why a child is written."""

    MISSING = "missing"
    CHANGED = "changed"
    DRIFTED = "drifted"
    ADOPTED = "adopted"
    UNNEEDED = "unneeded"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One child and what is done to it."""

    child: ChildKey
    verb: Verb
    cause: Cause | None = None
    manifest: Manifest = field(default_factory=dict[str, Any])
    """What is created or applied."""
    live: Manifest | None = None
    """The object that was judged: another one in its place, or a newer state of it, must be judged anew."""
    takes_over: bool = False
    """Items in our lists are somebody else's: an apply removes them only once they are ours."""
    message: str = ""
    """For WAIT and REFUSE: what is in the way and what to do."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All changes, in the order in which they are written."""

    changes: tuple[Change, ...]

    def of(self, *verbs: Verb) -> tuple[Change, ...]:
        """Return the changes with one of ``verbs``."""
        return tuple(change for change in self.changes if change.verb in verbs)

    @property
    def writes(self) -> tuple[Change, ...]:
        """The changes that write."""
        return self.of(Verb.CREATE, Verb.APPLY, Verb.DELETE)


def plan(
    *,
    owner: Owner,
    children: Collection[Manifest],
    observed: Mapping[ChildKey, Manifest],
    adopt: bool,
    prunable: Collection[ChildKey] = (),
) -> Plan:
    """Return the changes that turn ``observed`` into ``children``.

    ``observed`` are the objects that carry our labels; ``prunable`` those of them that may go when they are not
    rendered (old revisions' ConfigMaps stay while a ReplicaSet or pod mounts them).
    """
    rendered = {child_key(manifest): manifest for manifest in children}
    changes = [decide(owner, manifest, observed.get(key), adopt=adopt) for key, manifest in rendered.items()]
    changes += _prune(owner, rendered.keys(), observed, prunable)
    return Plan(changes=tuple(changes))


def _prune(
    owner: Owner, rendered: Collection[ChildKey], observed: Mapping[ChildKey, Manifest], prunable: Collection[ChildKey]
) -> Iterator[Change]:
    for key in sorted(prunable):
        live = observed.get(key)
        if live is None or key in rendered or controller_uid(live) != owner.uid or is_dying(live):
            continue
        yield Change(
            child=key,
            verb=Verb.DELETE,
            cause=Cause.UNNEEDED,
            live=live,
        )


def decide(owner: Owner, manifest: Manifest, live: Manifest | None, *, adopt: bool) -> Change:
    """Return what has to be done so that ``live`` (None: there is no such object) becomes ``manifest``."""
    key = child_key(manifest)
    if live is None:
        return Change(child=key, verb=Verb.CREATE, cause=Cause.MISSING, manifest=manifest)
    if is_dying(live):
        return Change(child=key, verb=Verb.WAIT, message=f"{key} is being deleted; it is created anew when it is gone")
    holder = controller(live)
    # The hash covers the owner's UID: an object that bears it was made for this very AgentService.
    stranger = holder is None and not _bears_intent(live, manifest)
    if stranger and not adopt:
        return Change(child=key, verb=Verb.REFUSE, message=_refusal(owner, key, f"{key} exists and nobody controls it"))
    if holder is not None and holder.get("uid") != owner.uid:
        if _is_namesake(owner, holder):
            return Change(
                child=key,
                verb=Verb.WAIT,
                message=f"{key} still belongs to a deleted AgentService of this name; it will go away",
            )
        who = f"{holder.get('kind')} {holder.get('name')}"
        return Change(
            child=key, verb=Verb.REFUSE, message=f"{key} belongs to {who}: rename this AgentService or remove {who}"
        )
    cause = _cause(live, manifest, adopted=stranger)
    if cause is None:
        return Change(child=key, verb=Verb.KEEP, live=live)
    return Change(
        child=key,
        verb=Verb.APPLY,
        cause=cause,
        manifest=manifest,
        live=live,
        takes_over=holds_strangers(live, manifest, names.FIELD_MANAGER),
    )


def _cause(live: Manifest, manifest: Manifest, *, adopted: bool) -> Cause | None:
    if adopted:
        return Cause.ADOPTED
    if not _bears_intent(live, manifest):
        return Cause.CHANGED  # somebody who edits the hash makes us write once more; nothing worse
    if (
        owns_all(live, manifest, names.FIELD_MANAGER)
        and not set_although_ours_is_empty(live, manifest)
        and next(foreign_items(live, manifest), None) is None
    ):
        return None
    return Cause.DRIFTED


def _bears_intent(live: Manifest, manifest: Manifest) -> bool:
    annotations = cast("dict[str, str]", live["metadata"].get("annotations") or {})
    intent = manifest["metadata"]["annotations"][names.ANNOTATION_INTENT]
    return annotations.get(names.ANNOTATION_INTENT) == intent


def controller(live: Manifest) -> Manifest | None:
    """Return the ownerReference of the controller of ``live``."""
    references = cast("list[Manifest]", live["metadata"].get("ownerReferences") or [])
    return next((reference for reference in references if reference.get("controller")), None)


def controller_uid(live: Manifest) -> str:
    """Return the UID of the controller of ``live``, empty without one."""
    return (controller(live) or {}).get("uid", "")


def is_dying(live: Manifest) -> bool:
    """Tell whether ``live`` is being deleted."""
    return bool(live["metadata"].get("deletionTimestamp"))


def _is_namesake(owner: Owner, holder: Manifest) -> bool:
    return holder.get("kind") == names.KIND and holder.get("name") == owner.name


def _refusal(owner: Owner, key: ChildKey, fact: str) -> str:
    return (
        f"{fact}: rename this AgentService, delete the object, or let the operator take it over: "
        f'kubectl -n {owner.namespace} annotate ags {owner.name} {names.ANNOTATION_ADOPT}="true"'
    )
