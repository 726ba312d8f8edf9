"""Decides what is asked of an agent about its tasks, and how its answers are told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

from agentservice_cli.ask.conversation import refusal
from agentservice_cli.ask.exchange import Answer
from agentservice_cli.exits import CliError
from agentservice_cli.reaching import Agent
from agentservice_cli.terminal import Cell, OutputFormat, Tone, age, document, say, table

Document = Mapping[str, Any]

_PATH: Final = "/v1/tasks"
_PAGE: Final = 100
_WAIT_SECONDS: Final = 20
"""Of one request: less than the shortest patience of the command line."""
_TONES: Final = {
    "succeeded": Tone.GOOD,
    "failed": Tone.BAD,
    "cancelled": Tone.QUIET,
    "running": Tone.STRONG,
    "queued": Tone.CAUTION,
}


def submit(agent: Agent, question: object, *, key: str | None) -> Document:
    """Have a task taken in. Raises CliError."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return _document(agent.ask("POST", _PATH, content={"input": question}, headers=headers))


def show(agent: Agent, id: str, *, wait: bool = False) -> Document:
    """Return a task, once it has ended if ``wait``. Raises CliError."""
    while True:
        task = _document(agent.ask("GET", _of(id) + (f"?wait={_WAIT_SECONDS}" if wait else "")))
        if not wait or task.get("finished_at"):
            return task


def listed(agent: Agent, *, status: str | None, limit: int) -> list[Document]:
    """Return the caller's tasks, the newest first. Raises CliError."""
    found: list[Document] = []
    for task in _all(agent, status=status, page=min(limit, _PAGE)):
        found.append(task)
        if len(found) >= limit:
            break
    return found


def cancel(agent: Agent, id: str) -> Document:
    """Cancel a task. Raises CliError."""
    return _document(agent.ask("DELETE", _of(id)))


def requeue(agent: Agent, id: str) -> Document:
    """Queue a failed task again. Raises CliError."""
    return _document(agent.ask("POST", f"{_of(id)}/requeue"))


def failed(agent: Agent) -> list[str]:
    """Return the ids of all tasks that have failed. Raises CliError."""
    return [str(task["task_id"]) for task in _all(agent, status="failed", page=_PAGE)]


def tell(found: Document | list[Document], output: OutputFormat, *, now: datetime) -> None:
    """Write tasks as `-o` wants them."""
    if output is not OutputFormat.TABLE:
        document(found, output)
        return
    tasks = found if isinstance(found, list) else [found]
    if not tasks:
        say("no tasks")
        return
    table(("TASK", "STATUS", "ATTEMPTS", "AGE", "WHY"), [_row(task, now) for task in tasks])


def tell_end(task: Document) -> None:
    """Write what a task that has ended has answered. Raises CliError when it has not."""
    if task.get("status") != "succeeded":
        problem = cast("Document", task.get("problem") or {})
        text = f"{problem.get('title')}: {problem.get('detail')}"
        raise CliError(f"task {task.get('task_id')} {task.get('status')}: {text}")
    output = cast("Document", task["result"]).get("output")
    if isinstance(output, str):
        say(output)
    else:
        document(output, OutputFormat.JSON)


def _row(task: Document, now: datetime) -> list[Cell | str]:
    status = str(task.get("status"))
    why = str(cast("Document", task.get("problem") or {}).get("title") or "")
    if task.get("reason"):
        why = f"{why} ({task['reason']})"
    if task.get("retry_at"):
        why = f"to be tried again at {task['retry_at']}"
    since = age((now - datetime.fromisoformat(str(task["created_at"]))).total_seconds())
    return [str(task["task_id"]), Cell(status, _TONES.get(status, Tone.PLAIN)), str(task["attempts"]), since, why]


def _all(agent: Agent, *, status: str | None, page: int) -> Iterator[Document]:
    query: dict[str, str] = {"limit": str(page), **({} if status is None else {"status": status})}
    while True:
        answer = _document(agent.ask("GET", f"{_PATH}?{urlencode(query)}"))
        yield from cast("list[Document]", answer["tasks"])
        if answer.get("next") is None:
            return
        query["before"] = str(answer["next"])


def _of(id: str) -> str:
    return f"{_PATH}/{quote(id, safe='')}"


def _document(answer: Answer) -> Document:
    if answer.status not in (200, 202):
        raise refusal(answer)
    return cast("Document", json.loads(b"".join(answer.chunks)))
