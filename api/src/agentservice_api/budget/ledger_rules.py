"""Decides which changes of an AgentLedger the API server itself refuses, as CEL.

`agentservice_api.budget.books` keeps all of them; they stand against edits by hand and against defects of ours. A rule of
a list's item compares it with the item of the same keys; what must not vanish stands at the root, because a rule below
`status` is skipped when `status` is set to null. All fields that a rule reads have a default in the schema, so none asks
`has()`. Limits and vanishing are judged from `seeded` on: a restore may bring back more than a limit that fell since.
"""

from __future__ import annotations

from typing import Final

from agentservice_api.schema import Rule

WINDOW: Final = (
    Rule(
        rule="self.end == oldSelf.end",
        message="a window's end never changes: it ends when it was to end",
        field_path=".end",
    ),
    Rule(
        rule="self.settledTokens >= oldSelf.settledTokens && self.settledNanoUSD >= oldSelf.settledNanoUSD",
        message="inside a window what is settled never falls: nothing but the window's end resets it",
        field_path=".settledTokens",
    ),
    Rule(
        rule="self.overrunTokens >= oldSelf.overrunTokens && self.overrunNanoUSD >= oldSelf.overrunNanoUSD",
        message="inside a window what was overrun never falls: nothing but the window's end resets it",
        field_path=".overrunTokens",
    ),
    Rule(
        rule="self.models.map(m, m.tokens).sum() == self.settledTokens + self.overrunTokens && "
        "self.models.map(m, m.nanoUSD).sum() == self.settledNanoUSD + self.overrunNanoUSD",
        message="models must add up to what is settled and overrun, in tokens and in nanoUSD",
        field_path=".models",
    ),
)
HOLDER: Final = (
    # one rule and not two: starting a rule costs more than what it does, and there is one start a holder and write
    Rule(
        rule="self.seq > oldSelf.seq ? (self.grantedTokens >= oldSelf.grantedTokens && "
        "self.grantedNanoUSD >= oldSelf.grantedNanoUSD) : (self.seq == oldSelf.seq && self.tokens == oldSelf.tokens && "
        "self.nanoUSD == oldSelf.nanoUSD && self.grantedTokens == oldSelf.grantedTokens && "
        "self.grantedNanoUSD == oldSelf.grantedNanoUSD)",
        message="only the holder itself changes what it holds, and counts up seq when it does; what was granted only grows",
        field_path=".seq",
    ),
)
CLOSED: Final = (Rule(rule="self == oldSelf", message="a closed window is closed: its books never change"),)

_SAME = "{0}.name == {1}.name && {0}.start == {1}.start"
# the API server drops the status of a new object, its default too, before it judges
_CREATED = "!has(self.status) || "
_SEEDED = "!oldSelf.status.seeded || "


def _balanced(unit: str, nano: str) -> str:
    # [hands].all(...) gives the filtered list a name, so that it is made once
    return (
        _CREATED
        + "self.status.windows.all(w, [self.status.holders.filter(h, h.start == w.start && h.window == w.name)].all(hands, "
        f"hands.map(h, h.{unit}).sum() == w.authorizedTokens - w.settledTokens - w.presumedTokens && "
        f"hands.map(h, h.{nano}).sum() == w.authorizedNanoUSD - w.settledNanoUSD - w.presumedNanoUSD))"
    )


def _within(limit: str, authorized: str) -> str:
    grown = f"o.{authorized} >= w.{authorized} && " + _SAME.format("o", "w")
    return (
        _SEEDED
        + "self.spec.enforcement != 'Hard' || self.status.windows.all(w, self.spec.windows.all(l, l.name != w.name || "
        f"!has(l.{limit}) || w.{authorized} <= l.{limit} || oldSelf.status.windows.exists(o, {grown})))"
    )


ROOT: Final = (
    Rule(
        rule=_SEEDED + "self.status.seeded",
        message="status may not be removed or unseeded: it holds what is spent. To return what is presumed spent, use the "
        "annotation agentservice.dev/forgive-presumed",
        field_path=".status.seeded",
    ),
    Rule(
        rule=_balanced("tokens", "nanoUSD"),
        message="in each window authorized must be settled + presumed + what its holders hold, in tokens and in nanoUSD",
        field_path=".status.windows",
    ),
    Rule(
        # by the number of holders: who each of them is would cost more than a rule may. A window that closes takes its own along
        rule=_SEEDED
        + "self.status.holders.size() >= oldSelf.status.holders.size() || oldSelf.status.windows.exists(o, "
        + "!self.status.windows.exists(w, "
        + _SAME.format("w", "o")
        + ")) || "
        + "oldSelf.status.windows.all(o, self.status.windows.exists(w, "
        + _SAME.format("w", "o")
        + " && w.authorizedTokens >= o.authorizedTokens && w.authorizedNanoUSD >= o.authorizedNanoUSD))",
        message="authorized may not fall while a holder leaves: what a holder that is gone had in hand is presumed spent",
        field_path=".status.holders",
    ),
    Rule(
        rule=_within("tokens", "authorizedTokens"),
        message="under enforcement Hard authorizedTokens may not grow beyond the limit in spec.windows",
        field_path=".status.windows",
    ),
    Rule(
        rule=_within("nanoUSD", "authorizedNanoUSD"),
        message="under enforcement Hard authorizedNanoUSD may not grow beyond the limit in spec.windows",
        field_path=".status.windows",
    ),
    Rule(
        rule=_SEEDED + "self.status.windows.all(w, oldSelf.status.windows.exists(o, " + _SAME.format("o", "w") + ") || "
        "oldSelf.status.windows.all(o, o.name != w.name || timestamp(o.end) <= timestamp(w.start)))",
        message="a new window may not begin before the end of the last one of its name: windows only move forward",
        field_path=".status.windows",
    ),
    Rule(
        rule=_SEEDED + "oldSelf.status.windows.all(o, self.status.windows.exists(w, " + _SAME.format("w", "o") + ") || "
        "(self.status.windows.exists(w, w.name == o.name && timestamp(w.start) >= timestamp(o.end)) && "
        "self.status.closed.exists(c, " + _SAME.format("c", "o") + " && "
        "c.tokens >= o.settledTokens + o.overrunTokens && c.nanoUSD >= o.settledNanoUSD + o.overrunNanoUSD)))",
        message="a window leaves only when a later one of its name is listed, and into closed with all that was spent of it",
        field_path=".status.windows",
    ),
)
