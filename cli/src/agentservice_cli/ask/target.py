"""Decides whom `ask` asks: a URL, a local run, or an AgentService in the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentservice_cli.exits import CliError
from agentservice_cli.local.running import LocalRun

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class AtUrl:
    """An agent at an address; `about` says how it was found, empty when the person named it."""

    url: str
    token: str = field(default="", repr=False)
    about: str = ""


@dataclass(frozen=True)
class InCluster:
    """An AgentService, by name."""

    name: str


def decide(target: str | None, *, runs: Sequence[LocalRun], cluster_is_meant: bool) -> AtUrl | InCluster:
    """Return whom to ask. `cluster_is_meant`: a namespace, context or kubeconfig was given.

    A bare name is a local run of that name if there is one and nothing points at a cluster. Raises CliError when
    several local runs could be meant.
    """
    if target is None:
        return _local(runs)
    if target.startswith(("http://", "https://")):
        return AtUrl(target, token=next((run.token for run in runs if run.url == target.rstrip("/")), ""))
    named = [run for run in runs if run.name == target]
    if named and not cluster_is_meant:
        run = named[0]
        return AtUrl(
            run.url, run.token, f"asking the local {run.name} at {run.url}; with -n NAMESPACE the one in the cluster"
        )
    if "/" in target or ":" in target:
        raise CliError(f"{target!r} is neither a URL nor a name", mend="a URL begins with http:// or https://")
    return InCluster(target)


def _local(runs: Sequence[LocalRun]) -> AtUrl:
    if not runs:
        return AtUrl(DEFAULT_URL)
    if len(runs) > 1:
        runs = [run for run in runs if run.url == DEFAULT_URL] or runs
    if len(runs) > 1:
        listing = ", ".join(f"{run.name} at {run.url}" for run in runs)
        raise CliError(f"several agents run here: {listing}", mend='name one: agentservice ask NAME "..."')
    return AtUrl(runs[0].url, runs[0].token)
