"""Decides how a command is told which cluster it means, and reaches it. The import of weight happens on use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentservice_cli.terminal import OutputFormat

if TYPE_CHECKING:
    from agentservice_cli.cluster.client import Cluster

Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="Default: the kubeconfig context's.")]
Context = Annotated[str | None, typer.Option("--context", help="The kubeconfig context to use.")]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", help="Default: KUBECONFIG, ~/.kube/config, or the pod's own account.")
]
Output = Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print the answer.")]


def connected(context: str | None, kubeconfig: str | None) -> Cluster:
    """Return the cluster. Raises CliError."""
    from agentservice_cli.needs import need_cluster_extra

    need_cluster_extra("agentservice_operator", "kubernetes")
    from agentservice_cli.cluster.client import Access, connect

    return connect(Access(context=context, kubeconfig=kubeconfig))
