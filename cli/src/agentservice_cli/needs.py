"""Decides what a command says when the extra `[cluster]` is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from agentservice_cli.exits import CliError


def need_cluster_extra(*modules: str) -> None:
    """Raise CliError unless every module can be imported."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise CliError(
            "this command needs the cluster extra",
            mend="in a clone of the repository: pip install ./api ./runtime ./operator './cli[cluster]'",
        )
