"""Decides how a rollback is shown, asked about and carried out."""

from __future__ import annotations

from agentservice_cli.cluster.client import Cluster
from agentservice_cli.cluster.platform import installed
from agentservice_cli.cluster.rollback import Rollback, carry_out, list_revisions, prepare
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.terminal import Cell, OutputFormat, Tone, confirm, document, note, say, table


def run(
    cluster: Cluster,
    *,
    namespace: str,
    name: str,
    wanted: str | None,
    only_list: bool,
    yes: bool,
    dry_run: bool,
    output: OutputFormat,
) -> ExitCode:
    """Do what was typed. Raises CliError."""
    if only_list:
        _show_revisions(cluster, namespace=namespace, name=name, output=output)
        return ExitCode.OK
    installation, _ = installed(cluster)
    prepared = prepare(cluster, namespace=namespace, name=name, wanted=wanted, installation=installation)
    if output is OutputFormat.TABLE:
        _announce(prepared)
    else:
        document(prepared.document(), output)
    if not prepared.restoration.spec_patch:
        note("the specification already says what that revision had: nothing to change")
        return ExitCode.OK
    if dry_run:
        return ExitCode.OK
    if prepared.gitops and not yes:
        raise CliError(
            f"{prepared.gitops} keeps {name} as git has it and would undo this",
            mend="make the change shown above in git; --yes changes the cluster all the same, until the next sync",
        )
    if not yes and not confirm(f"Change {name} in namespace {namespace}?"):
        note("nothing was changed")
        return ExitCode.FAILED
    carry_out(cluster, prepared)
    note(f"changed; follow it: agentservice status {name} -n {namespace} --wait 120", Tone.GOOD)
    return ExitCode.OK


def _announce(prepared: Rollback) -> None:
    from agentservice_cli.cluster.differences import tone_of

    source, target = prepared.current, prepared.target
    note(f"from revision {source.number} ({source.name}) to {target.number} ({target.name}):", Tone.STRONG)
    for line in prepared.lines:
        say(line, tone_of(line))
    for text in prepared.notes:
        note(f"  {text}")


def _show_revisions(cluster: Cluster, *, namespace: str, name: str, output: OutputFormat) -> None:
    found = list_revisions(cluster, namespace=namespace, name=name)
    if output is not OutputFormat.TABLE:
        keys = ("number", "name", "current", "created", "image", "model")
        document([{key: getattr(revision, key) for key in keys} for revision in found], output)
        return
    rows = [
        [
            str(revision.number),
            Cell(
                revision.name + (" (current)" if revision.current else ""),
                Tone.STRONG if revision.current else Tone.PLAIN,
            ),
            revision.model or "(its own)",
            revision.image,
            revision.created,
            "" if revision.config else "configuration is gone",
        ]
        for revision in found
    ]
    table(["NUMBER", "REVISION", "MODEL", "IMAGE", "CREATED", "NOTE"], rows)
