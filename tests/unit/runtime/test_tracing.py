"""What of the user's libraries is traced."""

import logging

from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent

from agentservice_runtime.tracing import start


def test_a_library_that_is_not_traced_is_named(monkeypatch, caplog):
    monkeypatch.setattr(Agent, "instrument_all", lambda settings: None)
    rows = [row for row in start._INSTRUMENTED if row[0] == "sqlalchemy"]
    monkeypatch.setattr(start, "_INSTRUMENTED", tuple(rows))
    monkeypatch.setattr(start, "_KNOWN_TOO", ())
    caplog.set_level(logging.WARNING, "agentservice.tracing")
    start._instrument(TracerProvider(), with_content=False)
    (line,) = [record for record in caplog.records if record.name == "agentservice.tracing"]
    assert "is not traced" in line.message
    assert line.agentservice_fields["library"] == "sqlalchemy"
