"""Decides the Deployment: how many pods, how a new revision replaces the old one, and what a revision is."""

from __future__ import annotations

from agentservice_api import AgentServiceSpec, RuntimeConfig, names
from agentservice_api.spec import ImagePullPolicy
from agentservice_operator.manifest import Manifest, canonical
from agentservice_operator.render.fleet import Fleet
from agentservice_operator.render.metadata import metadata
from agentservice_operator.render.pod import pod_template


def render_deployment(
    fleet: Fleet,
    spec: AgentServiceSpec,
    *,
    config: RuntimeConfig,
    config_map: str,
    image: str,
    image_pull_policy: ImagePullPolicy,
    secret_digest: str | None,
) -> tuple[Manifest, str]:
    """Return the Deployment and its revision.

    The revision is a hash of the pod template, so that whatever replaces the pods is a new revision and nothing
    else is. It labels the pods, and through that label each pod knows its own.
    """
    template = pod_template(
        fleet,
        spec,
        config=config,
        config_map=config_map,
        image=image,
        image_pull_policy=image_pull_policy,
        secret_digest=secret_digest,
    )
    revision = names.short_hash(canonical(template))
    template = _with_label(template, names.LABEL_REVISION, revision)
    rollout = spec.rollout
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(fleet.owner, fleet.name),
        "spec": {
            **({} if fleet.count is None else {"replicas": fleet.count}),
            # Owned although it is the default: `kubectl rollout pause` would otherwise stop every rollout for good.
            "paused": False,
            "selector": {"matchLabels": fleet.selector},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable},
            },
            "progressDeadlineSeconds": rollout.progress_deadline_seconds,
            "revisionHistoryLimit": rollout.revision_history_limit,
            "template": template,
        },
    }, revision


def _with_label(template: Manifest, label: str, value: str) -> Manifest:
    meta = template["metadata"]
    return {**template, "metadata": {**meta, "labels": {**meta["labels"], label: value}}}
