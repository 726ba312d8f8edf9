"""Decides which children an AgentService has, and in which order they are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from agentservice_api import AgentService, names
from agentservice_api.config import runtime_config
from agentservice_api.spec import AuthType, ImagePullPolicy, SecretKeySelector
from agentservice_operator.manifest import Manifest, Owner, canonical
from agentservice_operator.render.autoscaler import (
    AUTOSCALERS,
    render_autoscaler,
    render_redis_access,
    render_scaled_object,
    without_scale_out,
)
from agentservice_operator.render.config_map import render_config_map
from agentservice_operator.render.deployment import render_deployment
from agentservice_operator.render.disruption import render_disruption_budget
from agentservice_operator.render.fleet import fleets
from agentservice_operator.render.ingress import render_ingress
from agentservice_operator.render.ledger_access import render_role, render_role_binding
from agentservice_operator.render.network_policy import ApiServerAddresses, render_network_policy
from agentservice_operator.render.route import render_route
from agentservice_operator.render.service import render_service, service_url
from agentservice_operator.render.service_account import render_service_account


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the installation decides for every agent."""

    runtime_image: str
    runtime_image_pull_policy: ImagePullPolicy = ImagePullPolicy.IF_NOT_PRESENT
    api_server: ApiServerAddresses = field(default_factory=ApiServerAddresses)
    prometheus: str = ""
    """Address of a Prometheus that scrapes the pods, for KEDA to ask; empty: there is none."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The children, each complete, in the order in which they are written."""

    children: tuple[Manifest, ...]
    revision: str
    """Hash of the pod template: what a pod runs, configuration and image included."""
    workers_revision: str | None
    """The same of the pods that only work off the queue, None where there are none."""
    config_map: str
    generated_secret: str | None
    """Name of the Secret that the operator has to generate, None when the spec names its tokens or wants none."""
    first_replicas: Mapping[str, int]
    """Pods that a Deployment, by name, begins with whose number an autoscaler decides: new, or resumed from none."""
    url: str
    selector: str
    has_prometheus: bool
    """Whether the installation knows a Prometheus for KEDA to ask."""


def render(
    resource: AgentService, *, platform: Platform, instructions: str | None = None, secret_digest: str | None = None
) -> Rendered:
    """Return the children of ``resource``.

    ``instructions`` is the text behind `instructionsFrom`, when it is used; ``secret_digest`` that of the Secrets which its pods read
    (`secret_keys`), where a change of them replaces the pods.
    """
    spec, metadata = resource.spec, resource.metadata
    owner = Owner(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid)
    generated = None
    if spec.auth.type is AuthType.BEARER_TOKEN and not spec.auth.tokens:
        generated = names.generated_secret_name(metadata.name, metadata.uid)
    config = runtime_config(
        name=metadata.name,
        namespace=metadata.namespace,
        spec=spec,
        instructions=instructions,
        generated_token=SecretKeySelector(name=generated, key=names.GENERATED_TOKEN_KEY) if generated else None,
        uid=metadata.uid,
    )
    config_map = render_config_map(owner, config)
    of = fleets(owner, spec)
    deployments = [
        render_deployment(
            fleet,
            spec,
            config=config,
            config_map=config_map["metadata"]["name"],
            image=spec.runtime.image or platform.runtime_image,
            image_pull_policy=spec.runtime.image_pull_policy or platform.runtime_image_pull_policy,
            secret_digest=secret_digest,
        )
        for fleet in of
    ]
    service_account = () if spec.runtime.service_account_name else (render_service_account(owner, spec),)
    ledger_access = () if spec.budget is None else (render_role(owner), render_role_binding(owner, spec))
    as_asked = (
        *(render_disruption_budget(fleet) for fleet in of),
        render_autoscaler(owner, spec),
        render_redis_access(owner, spec),
        *(render_scaled_object(fleet, spec, prometheus=platform.prometheus) for fleet in of),
        *(render_network_policy(fleet, spec, api_server=platform.api_server) for fleet in of),
        render_ingress(owner, spec),
        render_route(owner, spec),
    )
    children = (
        config_map,
        *service_account,
        *ledger_access,
        render_service(owner, spec),
        *(child for child in as_asked if child is not None),
        *(deployment for deployment, _ in deployments),
    )
    return Rendered(
        children=tuple(with_intent_hash(child) for child in children),
        revision=deployments[0][1],
        workers_revision=deployments[1][1] if len(deployments) > 1 else None,
        config_map=config_map["metadata"]["name"],
        generated_secret=generated,
        first_replicas={fleet.name: fleet.first for fleet in of},
        url=service_url(owner, spec),
        selector=f"{names.LABEL_NAME}={metadata.name}",
        has_prometheus=bool(platform.prometheus),
    )


def hold_back(rendered: Rendered) -> Rendered:
    """Return ``rendered`` with an autoscaler that only scales in."""
    children = (
        with_intent_hash(without_scale_out(child)) if child["kind"] in AUTOSCALERS else child
        for child in rendered.children
    )
    return replace(rendered, children=tuple(children))


def let_go(rendered: Rendered, deployments: Collection[str]) -> Rendered:
    """Return ``rendered`` as it is applied while autoscalers that have to go still scale ``deployments``: no others, and no number of ours."""

    def waiting(child: Manifest) -> Manifest | None:
        if child["metadata"]["name"] in deployments:
            if child["kind"] in AUTOSCALERS:
                return None
            if child["kind"] == "Deployment":
                return _uncounted(child)
        return child

    return replace(rendered, children=tuple(c for c in map(waiting, rendered.children) if c is not None))


def _uncounted(deployment: Manifest) -> Manifest:
    """Return ``deployment`` byte for byte as it is rendered beside an autoscaler, so that there is nothing to write."""
    spec = {key: value for key, value in deployment["spec"].items() if key != "replicas"}
    metadata = {key: value for key, value in deployment["metadata"].items() if key != "annotations"}
    return with_intent_hash({**deployment, "metadata": metadata, "spec": spec})


def with_intent_hash(manifest: Manifest) -> Manifest:
    """Return ``manifest`` with the hash of itself among its annotations."""
    content = canonical(manifest)
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_INTENT: names.short_hash(content, length=16)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
