"""Decides what each verb looks like on the wire: method, path, query, headers, body. Pure; `client` only sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlencode

import orjson

from agentservice_operator.kube.resources import APIGROUPS, Resource
from agentservice_operator.manifest import Manifest

FieldValidation = Literal["Strict", "Warn", "Ignore"]

APPLY = "application/apply-patch+yaml"  # JSON is YAML; the +json spelling is unknown to servers before 1.33
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
_PARTIAL = "application/json;as={};g=meta.k8s.io;v=v1"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. `idempotent`: sending it twice leaves what sending it once leaves."""

    verb: str
    method: str
    path: str
    resource: Resource
    idempotent: bool
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None

    @property
    def target(self) -> str:
        """Path and query as they are sent, encoded."""
        return f"{self.path}?{_encoded(self.query)}" if self.query else self.path

    @property
    def mutates(self) -> bool:
        """True when it may change something: not a read, not a dry run."""
        return self.method != "GET" and ("dryRun", "All") not in self.query


def get(resource: Resource, namespace: str | None, name: str, *, metadata_only: bool = False) -> Request:
    """The newest state. With `metadata_only` what the server's watch cache has (resourceVersion 0): cheap, and perhaps a moment old."""
    return Request(
        verb="get",
        method="GET",
        path=resource.path(namespace, name),
        resource=resource,
        idempotent=True,
        query=_query(resourceVersion="0") if metadata_only else (),
        headers={"Accept": _PARTIAL.format("PartialObjectMetadata") if metadata_only else JSON},
    )


def group(name: str) -> Request:
    """Discovery of a group of APIs, which every authenticated user may read (the ClusterRole system:discovery)."""
    path, headers = f"/apis/{name}", {"Accept": JSON}
    return Request(verb="get", method="GET", path=path, resource=APIGROUPS, idempotent=True, headers=headers)


def list_page(
    resource: Resource,
    *,
    namespace: str | None = None,
    label_selector: str | None = None,
    field_selector: str | None = None,
    metadata_only: bool = False,
    limit: int | None = None,
    continue_token: str | None = None,
) -> Request:
    """One page of a consistent list (no resourceVersion: the newest state, as a quorum read sees it)."""
    return Request(
        verb="list",
        method="GET",
        path=resource.path(namespace),
        resource=resource,
        idempotent=True,
        query=_query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit) if limit else None,
            **{"continue": continue_token},
        ),
        headers={"Accept": _PARTIAL.format("PartialObjectMetadataList") if metadata_only else JSON},
    )


def watch(
    resource: Resource,
    *,
    resource_version: str,
    namespace: str | None = None,
    label_selector: str | None = None,
    field_selector: str | None = None,
    metadata_only: bool = False,
    timeout_seconds: int | None = None,
) -> Request:
    """A watch with bookmarks from `resource_version` on; the server ends it after `timeout_seconds`."""
    return Request(
        verb="watch",
        method="GET",
        path=resource.path(namespace),
        resource=resource,
        idempotent=True,
        query=_query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            timeoutSeconds=str(timeout_seconds) if timeout_seconds else None,
        ),
        headers={"Accept": _PARTIAL.format("PartialObjectMetadata") if metadata_only else JSON},
    )


def apply(
    resource: Resource,
    manifest: Manifest,
    *,
    field_manager: str,
    force: bool = True,
    dry_run: bool = False,
    field_validation: FieldValidation = "Strict",
    subresource: str | None = None,
) -> Request:
    """A server-side apply of the whole intent of `field_manager`."""
    return Request(
        verb="apply",
        method="PATCH",
        path=resource.path(*_identity(manifest), subresource),
        resource=resource,
        idempotent=True,
        query=_query(
            fieldManager=field_manager,
            force="true" if force else "false",
            fieldValidation=field_validation,
            dryRun="All" if dry_run else None,
        ),
        headers={"Accept": JSON, "Content-Type": APPLY},
        body=orjson.dumps(manifest),
    )


def create(
    resource: Resource,
    manifest: Manifest,
    *,
    field_manager: str,
    dry_run: bool = False,
    field_validation: FieldValidation = "Strict",
) -> Request:
    """A POST of an object with a name, so that sending it twice makes it once: a try after a lost answer sees AlreadyExists."""
    return Request(
        verb="create",
        method="POST",
        path=resource.path(_identity(manifest)[0]),
        resource=resource,
        idempotent=True,
        query=_query(fieldManager=field_manager, fieldValidation=field_validation, dryRun="All" if dry_run else None),
        headers={"Accept": JSON, "Content-Type": JSON},
        body=orjson.dumps(manifest),
    )


def replace(resource: Resource, manifest: Manifest, *, field_manager: str, subresource: str | None = None) -> Request:
    """A PUT. Carry `metadata.resourceVersion`: without it the server overwrites whatever is there."""
    return Request(
        verb="update",
        method="PUT",
        path=resource.path(*_identity(manifest), subresource),
        resource=resource,
        idempotent=False,
        query=_query(fieldManager=field_manager),
        headers={"Accept": JSON, "Content-Type": JSON},
        body=orjson.dumps(manifest),
    )


def patch_json(
    resource: Resource,
    namespace: str | None,
    name: str,
    operations: Sequence[Mapping[str, Any]],
    *,
    field_manager: str | None = None,
    dry_run: bool = False,
    subresource: str | None = None,
) -> Request:
    """An RFC 6902 patch. Open it with a `test` of the resourceVersion or uid: list indexes shift under you."""
    return Request(
        verb="patch",
        method="PATCH",
        path=resource.path(namespace, name, subresource),
        resource=resource,
        idempotent=False,
        query=_query(fieldManager=field_manager, dryRun="All" if dry_run else None),
        headers={"Accept": JSON, "Content-Type": JSON_PATCH},
        body=orjson.dumps(list(operations)),
    )


def patch_merge(
    resource: Resource,
    namespace: str | None,
    name: str,
    body: Mapping[str, Any],
    *,
    field_manager: str,
    subresource: str | None = None,
) -> Request:
    """An RFC 7386 patch: a list replaces a list, null removes. With `metadata.resourceVersion` it is a compare-and-swap.

    Not idempotent: the second of two equal ones meets a newer resourceVersion.
    """
    return Request(
        verb="patch",
        method="PATCH",
        path=resource.path(namespace, name, subresource),
        resource=resource,
        idempotent=False,
        query=_query(fieldManager=field_manager, fieldValidation="Strict"),
        headers={"Accept": JSON, "Content-Type": MERGE_PATCH},
        body=orjson.dumps(dict(body)),
    )


def delete(
    resource: Resource,
    namespace: str | None,
    name: str,
    *,
    uid: str,
    resource_version: str | None = None,
    dry_run: bool = False,
) -> Request:
    """A background delete of exactly the object with `uid` (and `resource_version`); another one answers Conflict."""
    preconditions = {"uid": uid}
    if resource_version is not None:
        preconditions["resourceVersion"] = resource_version
    return Request(
        verb="delete",
        method="DELETE",
        path=resource.path(namespace, name),
        resource=resource,
        idempotent=True,
        query=_query(dryRun="All" if dry_run else None),
        headers={"Accept": JSON, "Content-Type": JSON},
        body=orjson.dumps(
            {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "propagationPolicy": "Background",
                "preconditions": preconditions,
            }
        ),
    )


def _identity(manifest: Manifest) -> tuple[str | None, str]:
    metadata = manifest["metadata"]
    return metadata.get("namespace"), metadata["name"]


@lru_cache(maxsize=256)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)  # nearly all requests have one of a dozen queries


def _query(**values: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in values.items() if value)
