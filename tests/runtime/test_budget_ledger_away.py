"""A budget whose ledger cannot be reached."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.books import USAGE, Books, budget


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the ledger's file would be: a folder stands in the way until it is removed."""
    path = tmp_path / "ledger.sqlite"
    path.mkdir()
    monkeypatch.setenv("AGENTSERVICE_LEDGER", str(path))
    return path


def test_a_pod_is_not_ready_before_its_ledger_has_been_reached_and_refuses_with_503(
    embed: Any, configuration: Any, provider: Any, away: Path, wait_until: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("echo")), model="echo")
    assert agent.client.get("/ready").json()["reasons"] == ["the budget's ledger has not been reached yet"]
    refused = agent.run("hello")
    assert (refused.status_code, refused.json()["category"]) == (503, "budget")
    assert refused.headers["retry-after"] == "5"
    assert provider.state()["requests"] == 0
    away.rmdir()
    wait_until(lambda: agent.client.get("/ready").status_code == 200, what="readiness")
    assert agent.run("hello").status_code == 200


def test_where_it_is_allowed_requests_are_served_without_the_ledger_and_counted_once_it_is_there(
    embed: Any, configuration: Any, provider: Any, away: Path, wait_until: Any
) -> None:
    provider.forget()
    config = budget("echo", enforcement="Soft", onLedgerUnavailable="Allow")
    agent = embed(configuration(budget=config), model="echo")
    assert agent.client.get("/ready").status_code == 200
    assert agent.run("hello").status_code == 200
    away.rmdir()

    def is_counted() -> bool:
        try:
            return away.is_file() and Books(away).today()["settled"] == USAGE
        except sqlite3.OperationalError:
            return False  # the file is there before its tables are

    wait_until(is_counted, what="the late count")
