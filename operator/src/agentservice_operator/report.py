"""Decides which Events a reconcile is worth: transitions, never states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from agentservice_api import AgentServiceStatus, Condition, ConditionType, EventReason, Reason
from agentservice_operator.plan import Cause, Change, Verb

_BY_CAUSE: Final = {
    Cause.MISSING: (EventReason.CREATED, "created"),
    Cause.CHANGED: (EventReason.UPDATED, "updated"),
    Cause.ADOPTED: (EventReason.UPDATED, "adopted"),
    Cause.DRIFTED: (EventReason.RESTORED, "restored, because somebody had edited"),
    Cause.UNNEEDED: (EventReason.PRUNED, "deleted, because nothing needs it any more:"),
}
_QUIET: Final = frozenset({Reason.PROGRESSING.value, Reason.NO_PODS.value, Reason.WAITING_FOR_DELETION.value})
"""Reasons that say no more than that work is going on."""
_TOLD_OTHERWISE: Final = frozenset(
    {ConditionType.RECONCILING.value, ConditionType.STALLED.value, ConditionType.BUDGET_AVAILABLE.value}
)
"""The first two repeat Ready's reason; the last is told once a window and percentage, by `budget`."""


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """One Event about an AgentService."""

    reason: str
    action: str
    note: str
    warning: bool = False


def written(changes: Iterable[Change], *, secret_changed: bool = False) -> Iterator[Announcement]:
    """Yield one announcement for each cause for which children were written; ``secret_changed``: Deployments were, because of a Secret."""
    by_cause: dict[Cause, list[str]] = {}
    replaced: list[str] = []
    for change in changes:
        if change.cause is not None and change.verb in (Verb.CREATE, Verb.APPLY, Verb.DELETE):
            by_cause.setdefault(change.cause, []).append(str(change.child))
            if secret_changed and change.child.kind == "Deployment" and change.verb is Verb.APPLY:
                replaced.append(str(change.child))
    for cause, children in by_cause.items():
        reason, word = _BY_CAUSE[cause]
        yield Announcement(reason=reason.value, action="Apply", note=f"{word} {', '.join(children)}")
    if replaced:
        note = f"a Secret key that the pods read has changed: those of {', '.join(replaced)} are replaced (rollout.restartOnSecretChange)"
        yield Announcement(reason=EventReason.SECRET_CHANGED.value, action="Apply", note=note)


def contention(kinds: Collection[str]) -> Announcement:
    """Return what is said of an AgentService one of whose ``kinds`` of objects has been written too often."""
    note = (
        f"{', '.join(sorted(kinds))}: written again and again, and more slowly from now on. Either the specification keeps changing, or "
        "somebody undoes what is declared: look for a second operator, an admission webhook or a script (managedFields name it)"
    )
    return Announcement(reason=EventReason.CONTENDED.value, action="Apply", note=note, warning=True)


def transitions(before: AgentServiceStatus, after: AgentServiceStatus) -> Iterator[Announcement]:
    """Yield what a person would want to hear of the change from ``before`` to ``after``."""
    old = {condition.type: condition for condition in before.conditions}
    for condition in after.conditions:
        if condition.type in _TOLD_OTHERWISE:
            continue
        then = old.get(condition.type)
        if condition.status == "False":
            if condition.reason not in _QUIET and (
                then is None or (then.status, then.reason) != (condition.status, condition.reason)
            ):
                yield Announcement(reason=condition.reason, action="Reconcile", note=condition.message, warning=True)
        elif condition.type == ConditionType.READY.value and not _was_true(then):
            yield Announcement(reason=EventReason.READY.value, action="Reconcile", note=condition.message)


def _was_true(condition: Condition | None) -> bool:
    return condition is not None and condition.status == "True"
