"""Decides what can be typed after `agentservice cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from agentservice_cli.connecting import Context, Kubeconfig, Namespace
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.reaching import Agent, Target, Timeout, Token
from agentservice_cli.terminal import say

app = typer.Typer(
    help="Answers that an agent keeps and gives again.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    """Keep `purge` a command of its own, though it is the only one."""


@app.command()
def purge(
    target: Target,
    tag: Annotated[str | None, typer.Option(help="Answers with this tag of spec.cache.tags.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Answers to messages that begin so.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All answers of this agent.")] = False,
    token: Token = None,
    timeout: Timeout = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> ExitCode:
    """Let an agent's cached answers no longer count, on all of its pods: by tag, by the message's beginning, or all."""
    if sum((tag is not None, prefix is not None, everything)) != 1:
        raise CliError(
            "it is not said what to purge", mend="give one of --tag TAG, --prefix TEXT and --all", code=ExitCode.USAGE
        )
    from agentservice_cli.ask import purging

    agent = Agent(target, token=token, timeout=timeout, namespace=namespace, context=context, kubeconfig=kubeconfig)
    exchange = agent.exchange("DELETE")
    purging.purge(exchange, tag=tag, prefix=prefix, token=agent.token)
    say("purged")
    return ExitCode.OK
