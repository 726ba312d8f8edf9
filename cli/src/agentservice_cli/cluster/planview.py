"""Decides how a plan looks: a sign for each object, and below it the lines that change."""

from __future__ import annotations

from agentservice_cli.cluster.differences import tone_of
from agentservice_cli.cluster.plan import Action, AgentPlan
from agentservice_cli.terminal import Tone, say

_TONES = {
    Action.CREATED: Tone.GOOD,
    Action.CHANGED: Tone.CAUTION,
    Action.PRUNED: Tone.BAD,
    Action.UNCHANGED: Tone.QUIET,
    Action.BLOCKED: Tone.BAD,
}


def show(found: AgentPlan) -> None:
    """Write the plan of one AgentService and a line that counts it."""
    say(f"{found.namespace}/{found.name}", Tone.STRONG)
    for change in found.changes:
        text = f"{change.action} {change.kind} {change.name}"
        say(f"{text}  ({change.note})" if change.note else text, _TONES[change.action])
        for line in change.lines:
            say(f"    {line}", tone_of(line))
    counts = {action: sum(change.action is action for change in found.changes) for action in Action}
    words = ", ".join(f"{count} {action.name.lower()}" for action, count in counts.items() if count)
    say(f"plan: {words}" + ("" if found.differs else "; nothing would change"), Tone.STRONG)
