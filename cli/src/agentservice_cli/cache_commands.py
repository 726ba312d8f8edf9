"""Decides what can be typed after `agentservice cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from agentservice_cli.connecting import Context, Kubeconfig, Namespace, connected
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.terminal import note, say

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
    target: Annotated[str, typer.Argument(metavar="NAME|URL", help="The AgentService, or where it answers.")],
    tag: Annotated[str | None, typer.Option(help="Answers with this tag of spec.cache.tags.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Answers to messages that begin so.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All answers of this agent.")] = False,
    token: Annotated[
        str | None, typer.Option(envvar="AGENTSERVICE_TOKEN", help="The bearer token, or @FILE.", show_envvar=True)
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Longest silence, in seconds.")] = 30,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> ExitCode:
    """Let an agent's cached answers no longer count, on all of its pods: by tag, by the message's beginning, or all."""
    if sum((tag is not None, prefix is not None, everything)) != 1:
        raise CliError(
            "it is not said what to purge", mend="give one of --tag TAG, --prefix TEXT and --all", code=ExitCode.USAGE
        )
    from agentservice_cli.ask import conversation, purging
    from agentservice_cli.ask import target as targets
    from agentservice_cli.ask.exchange import to_url
    from agentservice_cli.local.running import local_runs

    given = conversation.secret_of(token) if token else None
    meant = bool(namespace or context or kubeconfig)
    whom = targets.decide(target, runs=local_runs(), cluster_is_meant=meant)
    if isinstance(whom, targets.AtUrl):
        if whom.about:
            note(whom.about)
        exchange, known = to_url(whom.url, timeout=timeout, method="DELETE"), whom.token or None
    else:
        cluster = connected(context, kubeconfig)
        from agentservice_cli.cluster.exchange import reach

        where = namespace or cluster.namespace
        reached = reach(cluster, namespace=where, name=whom.name, token=given, timeout=timeout, method="DELETE")
        exchange, known = reached.exchange, reached.token
    purging.purge(exchange, tag=tag, prefix=prefix, token=given or known)
    say("purged")
    return ExitCode.OK
