"""Decides what one resource of the bench is, and so what the limit client sends: what the operator itself sends for it.

The operator's reconcile runs once against a recorder. Whatever children it learns to make, the limit client makes them too.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from agentservice_operator.caches import BY_POD, BY_REFERENCE, BY_SERVICE, Caches, index_by_reference, index_by_service
from agentservice_operator.kube.mounts import MountFailures
from agentservice_operator.kube.resources import AGENTSERVICES, Resource
from agentservice_operator.kube.store import ObjectStore
from agentservice_operator.lost import LostLedgers
from agentservice_operator.manifest import Key, Manifest
from agentservice_operator.reconcile import Effects, Reconciler
from agentservice_operator.render import Platform
from agentservice_operator.secret_reader import SecretReader
from agentservice_operator.shell.wiring import LEDGER_WATCH, OWNED

IMAGE = "registry.example/agentservice-runtime:1"
PLACEHOLDER = "placeholder"
SPECIFICATION = Path(__file__).parent / "agent.yaml"


@dataclass(frozen=True, kw_only=True)
class Bodies:
    """What one resource takes."""

    kinds: tuple[str, ...]
    """Of the children: what the AgentService owns."""
    further: tuple[str, ...]
    """The other writes: kinds that it does not own, and statuses."""
    sizes: dict[str, int]
    """Bytes of JSON by kind."""
    content: dict[str, Any]

    @property
    def writes(self) -> int:
        return len(self.kinds) + len(self.further)

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(self.content))
        return path


class Recorder:
    """Answers as the API server would, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._version = 100

    async def create(self, resource: Resource, manifest: Manifest, *, field_manager: str) -> Manifest:
        self._send(resource, manifest, field_manager)
        made = {"uid": resource.kind, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        return self._answer({**manifest, "metadata": {**manifest["metadata"], **made}})

    async def apply(
        self, resource: Resource, manifest: Manifest, *, field_manager: str, subresource: str = ""
    ) -> Manifest:
        metadata = {name: value for name, value in manifest["metadata"].items() if name != "uid"}
        self._send(resource, {**manifest, "metadata": metadata}, field_manager, subresource)
        return self._answer({**manifest, "metadata": {**manifest["metadata"], "generation": 1}})

    async def patch_merge(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Manifest,
        *,
        field_manager: str,
        subresource: str = "",
    ) -> Manifest:
        unchecked = {"metadata": {"name": name, "namespace": namespace}, "status": body["status"]}
        self._send(resource, unchecked, field_manager, subresource, merge=True)
        whole = next(sent["manifest"] for sent in self.sent if sent["kind"] == resource.kind)
        made = {"uid": resource.kind, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        return self._answer({**whole, "metadata": {**whole["metadata"], **made}, "status": body["status"]})

    def _send(
        self, resource: Resource, manifest: Manifest, manager: str, subresource: str = "", *, merge: bool = False
    ) -> None:
        self.sent.append(
            {
                "kind": resource.kind,
                "path": resource.path(manifest["metadata"]["namespace"]),
                "manager": manager,
                "subresource": subresource,
                "merge": merge,
                "manifest": manifest,
            }
        )

    def _answer(self, content: Manifest) -> Manifest:
        self._version += 1
        return {**content, "metadata": {**content["metadata"], "resourceVersion": str(self._version)}}


def bodies(namespace: str) -> Bodies:
    """The resource and all that is written for it in ``namespace``; its name is a placeholder everywhere."""
    manifest: dict[str, Any] = yaml.safe_load(SPECIFICATION.read_text())
    manifest["metadata"] = {"name": PLACEHOLDER, "namespace": namespace}
    sent = asyncio.run(_reconciled(manifest))
    made = [body for body in sent if not body["subresource"]]
    children = [body for body in made if "ownerReferences" in body["manifest"]["metadata"]]
    statuses = [body for body in sent if body["subresource"]]
    others = [body for body in made if body not in children]
    return Bodies(
        kinds=tuple(body["kind"] for body in children),
        further=(*(body["kind"] for body in others), *(f"{body['kind']}/{body['subresource']}" for body in statuses)),
        sizes={body["kind"]: len(json.dumps(body["manifest"])) for body in made},
        content={
            "placeholder": PLACEHOLDER,
            "resource": {"path": AGENTSERVICES.path(namespace), "manager": "bench", "manifest": manifest},
            "objects": made,
            "statuses": statuses,
        },
    )


async def _reconciled(manifest: Manifest) -> list[dict[str, Any]]:
    metadata = {**manifest["metadata"], "uid": "0" * 36, "generation": 1, "resourceVersion": "1"}
    services = ObjectStore(indexes={BY_REFERENCE: index_by_reference})
    services.put({**manifest, "metadata": metadata, "status": {"observedGeneration": -1}})

    def store() -> ObjectStore:
        return ObjectStore(indexes={BY_SERVICE: index_by_service})

    owned = {watch.resource.kind: store() for watch in OWNED}
    caches = Caches(
        agent_services=services,
        children=owned,
        replica_sets=store(),
        pods=store(),
        failed_mounts=MountFailures(by_pod=BY_POD),
        references=owned["ConfigMap"],
        ledgers=ObjectStore(trim=LEDGER_WATCH.trim),
        lost_ledgers=LostLedgers(),
    )
    client: Any = Recorder()
    effects = Effects(
        now=lambda: datetime.now(UTC),
        token=lambda: "",
        announce=lambda live, announcement: None,
        log_revision=lambda revision: None,
        tell=lambda key, conditions: None,
        tell_budget=lambda key, windows: None,
        monotonic=lambda: 0.0,
        server_time=lambda: datetime.now(UTC),
        wrote=lambda key, kinds: 0.0,
    )
    secrets = SecretReader(
        client=client,
        namespace="",
        key_name="",
        interval=60,
        clock=effects.monotonic,
        random=effects.monotonic,
        new_key=bytes,
    )
    reconciler = Reconciler(
        client=client,
        caches=caches,
        platform=Platform(runtime_image=IMAGE),
        defaults={},
        effects=effects,
        secrets=secrets,
    )
    await reconciler.reconcile(Key(metadata["namespace"], metadata["name"]))
    return client.sent
