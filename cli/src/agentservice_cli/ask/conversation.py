"""Decides how an agent's answer is shown while it comes, and what a failed one means."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, cast

from agentservice_cli.ask.events import Event, events
from agentservice_cli.ask.exchange import Answer, Exchange
from agentservice_cli.exits import CliError
from agentservice_cli.terminal import OutputFormat, document, is_rich, note, say, waiting

Document = Mapping[str, Any]


def ask(exchange: Exchange, question: object, *, token: str | None, output: OutputFormat) -> None:
    """Ask and show the answer: text as it comes, or the whole result as `-o` wants it. Raises CliError."""
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "User-Agent": "agentservice-cli"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"input": question}).encode()
    with ExitStack() as until_first_event:
        until_first_event.enter_context(waiting("asking …"))
        answer = exchange("/v1/stream", body, headers)
        if answer.status != 200 or not answer.content_type.startswith("text/event-stream"):
            raise refusal(answer)
        result = show(_closing(until_first_event, events(answer.chunks)), live=output is OutputFormat.TABLE)
    if output is OutputFormat.TABLE:
        if is_rich(sys.stderr):
            note(summary(result))
    else:
        document(result, output)


def show(stream: Iterable[Event], *, live: bool) -> Document:
    """Write the answer's text as it comes (when `live`) and return the result. Raises CliError when there is none."""
    streamed = ""
    for event in stream:
        data = cast("dict[str, Any]", event.data if isinstance(event.data, dict) else {})
        match event.name:
            case "delta" if live and isinstance(data.get("text"), str):
                streamed += data["text"]
                say(data["text"], end="")
            case "tool" if live:
                if streamed and not streamed.endswith("\n"):
                    say()
                streamed = ""
                note(f"[{data.get('name')}: {data.get('phase')}]")
            case "error":
                if streamed:
                    say()
                raise problem(data)
            case "result":
                if live:
                    _finish(streamed, data.get("output"))
                return data
            case _:
                pass
    if streamed:
        say()
    raise CliError("the connection ended before the answer was complete", mend="ask again")


def summary(result: Document) -> str:
    """Return one line about what the answer took."""
    usage = cast("Document", result.get("usage") or {})
    parts = [str(result.get("model") or "")]
    if usage.get("total_tokens") is not None:
        parts.append(f"{usage['total_tokens']} tokens")
    if usage.get("requests") not in (None, 1):
        parts.append(f"{usage['requests']} model requests")
    if result.get("cost_usd") is not None:
        parts.append(f"${result['cost_usd']}")
    parts.append(f"run {result.get('run_id')}")
    return " · ".join(part for part in parts if part)


def refusal(answer: Answer) -> CliError:
    """Return the error that an answer other than a stream stands for."""
    body = b"".join(answer.chunks)
    if "json" in answer.content_type:
        try:
            content: Any = json.loads(body)
        except ValueError:
            content = None
        if isinstance(content, dict):
            found = cast("Document", content)
            if "title" in found or "detail" in found:
                return problem(found)
            if found.get("kind") == "Status":
                return CliError(f"the API server answered {answer.status}: {found.get('message')}")
    if answer.status == 200:
        return CliError("the address answers, but not as an agent does", mend="check the address")
    return CliError(f"the answer was HTTP {answer.status}, not an agent's", mend="check the address")


def problem(content: Document) -> CliError:
    """Return the error that a problem document (RFC 9457) stands for."""
    title, detail = str(content.get("title") or "the run failed"), str(content.get("detail") or "")
    errors = [
        f"{entry.get('path')}: {entry.get('message')}" for entry in cast("list[Document]", content.get("errors") or [])
    ]
    message = f"{title}: {'; '.join(errors) or detail}".removesuffix(": ")
    return CliError(message, mend=_mend(content))


def _mend(content: Document) -> str:
    if content.get("status") == 401:
        return "pass the token with --token @FILE or in AGENTSERVICE_TOKEN"
    if content.get("errors"):
        return (
            "the agent's /docs shows the input that it takes; typed inputs are JSON: --input '{...}' or --input @FILE"
        )
    after = content.get("retry_after")
    if content.get("retryable"):
        return f"try again in {after:g} s" if isinstance(after, int | float) else "try again"
    run = content.get("run_id")
    return f"run {run}; the agent's log has more" if run else ""


def _finish(streamed: str, output: object) -> None:
    if not isinstance(output, str):
        if streamed and not streamed.endswith("\n"):
            say()
        document(output, OutputFormat.JSON)
    elif streamed and streamed.endswith(output):
        say(end="" if output.endswith("\n") else "\n")
    else:
        if streamed and not streamed.endswith("\n"):
            say()
        say(output)


def _closing(stack: ExitStack, stream: Iterator[Event]) -> Iterator[Event]:
    """End the waiting display at the first event, before anything is written."""
    for event in stream:
        stack.close()
        yield event


def question_of(text: str | None, raw_input: str | None) -> object:
    """Return the run's input: `text` as it is, `raw_input` as JSON. `-` is stdin, `@FILE` (of an input) a file.

    Raises CliError for both, neither, or what is not JSON.
    """
    if text is not None and raw_input is not None:
        raise CliError("both a text and --input were given", mend="give one of them")
    if raw_input is not None:
        content = _content(raw_input)
        try:
            return json.loads(content)
        except ValueError as error:
            raise CliError(
                f"--input is not JSON: {error}",
                mend="quote it for the shell: --input '{\"customer_id\": 1}', or --input @FILE",
            ) from None
    if text is None or text == "-":
        if text is None and sys.stdin.isatty():
            raise CliError("what do you want to ask?", mend="agentservice ask \"Hello\", or --input '{...}'")
        return sys.stdin.read()
    return text


def _content(text: str) -> str:
    from pathlib import Path

    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CliError(f"cannot read {text[1:]}: {reason}", mend="check the path after @") from None


def secret_of(text: str) -> str:
    """Return a token given as itself or as `@FILE`. Raises CliError."""
    return _content(text).strip() if text.startswith("@") else text
