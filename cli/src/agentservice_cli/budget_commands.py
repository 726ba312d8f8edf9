"""Decides what can be typed after `agentservice budget`. An AgentService's name alone shows its budget."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agentservice_cli.connecting import Context, Kubeconfig, Namespace, Output, connected
from agentservice_cli.exits import ExitCode
from agentservice_cli.terminal import OutputFormat

SHOW = "show"


class _ShowsByName(TyperGroup):
    """`budget NAME` is `budget show NAME`; an agent that is called like a command needs the long form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((arg for arg in args if not arg.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowsByName,
    help="See budgets: `agentservice budget NAME`, or one of these commands.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="Of every namespace.")]
Agent = Annotated[str, typer.Argument(help="The AgentService, or one that is gone.")]


@app.command(SHOW)
def show(
    name: Agent,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Show windows, spend, who holds what, when it resets, and when it is exhausted at this rate."""
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import budgetview

    return budgetview.show(cluster, namespace=namespace or cluster.namespace, name=name, output=output)


@app.command()
def top(
    all_namespaces: AllNamespaces = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """List budgets, the most used first."""
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import budgetview

    where = None if all_namespaces else namespace or cluster.namespace
    return budgetview.top(cluster, namespace=where, output=output)


@app.command()
def export(
    month: Annotated[str | None, typer.Option(help="YYYY-MM in each budget's zone. Default: last month.")] = None,
    by: Annotated[
        str | None, typer.Option(help="Group by this label of the AgentService, or else of its namespace.")
    ] = None,
    all_namespaces: AllNamespaces = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="Default: CSV.")] = OutputFormat.TABLE,
) -> ExitCode:
    """Print what each agent's models cost in a month, agents that are gone included: CSV or JSON."""
    from datetime import UTC, datetime

    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import budgetview

    return budgetview.export(
        cluster,
        namespace=None if all_namespaces else namespace or cluster.namespace,
        month=month or budgetview.last_month(datetime.now(UTC)),
        by=by,
        output=output,
    )


@app.command()
def suggest(
    name: Agent,
    headroom: Annotated[float, typer.Option(min=0, max=1000, help="Percent above what was seen.")] = 25,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Propose limits from what the books say, for instance after a while of Observe."""
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import budgetview

    where = namespace or cluster.namespace
    return budgetview.suggest(cluster, namespace=where, name=name, headroom=headroom, output=output)


@app.command()
def forgive(
    name: Agent,
    window: Annotated[str, typer.Option(help="daily or monthly.")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence. It is kept in the ledger and told in an Event.")],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> ExitCode:
    """Give back what only counts as spent because nobody can tell. The API server's audit log knows who asked."""
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import budgetview

    where = namespace or cluster.namespace
    return budgetview.forgive(cluster, namespace=where, name=name, window=window, reason=reason, yes=yes)
