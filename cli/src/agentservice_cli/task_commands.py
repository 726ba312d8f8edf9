"""Decides what can be typed after `agentservice tasks`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from agentservice_cli.connecting import Context, Kubeconfig, Namespace, Output
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.reaching import Agent, Target, Timeout, Token
from agentservice_cli.terminal import OutputFormat

app = typer.Typer(
    help="Runs that an agent takes in and answers later: the tasks of its queue.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
Id = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]


@app.command()
def submit(
    target: Target,
    text: Annotated[str | None, typer.Argument(help="The message. `-`, or nothing: stdin.")] = None,
    raw_input: Annotated[str | None, typer.Option("--input", help="Typed input as JSON, or @FILE.")] = None,
    key: Annotated[str | None, typer.Option(help="The same key is the same task, however often it is sent.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print the answer.")] = False,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Have a task taken in."""
    from agentservice_cli.ask import tasks
    from agentservice_cli.ask.conversation import question_of

    question = question_of(text, raw_input)
    agent = _agent(target, token, timeout, namespace, context, kubeconfig)
    task = tasks.submit(agent, question, key=key)
    if wait:
        task = tasks.show(agent, str(task["task_id"]), wait=True)
        if output is OutputFormat.TABLE:
            tasks.tell_end(task)
            return ExitCode.OK
    tasks.tell(task, output, now=datetime.now(UTC))
    return ExitCode.OK


@app.command("list")
def list_(
    target: Target,
    status: Annotated[
        str | None, typer.Option(help="Only those that are queued, running, succeeded, failed or cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="As many at most.")] = 50,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """List tasks of the token's caller, the newest first."""
    from agentservice_cli.ask import tasks

    agent = _agent(target, token, timeout, namespace, context, kubeconfig)
    tasks.tell(tasks.listed(agent, status=status, limit=limit), output, now=datetime.now(UTC))
    return ExitCode.OK


@app.command()
def dead(
    target: Target,
    limit: Annotated[int, typer.Option(min=1, help="As many at most.")] = 50,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """List tasks that have failed, with the reason. They can be queued again."""
    from agentservice_cli.ask import tasks

    agent = _agent(target, token, timeout, namespace, context, kubeconfig)
    tasks.tell(tasks.listed(agent, status="failed", limit=limit), output, now=datetime.now(UTC))
    return ExitCode.OK


@app.command()
def show(
    target: Target,
    task: Id,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print the answer.")] = False,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Show a task."""
    from agentservice_cli.ask import tasks

    agent = _agent(target, token, timeout, namespace, context, kubeconfig)
    found = tasks.show(agent, task, wait=wait)
    if wait and output is OutputFormat.TABLE:
        tasks.tell_end(found)
    else:
        tasks.tell(found, OutputFormat.YAML if output is OutputFormat.TABLE else output, now=datetime.now(UTC))
    return ExitCode.OK


@app.command()
def cancel(
    target: Target,
    task: Id,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Cancel a task."""
    from agentservice_cli.ask import tasks

    agent = _agent(target, token, timeout, namespace, context, kubeconfig)
    tasks.tell(tasks.cancel(agent, task), output, now=datetime.now(UTC))
    return ExitCode.OK


@app.command()
def requeue(
    target: Target,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[TASK]...", help="The tasks' ids.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that have failed.")] = False,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Queue tasks that have failed again; each begins from the beginning."""
    if bool(ids) == everything:
        raise CliError("it is not said which tasks", mend="give their ids, or --all", code=ExitCode.USAGE)
    from agentservice_cli.ask import tasks

    agent = _agent(target, token, timeout, namespace, context, kubeconfig)
    found = [tasks.requeue(agent, id) for id in (tasks.failed(agent) if everything else ids or ())]
    tasks.tell(found, output, now=datetime.now(UTC))
    return ExitCode.OK


def _agent(
    target: str, token: str | None, timeout: float, namespace: str | None, context: str | None, kubeconfig: str | None
) -> Agent:
    return Agent(target, token=token, timeout=timeout, namespace=namespace, context=context, kubeconfig=kubeconfig)
