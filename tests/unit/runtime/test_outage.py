"""A service that is away is told of once, and once when it is back."""

from __future__ import annotations

import logging

import pytest

from agentservice_runtime.logs import FIELDS
from agentservice_runtime.outage import Outage


def test_an_outage_is_told_when_it_begins_and_when_it_ends_and_in_no_words_of_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("parts", away="the part is away", back="the part answers again")
    failure = ConnectionError("redis://:canary@host:6379 refused")
    with caplog.at_level(logging.INFO):
        for error in (None, failure, failure, None, None, failure):
            outage.tell(error)
    assert [record.getMessage() for record in caplog.records] == [
        "the part is away",
        "the part answers again",
        "the part is away",
    ]
    told = [getattr(record, FIELDS, None) for record in caplog.records]
    assert told == [{"error": "ConnectionError"}, None, {"error": "ConnectionError"}]
    assert "canary" not in caplog.text
