"""Decides what can be typed: the commands, their options, and the help that a person reads.

Every import of weight happens inside a command, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentservice_cli import budget_commands, cache_commands, task_commands
from agentservice_cli.connecting import Context, Kubeconfig, Namespace, Output, connected
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.terminal import OutputFormat, Tone, document, note, say, waiting

app = typer.Typer(
    name="agentservice",
    help="Run an agent here, ask it, and see it through in a cluster.\n\n"
    "Exit codes: 0 fine, 1 failed, 2 plan found changes, 3 status found agents that are not ready, "
    "64 the command line was wrong, 130 interrupted.",
    rich_markup_mode=None,  # rich help costs 0.3 s of CPU at each --help
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(budget_commands.app, name="budget")
app.add_typer(cache_commands.app, name="cache")
app.add_typer(task_commands.app, name="tasks")

Files = Annotated[
    list[str], typer.Option("-f", "--filename", help="A manifest file, a folder of them, or - for stdin. Repeatable.")
]
Name = Annotated[
    str | None, typer.Argument(help="Which AgentService, when the files hold several. Default: all of them.")
]
Defaults = Annotated[
    str | None, typer.Option(help="A file with the chart's agentDefaults, or with values that hold them.")
]
RuntimeImage = Annotated[str | None, typer.Option(help="The chart's runtime image, for agents that name none.")]


@app.command()
def init(name: Annotated[str, typer.Argument(help="The agent's name, and its folder's.")]) -> ExitCode:
    """Create an agent of your own: code, manifest, test, Dockerfile. It works at once."""
    from agentservice_cli.scaffold import create

    for file in create(name, parent=Path()):
        say(f"  {file}")
    note(f'\nserve it:  agentservice run -f {name}/agent.yaml\nask it:    agentservice ask "Hello"', Tone.GOOD)
    return ExitCode.OK


@app.command()
def run(
    filename: Files,
    name: Annotated[str | None, typer.Argument(help="Which AgentService, when the files hold several.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    secret: Annotated[
        list[str] | None,
        typer.Option(help="A Secret's key: NAME/KEY=@FILE, NAME/KEY=env:VARIABLE or NAME/KEY=VALUE. Repeatable."),
    ] = None,
    reload: Annotated[bool, typer.Option(help="Serve anew when the manifest or the code changes.")] = True,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="The namespace that the agent sees.")
    ] = None,
) -> ExitCode:
    """Serve an agent here, without a cluster.

    Secrets and ConfigMaps are taken from the same files; Secrets also from .secrets/NAME/KEY beside the manifest.
    """
    from agentservice_cli.local.options import RunOptions
    from agentservice_cli.local.run import run as serve

    options = RunOptions(
        files=tuple(filename), name=name, namespace=namespace, host=host, port=port, secrets=tuple(secret or ())
    )
    return serve(options, reload=reload)


@app.command()
def ask(
    target: Annotated[
        str | None, typer.Argument(metavar="[NAME|URL]", help="Default: the agent that `agentservice run` serves here.")
    ] = None,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The question; - reads it from stdin.")] = None,
    raw_input: Annotated[
        str | None, typer.Option("--input", help="The input as JSON, for typed agents; @FILE, or - for stdin.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="AGENTSERVICE_TOKEN", help="The bearer token, or @FILE.", show_envvar=True)
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Longest silence, in seconds.")] = 310,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Ask an agent, here or in the cluster; the answer is shown as it comes."""
    from agentservice_cli.ask import conversation
    from agentservice_cli.ask import target as targets
    from agentservice_cli.ask.exchange import to_url
    from agentservice_cli.local.running import local_runs

    if text is None and raw_input is None:
        target, text = None, target
    question = conversation.question_of(text, raw_input)
    given = conversation.secret_of(token) if token else None
    meant = bool(namespace or context or kubeconfig)
    whom = targets.decide(target, runs=local_runs(), cluster_is_meant=meant)
    if isinstance(whom, targets.AtUrl):
        if whom.about:
            note(whom.about)
        exchange, known = to_url(whom.url, timeout=timeout), whom.token or None
    else:
        cluster = connected(context, kubeconfig)
        from agentservice_cli.cluster.exchange import reach

        reached = reach(cluster, namespace=namespace or cluster.namespace, name=whom.name, token=given, timeout=timeout)
        exchange, known = reached.exchange, reached.token
    conversation.ask(exchange, question, token=given or known, output=output)
    return ExitCode.OK


@app.command()
def render(
    filename: Files,
    name: Name = None,
    defaults: Defaults = None,
    runtime_image: RuntimeImage = None,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Default: the manifest's, else default.")
    ] = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="yaml (default) or json.")] = OutputFormat.YAML,
) -> ExitCode:
    """Show what an AgentService becomes in a cluster: its children, offline."""
    from agentservice_cli.needs import need_cluster_extra

    need_cluster_extra("agentservice_operator")
    from agentservice_cli.cluster.platform import offline
    from agentservice_cli.cluster.render import render_files

    installation = offline(defaults_file=defaults, runtime_image=runtime_image)
    children, notes = render_files(filename, name=name, namespace=namespace, installation=installation)
    document(children, OutputFormat.YAML if output is OutputFormat.TABLE else output)
    for text in notes:
        note(text)
    return ExitCode.OK


@app.command()
def plan(
    filename: Files,
    name: Name = None,
    defaults: Defaults = None,
    runtime_image: RuntimeImage = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Show what applying a manifest would change in the cluster, by server-side dry run. Nothing is written.

    Exit code 0: nothing would change; 2: something would.
    """
    from agentservice_cli import manifests

    found = manifests.read(filename)
    documents = found.agents if name is None and found.agents else (found.agent(name),)
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster.plan import plan as planned
    from agentservice_cli.cluster.planview import show
    from agentservice_cli.cluster.platform import chosen
    from agentservice_cli.local.sources import read_sources

    installation, notes = chosen(cluster, defaults_file=defaults, runtime_image=runtime_image)
    sources = read_sources(found)
    with waiting("asking the API server what would change …"):
        plans = [
            planned(
                cluster,
                agent,
                namespace=namespace or agent.namespace or cluster.namespace,
                sources=sources,
                installation=installation,
            )
            for agent in documents
        ]
    for text in notes:
        note(text, Tone.CAUTION)
    if output is OutputFormat.TABLE:
        for entry in plans:
            show(entry)
    else:
        document([entry.document() for entry in plans], output)
    return ExitCode.DIFFERS if any(entry.differs for entry in plans) else ExitCode.OK


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="One AgentService; without it, a table of all.")] = None,
    all_namespaces: Annotated[bool, typer.Option("-A", "--all-namespaces", help="Of every namespace.")] = False,
    wait: Annotated[float | None, typer.Option(min=0, help="Wait up to so many seconds until it is ready.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Show how agents fare in the cluster: ready or not, why, and what to do.

    Exit code 3: at least one of them is not ready.
    """
    if wait is not None and name is None:
        raise CliError(
            "--wait needs the name of an AgentService", mend="agentservice status NAME --wait 120", code=ExitCode.USAGE
        )
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import status as statuses

    where = namespace or cluster.namespace
    if name is None:
        reports = statuses.status_of_all(cluster, namespace=None if all_namespaces else where)
        if output is OutputFormat.TABLE:
            scope = "any namespace" if all_namespaces else f"namespace {where}"
            statuses.show_all(reports, with_namespace=all_namespaces, scope=scope)
        else:
            document([found.document() for found in reports], output)
        return ExitCode.OK if all(found.ready for found in reports) else ExitCode.NOT_READY
    found = statuses.wait_until_ready(cluster, namespace=where, name=name, seconds=wait or 0)
    if output is OutputFormat.TABLE:
        statuses.show(found)
    else:
        document(found.document(), output)
    return ExitCode.OK if found.ready else ExitCode.NOT_READY


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The AgentService.")],
    to_revision: Annotated[
        str | None, typer.Option(help="The revision's number or hash. Default: the one before the current.")
    ] = None,
    list_revisions: Annotated[bool, typer.Option("--list", help="Show the revisions that are kept.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the change and stop.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Bring an AgentService's specification back to an earlier revision.

    Restored: agent, model, auth and observability, and of runtime what the pods had: image, environment, resources,
    volumes, placement. Not part of a revision, and left alone: replicas, rollout, network, suspend. Where Flux or Argo CD
    owns the AgentService the change is shown, to be made in git.
    """
    cluster = connected(context, kubeconfig)
    from agentservice_cli.cluster import rollbackview

    return rollbackview.run(
        cluster,
        namespace=namespace or cluster.namespace,
        name=name,
        wanted=to_revision,
        only_list=list_revisions,
        yes=yes,
        dry_run=dry_run,
        output=output,
    )


@app.command()
def doctor(
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = OutputFormat.TABLE,
) -> ExitCode:
    """Check the cluster, the CRD, the operator and your rights, and name the mend of what is amiss.

    Exit code 1: at least one check failed (a warning does not count).
    """
    from agentservice_cli.needs import need_cluster_extra

    need_cluster_extra("agentservice_operator", "kubernetes")
    from agentservice_cli.cluster.client import Access
    from agentservice_cli.cluster.doctor import Verdict, examine

    checks = list[dict[str, str]]()
    failed = False
    for check in examine(Access(context=context, kubeconfig=kubeconfig), namespace=namespace):
        failed = failed or check.verdict is Verdict.FAIL
        checks.append(check.document())
        if output is OutputFormat.TABLE:
            say(check.verdict.ljust(5), check.verdict.tone, end="")
            say(f"{check.name.ljust(11)}{check.message}")
            if check.mend:
                say(f"{' ' * 16}-> {check.mend}", Tone.CAUTION)
    if output is not OutputFormat.TABLE:
        document(checks, output)
    return ExitCode.FAILED if failed else ExitCode.OK


@app.command()
def version(output: Output = OutputFormat.TABLE) -> ExitCode:
    """Show the versions of the command line and what it brings."""
    from agentservice_cli.versions import installed

    found = installed()
    if output is OutputFormat.TABLE:
        width = max(map(len, found))
        for name, number in found.items():
            say(f"{name.ljust(width)}  {number}")
    else:
        document(found, output)
    return ExitCode.OK
