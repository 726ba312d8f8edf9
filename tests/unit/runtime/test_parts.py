"""Secrets, callers, admission, drain, streams and logs, each by itself."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest
from pydantic_ai.messages import (
    FinalResultEvent,
    FunctionToolCallEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from agentservice_api.spec import AuthSpec, ObservabilitySpec, SecretKeySelector
from agentservice_runtime import logs
from agentservice_runtime.admission import Admission
from agentservice_runtime.auth import Authenticator
from agentservice_runtime.drain import DrainPlan
from agentservice_runtime.errors import ServiceError
from agentservice_runtime.runlog import trace_id
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.stream import Translator

KEY = SecretKeySelector(name="openai", key="api-key")


def write(folder, value, *, name="openai", key="api-key"):
    path = folder / name / key
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(value)
    fresh.replace(path)


def test_a_secret_is_read_again_when_its_file_changes_and_kept_when_it_vanishes(tmp_path):
    secrets = SecretFiles(tmp_path)
    assert secrets.read(KEY) is None
    write(tmp_path, "first\n")
    assert secrets.read(KEY) == "first"
    write(tmp_path, "other")
    assert secrets.read(KEY) == "other"
    (tmp_path / "openai" / "api-key").unlink()
    assert secrets.read(KEY) == "other"
    write(tmp_path, "")
    assert secrets.read(KEY) == "other"


def test_every_value_that_was_read_is_redacted_old_ones_too(tmp_path):
    secrets = SecretFiles(tmp_path)
    for value in ("sk-first-key", "Bearer sk-second", 'quo"ted-secret'):
        write(tmp_path, value)
        secrets.read(KEY)
    line = json.dumps({"a": 'sk-first-key sk-second quo"ted-secret Bearer'})
    assert secrets.redact(line) == json.dumps({"a": "[redacted] [redacted] [redacted] Bearer"})


def authenticator(tmp_path, **spec):
    tokens = [{"name": "web", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}}]
    return Authenticator(
        AuthSpec.model_validate({"type": "BearerToken", "tokens": tokens, **spec}), secrets=SecretFiles(tmp_path)
    )


def test_an_empty_or_missing_token_file_lets_nobody_in(tmp_path):
    auth = authenticator(tmp_path)
    for header in ("Bearer ", "Bearer", "Bearer x", ""):
        with pytest.raises(ServiceError):
            auth.caller({"authorization": header})
    write(tmp_path, "  \n", name="web", key="token")
    with pytest.raises(ServiceError):
        auth.caller({"authorization": "Bearer "})


def test_the_caller_header_is_cleaned_and_bounded(tmp_path):
    write(tmp_path, "secret-token", name="web", key="token")
    auth = authenticator(tmp_path, callerHeader="X-User")
    headers = {"authorization": "Bearer secret-token", "x-user": "a\x00b\x1b" + "c" * 500}
    assert auth.caller(headers) == "web/ab" + "c" * 254


async def test_admission_lets_as_many_in_as_it_may_and_as_many_wait():
    gate = Admission(limit=2, wait_seconds=0.05)
    release = asyncio.Event()
    inside = 0

    async def run():
        nonlocal inside
        async with gate.slot():
            inside += 1
            await release.wait()
            inside -= 1

    tasks = [asyncio.create_task(run()) for _ in range(6)]
    await asyncio.sleep(0.2)
    assert inside == 2
    assert sum(t.done() for t in tasks) == 4
    assert all(isinstance(t.exception(), ServiceError) for t in tasks if t.done())
    waiting = asyncio.create_task(run())
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(waiting, *[t for t in tasks if not t.done()])
    assert inside == 0


async def test_who_would_wait_behind_a_full_queue_is_refused_at_once():
    gate = Admission(limit=1, wait_seconds=60)
    async with gate.slot():
        waiter = asyncio.create_task(gate.slot().__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(ServiceError):
            async with asyncio.timeout(1), gate.slot():
                pass
        waiter.cancel()


async def test_a_waiter_that_gives_up_takes_no_slot_with_it():
    gate = Admission(limit=1, wait_seconds=60)
    async with gate.slot():
        waiter = asyncio.create_task(gate.slot().__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
    async with asyncio.timeout(1), gate.slot():
        pass


@pytest.mark.parametrize("timeout", [1, 2, 3, 10, 40, 310, 86400])
def test_the_drain_ends_before_its_timeout(timeout):
    plan = DrainPlan.of(timeout)
    assert plan.accept_seconds + plan.finish_seconds + 2 * plan.close_seconds <= plan.total_seconds < timeout
    assert min(plan.accept_seconds, plan.finish_seconds, plan.close_seconds) > 0


def test_a_run_that_begins_in_the_last_moment_has_its_full_time():
    assert DrainPlan.of(300 + 10).finish_seconds >= 300


def test_a_trace_id_is_taken_over_or_made():
    given = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id(f"00-{given}-00f067aa0ba902b7-01") == given
    for broken in (
        None,
        "",
        "x",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{given}",
        f"00-{given.upper()}-00f067aa0ba902b7-01",
    ):
        assert len(trace_id(broken)) == 32
        assert trace_id(broken) != given


def test_a_structured_answer_is_told_in_growing_parts_and_commentary_is_not():
    arguments = json.dumps({"response": "x" * 2000})
    told = []
    translator = Translator(is_text=False)

    def tell(event):
        found = translator.translate(event)
        if found is not None:
            told.append(found)

    tell(PartStartEvent(index=0, part=TextPart("let me think")))
    tell(PartStartEvent(index=1, part=ToolCallPart("final_result", "", tool_call_id="c")))
    tell(FinalResultEvent(tool_name="final_result", tool_call_id="c"))
    for i in range(0, len(arguments), 4):
        tell(PartDeltaEvent(index=1, delta=ToolCallPartDelta(args_delta=arguments[i : i + 4])))
    lengths = [len(e.data["partial"].get("response", "")) for e in told]
    assert lengths == sorted(lengths)
    assert 10 < len(told) < 120, "the sum of the parts must not grow with the square of the answer"


def test_a_text_answer_after_a_tool_call_is_told_from_its_beginning():
    translator = Translator(is_text=True)
    events = [
        PartStartEvent(index=0, part=ToolCallPart("lookup", {"x": 1}, tool_call_id="c")),
        FunctionToolCallEvent(part=ToolCallPart("lookup", {"x": 1}, tool_call_id="c"), args_valid=True),
        PartStartEvent(index=0, part=TextPart("Hel")),
        PartDeltaEvent(index=0, delta=TextPartDelta("lo")),
    ]
    told = [e for e in map(translator.translate, events) if e is not None]
    assert [e.data for e in told] == [{"name": "lookup", "phase": "start"}, {"text": "Hel"}, {"text": "lo"}]


@pytest.fixture
def log(tmp_path):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Other tests of the same process may have quieted a library.
    levels = {name: found.level for name, found in root.manager.loggerDict.items() if isinstance(found, logging.Logger)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.NOTSET)
    stream = io.StringIO()
    write(tmp_path, "sk-canary-key")
    secrets = SecretFiles(tmp_path)
    secrets.read(KEY)

    def configure(**spec):
        logs.configure(
            ObservabilitySpec.model_validate(spec), secrets=secrets, constant={"environment": "e"}, stream=stream
        )
        return stream

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, quieted in levels.items():
        logging.getLogger(name).setLevel(quieted)


def test_libraries_may_not_say_what_they_saw_but_the_users_code_may(log):
    stream = log(logLevel="debug")
    for library in ("openai", "httpx2", "mcp.client", "uvicorn.error", "asyncio", "pydantic_ai.x"):
        logging.getLogger(library).debug("canary")
        logging.getLogger(library).warning("canary")
    logging.getLogger("acme").info("my own words with sk-canary-key")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[-1]["message"] == "my own words with [redacted]"
    assert len(lines) == 7
    assert "canary" not in stream.getvalue()


def test_an_exception_is_told_by_types_and_places_never_by_its_message(log):
    stream = log()
    try:
        try:
            raise KeyError("canary")
        except KeyError as error:
            raise ValueError("canary") from error
    except ValueError:
        logging.getLogger("acme").exception("failed")
    line = json.loads(stream.getvalue())
    assert line["error"] == ["ValueError", "KeyError"]
    assert "test_parts.py" in line["at"][-1]
    assert "canary" not in stream.getvalue()


def test_text_lines_stay_one_line(log):
    stream = log(logFormat="text")
    logging.getLogger("acme").info("two\nlines")
    assert stream.getvalue().count("\n") == 1
