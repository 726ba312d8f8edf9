"""Decides how requests are sent: concurrency, timeouts, retries, what is measured. `requests` says what they look like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from yarl import URL

from agentservice_operator.kube import requests
from agentservice_operator.kube.errors import (
    KubeError,
    NotFound,
    TransportError,
    Unauthorized,
    error_from_answer,
)
from agentservice_operator.kube.requests import FieldValidation, Request
from agentservice_operator.kube.resources import Resource
from agentservice_operator.kube.retry import RetryPolicy
from agentservice_operator.kube.stream import WatchEvent, lines, name_type, watch_event
from agentservice_operator.kube.wire import CannotConnectError, Wire
from agentservice_operator.manifest import Manifest

PAGE_SIZE = 100
"""Objects per page of a list. Small, because a page is in memory as parsed before it is trimmed: a Deployment is 100 kB then."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request that was sent, for the metrics. `code` is the HTTP status, or `<error>` without an answer."""

    verb: str
    resource: Resource
    method: str
    code: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list. `resource_version` is the list's; `continue_token` is empty on the last page."""

    items: list[Manifest]
    resource_version: str
    continue_token: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A whole list at one resourceVersion."""

    items: list[Manifest]
    resource_version: str


class Client:
    """The API server, one method per verb; objects are plain dicts with apiVersion and kind.

    Effects are passed in: `wire` for requests and `session` for watches (see `credentials.Connection`), `clock` (monotonic
    seconds), `random` ([0, 1)), `sleep`. `guard` is called before every request that may change something and raises to stop it: the fence of a
    leader that lost its lease. `observe` sees each exchange; `on_unauthorized` is called at each 401.
    At most `concurrency` requests run at a time; watches do not count. `request_timeout` is seconds per attempt.

    Every method raises `TransportError` without an answer and an `ApiError` for an answer >= 400, after the retries
    of `policy`.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        session: aiohttp.ClientSession,
        server: str,
        clock: Callable[[], float],
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        concurrency: int = 48,
        request_timeout: float = 30.0,
        policy: RetryPolicy | None = None,
        guard: Callable[[], None] | None = None,
        observe: Callable[[Exchange], None] | None = None,
        on_unauthorized: Callable[[], None] | None = None,
    ) -> None:
        self._wire = wire
        self._session = session
        self._server = server.rstrip("/")
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = request_timeout
        self._policy = policy or RetryPolicy()
        self._guard = guard
        self._observe = observe
        self._on_unauthorized = on_unauthorized
        self._told_time: tuple[str, float] | None = None

    def server_time(self) -> datetime | None:
        """The API server's clock now (UTC, to a second): the Date of its last answer, and our monotonic clock since.

        None before the first answer, or when a proxy has taken the header away.
        """
        if self._told_time is None:
            return None
        told, at = self._told_time
        try:
            return parsedate_to_datetime(told) + timedelta(seconds=self._clock() - at)
        except ValueError:
            return None

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest:
        return await self._object(requests.get(resource, namespace, name))

    async def get_metadata(self, resource: Resource, namespace: str | None, name: str) -> Manifest:
        """As `get`, but only apiVersion, kind and metadata (PartialObjectMetadata), and perhaps a moment old."""
        return await self._object(requests.get(resource, namespace, name, metadata_only=True))

    async def serves(self, group: str) -> bool:
        """Tell whether a group of APIs is registered, in whichever version."""
        try:
            await self._json(requests.group(group))
        except NotFound:
            return False
        return True

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        limit: int = PAGE_SIZE,
    ) -> Listing:
        """The whole list, read in pages of `limit`. Without a namespace: of all namespaces.

        Raises:
            Gone: the pages took so long that the list's state is compacted away: start again.
        """
        items: list[Manifest] = []
        version = ""
        pages = self.pages(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            metadata_only=metadata_only,
            limit=limit,
        )
        async with aclosing(pages):
            async for page in pages:
                items += page.items
                version = page.resource_version
        return Listing(items=items, resource_version=version)

    async def list_metadata(
        self, resource: Resource, *, namespace: str | None = None, label_selector: str | None = None
    ) -> Listing:
        """As `list`, but each object has only apiVersion, kind and metadata (PartialObjectMetadata)."""
        return await self.list(resource, namespace=namespace, label_selector=label_selector, metadata_only=True)

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        limit: int = PAGE_SIZE,
    ) -> AsyncGenerator[Page]:
        """The list page by page, all at one resourceVersion, so that nobody holds it whole: a page is empty once the next is asked for."""
        token = ""
        while True:
            answer = await self._json(
                requests.list_page(
                    resource,
                    namespace=namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    metadata_only=metadata_only,
                    limit=limit,
                    continue_token=token or None,
                )
            )
            metadata: dict[str, Any] = answer.get("metadata") or {}
            token = metadata.get("continue") or ""
            items: list[Manifest] = answer.get("items") or []
            for item in items:  # items of a list come without their type
                name_type(item, resource)
            yield Page(items=items, resource_version=metadata.get("resourceVersion") or "", continue_token=token)
            if not token:
                return
            items.clear()  # megabytes, and of every kind at a start: not to be held until the next page is there

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        timeout_seconds: int = 290,
        inactivity_timeout: float = 90.0,
    ) -> AsyncGenerator[WatchEvent]:
        """Events from `resource_version` on, until the server closes the stream after `timeout_seconds`.

        `inactivity_timeout`: seconds without a byte after which the stream counts as dead; the server sends a bookmark
        every minute, so silence is a lost connection. Bookmarks are yielded. Not retried: the caller knows from where.

        Raises:
            Gone: the resourceVersion is too old: list again.
            ApiError: refused, or an ERROR event.
            TransportError: the stream broke or fell silent.
        """
        request = requests.watch(
            resource,
            resource_version=resource_version,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            metadata_only=metadata_only,
            timeout_seconds=timeout_seconds,
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=inactivity_timeout)
        began = self._clock()
        code = "<error>"
        try:
            async with self._session.get(
                self._url(request),
                headers=request.headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                code = str(response.status)
                self._measure(request, code, began)
                if response.status != 200:
                    raise self._refusal(
                        request,
                        status=response.status,
                        body=await response.read(),
                        retry_after=response.headers.get("Retry-After"),
                    )
                async with aclosing(lines(response.content)) as received:
                    async for line in received:
                        yield watch_event(line, resource)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if code == "<error>":
                self._measure(request, code, began)
            raise TransportError(f"watch of {resource.label}: {_why(error)}") from error

    async def apply(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = True,
        dry_run: bool = False,
        field_validation: FieldValidation = "Strict",
        subresource: str | None = None,
    ) -> Manifest:
        """Server-side apply. With `metadata.uid` in the manifest a missing object is a Conflict, and another one too."""
        return await self._object(
            requests.apply(
                resource,
                manifest,
                field_manager=field_manager,
                force=force,
                dry_run=dry_run,
                field_validation=field_validation,
                subresource=subresource,
            )
        )

    async def create(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        field_manager: str,
        dry_run: bool = False,
        field_validation: FieldValidation = "Strict",
    ) -> Manifest:
        """POST.

        Raises:
            AlreadyExists: the name is taken, perhaps by our own try whose answer was lost.
        """
        return await self._object(
            requests.create(
                resource, manifest, field_manager=field_manager, dry_run=dry_run, field_validation=field_validation
            )
        )

    async def replace(
        self, resource: Resource, manifest: Manifest, *, field_manager: str, subresource: str | None = None
    ) -> Manifest:
        """PUT with the manifest's resourceVersion as the compare-and-swap; a Conflict when somebody was faster."""
        return await self._object(
            requests.replace(resource, manifest, field_manager=field_manager, subresource=subresource)
        )

    async def patch_json(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        field_manager: str | None = None,
        dry_run: bool = False,
        subresource: str | None = None,
    ) -> Manifest:
        """RFC 6902. A failed `test` operation is Invalid (422)."""
        return await self._object(
            requests.patch_json(
                resource,
                namespace,
                name,
                operations,
                field_manager=field_manager,
                dry_run=dry_run,
                subresource=subresource,
            )
        )

    async def patch_merge(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        field_manager: str,
        subresource: str | None = None,
    ) -> Manifest:
        """RFC 7386. With `metadata.resourceVersion` in the body a Conflict when somebody was faster."""
        return await self._object(
            requests.patch_merge(resource, namespace, name, body, field_manager=field_manager, subresource=subresource)
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> None:
        """Delete exactly the object with `uid`. NotFound when it is gone, Conflict when another one has its name."""
        await self._json(
            requests.delete(resource, namespace, name, uid=uid, resource_version=resource_version, dry_run=dry_run)
        )

    async def _object(self, request: Request) -> Manifest:
        answer = await self._json(request)
        name_type(answer, request.resource)
        return answer

    async def _json(self, request: Request) -> dict[str, Any]:
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            try:
                return await self._attempt(request)
            except Unauthorized:
                if renewed or self._on_unauthorized is None:
                    raise
                renewed = True  # the token was rotated under us: once more with the new one
                attempt -= 1
            except KubeError as error:
                delay = self._policy.delay(error, attempt=attempt, idempotent=request.idempotent, random=self._random)
                if delay is None:
                    raise
                await self._sleep(delay)

    async def _attempt(self, request: Request) -> dict[str, Any]:
        async with self._slots:
            if self._guard is not None and request.mutates:
                self._guard()
            began = self._clock()
            code = "<error>"
            try:
                answer = await self._wire.send(
                    request.method,
                    request.target,
                    headers=request.headers,
                    body=request.body,
                    seconds=self._timeout,
                )
                code = str(answer.status)
                if answer.date is not None:
                    self._told_time = answer.date, self._clock()
                if answer.status >= 300:
                    raise self._refusal(request, status=answer.status, body=answer.body, retry_after=answer.retry_after)
                return orjson.loads(answer.body)
            except (TimeoutError, OSError) as error:
                raise TransportError(f"{request.verb} of {request.resource.label}: {_why(error)}") from error
            except orjson.JSONDecodeError as error:
                raise TransportError(f"{request.verb} of {request.resource.label}: the answer is not JSON") from error
            finally:
                self._measure(request, code, began)

    def _url(self, request: Request) -> URL:
        return URL(self._server + request.target, encoded=True)

    def _refusal(self, request: Request, *, status: int, body: bytes, retry_after: str | None) -> KubeError:
        if status == 401 and self._on_unauthorized is not None:
            self._on_unauthorized()
        return error_from_answer(status=status, body=body, retry_after=retry_after, resource=request.resource)

    def _measure(self, request: Request, code: str, began: float) -> None:
        if self._observe is not None:
            self._observe(
                Exchange(
                    verb=request.verb,
                    resource=request.resource,
                    method=request.method,
                    code=code,
                    seconds=self._clock() - began,
                )
            )


def _why(error: BaseException) -> str:
    # The class says enough; the text of aiohttp's errors may carry the URL's query or a proxy's words.
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, CannotConnectError):
        return f"cannot connect ({error.strerror})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect ({error.os_error.strerror or type(error).__name__})"
    return type(error).__name__
