"""What the operator accepts of a budget."""

import pytest

from agentservice_api.spec import LedgerChoice
from agentservice_operator.parse import parse

REDIS = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}


@pytest.mark.parametrize("choice", LedgerChoice)
def test_a_budget_is_kept_in_whichever_ledger_its_author_chooses(choice: LedgerChoice) -> None:
    budget = {"daily": {"tokens": 1}, "ledger": {"type": choice.value}}
    spec = {"agent": {"instructions": "x"}, "model": {"name": "test"}, "redis": REDIS, "budget": budget}
    found = parse({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec}, defaults={}).spec.budget
    assert found is not None
    assert found.ledger.type is choice
