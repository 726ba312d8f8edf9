"""A question to an agent: whom, how, and what is made of the answer."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentservice_cli.ask import conversation
from agentservice_cli.ask.events import Event, events
from agentservice_cli.ask.exchange import Answer, to_url
from agentservice_cli.ask.target import AtUrl, InCluster, decide
from agentservice_cli.exits import CliError
from agentservice_cli.local.running import LocalRun, local_runs, recorded
from agentservice_cli.terminal import OutputFormat

RESULT = {
    "run_id": "r1",
    "output": "Hello there",
    "usage": {"total_tokens": 3, "requests": 1},
    "model": "test",
    "cost_usd": "0",
}


def stream(*found: tuple[str, Any]) -> bytes:
    return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in found)


def answering(body: bytes, *, status: int = 200, kind: str = "text/event-stream") -> Any:
    def exchange(path: str, sent: bytes, headers: Mapping[str, str]) -> Answer:
        exchange.seen = (path, json.loads(sent), dict(headers))  # type: ignore[attr-defined]
        return Answer(status, kind, iter([body]))

    return exchange


def test_events_are_read_however_the_bytes_are_cut() -> None:
    whole = (
        ': comment\r\nevent: delta\r\ndata: {"text": "für 🌍"}\r\n\r\nevent: result\ndata: {}\n\nevent: cut'.encode()
    )
    for size in (1, 2, 3, 7, len(whole)):
        pieces: Iterator[bytes] = iter([whole[i : i + size] for i in range(0, len(whole), size)])
        assert list(events(pieces)) == [Event("delta", {"text": "für 🌍"}), Event("result", {})]


def test_data_of_several_lines_is_one_and_what_is_no_json_stays_text() -> None:
    assert list(events([b"data: one\ndata: two\n\n"])) == [Event("message", "one\ntwo")]


def test_text_is_written_as_it_comes_and_ends_with_one_newline(capsys: pytest.CaptureFixture[str]) -> None:
    body = stream(("delta", {"text": "Hello "}), ("delta", {"text": "there"}), ("result", RESULT))
    exchange = answering(body)
    conversation.ask(exchange, "Hi", token="t0k", output=OutputFormat.TABLE)
    assert capsys.readouterr().out == "Hello there\n"
    path, sent, headers = exchange.seen
    assert (path, sent) == ("/v1/stream", {"input": "Hi"})
    assert headers["Authorization"] == "Bearer t0k"


def test_words_before_a_tool_call_do_not_swallow_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    body = stream(
        ("delta", {"text": "Let me look."}),
        ("tool", {"name": "search", "phase": "start"}),
        ("tool", {"name": "search", "phase": "end"}),
        ("result", RESULT),
    )
    conversation.ask(answering(body), "Hi", token=None, output=OutputFormat.TABLE)
    out, err = capsys.readouterr()
    assert out == "Let me look.\nHello there\n"
    assert err == "[search: start]\n[search: end]\n"


def test_an_answer_that_differs_from_what_was_streamed_is_written_too(capsys: pytest.CaptureFixture[str]) -> None:
    body = stream(("delta", {"text": "a first try"}), ("result", RESULT))
    conversation.ask(answering(body), "Hi", token=None, output=OutputFormat.TABLE)
    assert capsys.readouterr().out == "a first try\nHello there\n"


def test_a_structured_answer_is_written_as_json_and_its_parts_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    body = stream(("delta", {"partial": {"a": 1}}), ("result", {**RESULT, "output": {"a": 1, "b": [2]}}))
    conversation.ask(answering(body), {"x": 1}, token=None, output=OutputFormat.TABLE)
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": [2]}


def test_a_script_gets_the_whole_result_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    conversation.ask(
        answering(stream(("delta", {"text": "Hello"}), ("result", RESULT))), "Hi", token=None, output=OutputFormat.JSON
    )
    out, err = capsys.readouterr()
    assert json.loads(out) == RESULT
    assert err == ""


def test_a_stream_that_ends_too_early_is_a_failure() -> None:
    with pytest.raises(CliError, match="ended before the answer was complete"):
        conversation.ask(answering(stream(("delta", {"text": "He"}))), "Hi", token=None, output=OutputFormat.TABLE)


PROBLEM = {"title": "Invalid request", "status": 422, "detail": "input does not fit", "category": "validation"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {**PROBLEM, "errors": [{"path": "input.issue", "message": "is missing"}]},
            "Invalid request: input.issue: is missing",
        ),
        ({**PROBLEM, "title": "Unauthorized", "status": 401}, "--token @FILE"),
        ({**PROBLEM, "retryable": True, "retry_after": 3.0}, "try again in 3 s"),
        ({**PROBLEM, "run_id": "r9"}, "run r9"),
    ],
)
def test_a_refusal_is_told_in_the_agents_words_with_what_to_do(content: dict[str, Any], said: str) -> None:
    exchange = answering(json.dumps(content).encode(), status=422, kind="application/problem+json")
    with pytest.raises(CliError) as caught:
        conversation.ask(exchange, "Hi", token=None, output=OutputFormat.TABLE)
    assert said in str(caught.value)


def test_an_error_in_the_middle_of_a_stream_is_the_same_failure() -> None:
    body = stream(("delta", {"text": "He"}), ("error", {**PROBLEM, "title": "Model failed"}))
    with pytest.raises(CliError, match="Model failed"):
        conversation.ask(answering(body), "Hi", token=None, output=OutputFormat.TABLE)


@pytest.mark.parametrize(("status", "kind"), [(200, "text/html"), (404, "text/plain"), (502, "application/json")])
def test_an_address_that_is_no_agent_is_told_so(status: int, kind: str) -> None:
    with pytest.raises(CliError, match="agent"):
        conversation.ask(answering(b"<html>", status=status, kind=kind), "Hi", token=None, output=OutputFormat.TABLE)


def test_nobody_there_is_told_with_how_to_start_one() -> None:
    with pytest.raises(CliError, match="agentservice run -f"):
        to_url("http://127.0.0.1:9", timeout=2)("/v1/stream", b"{}", {})


RUN = LocalRun(name="hello", url="http://127.0.0.1:8000", pid=1, token="t")


def test_without_a_target_the_local_run_is_meant() -> None:
    assert decide(None, runs=[], cluster_is_meant=False) == AtUrl("http://127.0.0.1:8000")
    other = LocalRun(name="other", url="http://127.0.0.1:9000", pid=2)
    assert decide(None, runs=[other], cluster_is_meant=False) == AtUrl("http://127.0.0.1:9000")
    assert decide(None, runs=[other, RUN], cluster_is_meant=False) == AtUrl(RUN.url, "t")


def test_several_local_runs_must_be_told_apart_by_name() -> None:
    runs = [LocalRun(name=name, url=f"http://127.0.0.1:{port}", pid=1) for name, port in (("a", 9001), ("b", 9002))]
    with pytest.raises(CliError, match="several agents run here: a at"):
        decide(None, runs=runs, cluster_is_meant=False)
    found = decide("b", runs=runs, cluster_is_meant=False)
    assert isinstance(found, AtUrl)
    assert found.url == "http://127.0.0.1:9002"


def test_a_name_is_the_clusters_unless_a_local_run_has_it_and_nothing_points_at_a_cluster() -> None:
    assert decide("hello", runs=[], cluster_is_meant=False) == InCluster("hello")
    assert decide("hello", runs=[RUN], cluster_is_meant=True) == InCluster("hello")
    local = decide("hello", runs=[RUN], cluster_is_meant=False)
    assert isinstance(local, AtUrl)
    assert "-n NAMESPACE" in local.about


def test_a_url_without_a_scheme_is_not_taken_for_a_name() -> None:
    with pytest.raises(CliError, match="http://"):
        decide("localhost:8000", runs=[], cluster_is_meant=False)


def test_the_token_of_a_local_run_goes_to_that_run_only() -> None:
    found = decide("http://127.0.0.1:8000/", runs=[RUN], cluster_is_meant=False)
    elsewhere = decide("http://example.com", runs=[RUN], cluster_is_meant=False)
    assert isinstance(found, AtUrl)
    assert isinstance(elsewhere, AtUrl)
    assert (found.token, elsewhere.token) == ("t", "")


def test_a_local_run_is_found_while_it_lasts_and_its_note_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    run = LocalRun(name="hello", url="http://127.0.0.1:1", pid=os.getpid(), token="canary")
    with recorded(run):
        assert local_runs() == (run,)
        (note,) = (tmp_path / "agentservice").iterdir()
        assert note.stat().st_mode & 0o077 == 0
    assert local_runs() == ()
    assert "canary" not in repr(run)


def test_the_note_of_a_dead_process_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    gone = 2**22 + 1  # above every pid that Linux gives
    with recorded(LocalRun(name="x", url="u", pid=gone)):
        assert local_runs() == ()
        assert list((tmp_path / "agentservice").iterdir()) == []


def test_notes_in_a_folder_that_others_can_write_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "agentservice"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "1.json").write_text('{"name": "x", "url": "http://evil", "pid": 1, "token": ""}')
    assert local_runs() == ()


@pytest.mark.parametrize(
    ("text", "raw", "meant"), [("Hi", None, "Hi"), (None, '{"a": 1}', {"a": 1}), (None, '"text"', "text")]
)
def test_the_input_is_a_text_or_json(text: str | None, raw: str | None, meant: object) -> None:
    assert conversation.question_of(text, raw) == meant


def test_an_input_from_a_file_and_a_broken_one(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"a": 1}')
    assert conversation.question_of(None, f"@{file}") == {"a": 1}
    with pytest.raises(CliError, match="--input is not JSON"):
        conversation.question_of(None, "{a: 1}")
    with pytest.raises(CliError, match="both a text and --input"):
        conversation.question_of("Hi", "{}")
    with pytest.raises(CliError, match=r"cannot read .*nowhere"):
        conversation.question_of(None, "@nowhere")


def test_a_purge_says_what_and_who_asks() -> None:
    from agentservice_cli.ask.purging import purge

    exchange = answering_plainly(b'{"purged": "prefix"}')
    purge(exchange, tag=None, prefix="Order 7 & 8", token="t0k")
    assert exchange.seen == ("/v1/cache?prefix=Order+7+%26+8", {"User-Agent": "agentservice-cli", "Authorization": "Bearer t0k"})  # fmt: skip
    purge(exchange, tag=None, prefix=None, token=None)
    assert exchange.seen == ("/v1/cache", {"User-Agent": "agentservice-cli"})
    content = {**PROBLEM, "detail": "no answer has this tag"}
    refused = answering_plainly(json.dumps(content).encode(), status=422, kind="application/problem+json")
    with pytest.raises(CliError, match="no answer has this tag"):
        purge(refused, tag="x", prefix=None, token=None)


def answering_plainly(body: bytes, *, status: int = 200, kind: str = "application/json") -> Any:
    def exchange(path: str, sent: bytes, headers: Mapping[str, str]) -> Answer:
        assert sent == b""
        exchange.seen = (path, dict(headers))  # type: ignore[attr-defined]
        return Answer(status, kind, iter([body]))

    return exchange
