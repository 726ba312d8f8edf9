"""The words that scripts match on are closed, spelled as Kubernetes spells them, and explained."""

import re

import pytest

from agentservice_api.conditions import ConditionType, Documented, EventReason, Reason


@pytest.mark.parametrize("member", [*ConditionType, *Reason, *EventReason], ids=str)
def test_a_word_is_camel_case_and_has_a_sentence(member: Documented) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z]{1,62}", member.value)
    assert member.doc.endswith(".")


def test_a_word_is_its_value_wherever_it_is_written() -> None:
    assert f"{ConditionType.READY}" == "Ready"
    assert ConditionType("Ready") is ConditionType.READY
