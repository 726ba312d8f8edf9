"""Decides what `spec.rollout` may say: how a new revision replaces the old one."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import IntOrString, Model, Rule, Rules


def _int_or_percent(name: str) -> Rules:
    return Rules(
        (
            Rule(
                rule="type(self) == int ? self >= 0 && self <= 1000 : self.matches('^(100|[1-9]?[0-9])%$')",
                message=f"{name} is a number of pods from 0 to 1000 or a percentage such as 25%",
            ),
        )
    )


IntOrPercent = int | Annotated[str, StringConstraints(max_length=5)]


class RolloutSpec(Model):
    """How a new revision replaces the old one."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!(has(self.maxSurge) && (type(self.maxSurge) == int ? self.maxSurge == 0 : self.maxSurge == '0%')) || "
            "(has(self.maxUnavailable) && (type(self.maxUnavailable) == int ? self.maxUnavailable != 0 : self.maxUnavailable != '0%'))",
            message="maxSurge and maxUnavailable cannot both be 0 (maxUnavailable is 0 by default): raise one, or the rollout could never move",
        ),
    )

    max_surge: Annotated[IntOrPercent, IntOrString(), _int_or_percent("maxSurge")] = Field(
        default="25%", description="Pods above the wanted number during a rollout. Default 25%."
    )
    max_unavailable: Annotated[IntOrPercent, IntOrString(), _int_or_percent("maxUnavailable")] = Field(
        default=0, description="Pods that may be missing during a rollout. Default 0."
    )
    progress_deadline_seconds: Annotated[int, Field(ge=10, le=86400)] = Field(
        default=600, description="Seconds without progress after which a rollout counts as failed. Default 600."
    )
    revision_history_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=3, description="Old revisions kept for `agentservice rollback`. Default 3."
    )
    restart_on_secret_change: bool = Field(
        default=False,
        description="Replaces the pods when a key of a Secret that they read has changed, within about a minute; other keys of that Secret do "
        "nothing. Needs `readSecrets.enabled` of the operator's chart; switching it on or off replaces the pods once. Default false: files of "
        "keys are read again without a restart, environment variables are not.",
    )
