"""Decides how a pod talks to the API server about its own AgentLedger: get, watch, and patch of the status. Nothing else.

It may do no more either: the pod's Role names this one object.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson

from agentservice_api.budget import LedgerSpec, LedgerStatus
from agentservice_api.budget.ledger import LEDGER_PLURAL
from agentservice_api.names import FIELD_MANAGER_LEDGER, GROUP, VERSION
from agentservice_api.schema import Model
from agentservice_runtime.ledger.server_clock import ServerClock

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 300
"""After so long the API server ends a watch, and another one is begun."""
SILENT_SECONDS: Final = 100.0
"""A watch that says nothing for so long is dead: bookmarks come about once a minute."""


class ApiError(Exception):
    """A request that was not carried out, or of which nobody knows. The message has neither address nor token."""


class Unreachable(ApiError):  # noqa: N818
    """No answer, or one that asks to try again later. Whether a write was carried out is not known."""


class Conflict(ApiError):  # noqa: N818
    """Somebody else has written since the resourceVersion that was given."""


class Gone(ApiError):  # noqa: N818
    """The state that a watch goes on from has been forgotten (410): begin again."""


class Forbidden(ApiError):  # noqa: N818
    """This pod's account may not do it, or has no valid token."""


class NotFound(ApiError):  # noqa: N818
    """There is no such AgentLedger."""


class Rejected(ApiError):  # noqa: N818
    """The API server's rules refuse the new status. The message is theirs."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where the API server is and how to prove who asks."""

    server: str
    """URL."""
    certificate_authority: Path
    token: Path | None = None
    """File of a token, which is replaced before it expires."""
    client_certificate: tuple[Path, Path] | None = None
    """Certificate and key, outside of pods."""


def in_cluster(environment: Mapping[str, str], *, directory: Path = SERVICE_ACCOUNT) -> Access:
    """Return what the kubelet gives every pod. Raises ApiError outside of a pod, or where no token is mounted."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    token = directory / "token"
    if not host or not token.exists():
        raise ApiError("this is no pod with a service account token, which a budget kept in Kubernetes needs")
    host = f"[{host}]" if ":" in host else host
    return Access(server=f"https://{host}:{port}", certificate_authority=directory / "ca.crt", token=token)


class Identity(Model):
    """What tells one state of one object from every other."""

    uid: str
    resource_version: str


class StoredLedger(Model):
    """An AgentLedger as the API server has it."""

    metadata: Identity
    spec: LedgerSpec = LedgerSpec()
    status: LedgerStatus = LedgerStatus()


class EventType(StrEnum):
    """What a watch says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


@dataclass(frozen=True, kw_only=True)
class LedgerEvent:
    """The object is so now, or was so when it was deleted."""

    ledger: StoredLedger
    deleted: bool


class LedgerClient:
    """Requests about one AgentLedger. Every answer's date goes to ``clock``. Close it with `aclose`."""

    def __init__(self, *, access: Access, namespace: str, name: str, clock: ServerClock) -> None:
        self._access = access
        self._clock = clock
        self._name = name
        self._all = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{LEDGER_PLURAL}"
        self._trust = ssl.create_default_context(cafile=str(access.certificate_authority))
        if access.client_certificate is not None:
            self._trust.load_cert_chain(*access.client_certificate)
        self._token = _Token(access.token) if access.token is not None else None
        self._http = httpx2.AsyncClient(
            base_url=access.server,
            verify=self._trust,
            trust_env=False,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=120),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self) -> StoredLedger:
        """Return the ledger as it is now, from etcd and no cache. Raises ApiError."""
        return _ledger(await self._answer("GET", f"{self._all}/{self._name}"))

    async def patch_status(self, status: Mapping[str, Any], *, resource_version: str) -> StoredLedger:
        """Replace these members of the status, if nobody has written since ``resource_version``. Raises ApiError."""
        body = {"metadata": {"resourceVersion": resource_version}, "status": status}
        path = f"{self._all}/{self._name}/status"
        return _ledger(await self._answer("PATCH", path, params={"fieldManager": FIELD_MANAGER_LEDGER}, body=body))

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[AsyncIterator[LedgerEvent]]:
        """Begin to watch: whatever happens from here on is told, and what is there now first. Raises ApiError, in it too."""
        params = {
            "watch": "1",
            "fieldSelector": f"metadata.name={self._name}",
            "allowWatchBookmarks": "1",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        self._read_authority_again()
        timeout = httpx2.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        try:
            async with self._http.stream(
                "GET", self._all, params=params, headers=self._headers(), timeout=timeout
            ) as response:
                self._clock.saw(response.headers.get("date"))
                if not response.is_success:
                    raise _error(response.status_code, await response.aread())
                yield _events(response)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise Unreachable(f"the API server cannot be watched ({_cause(error)})") from None

    async def _answer(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> bytes:
        headers = self._headers()
        content = None
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
            content = orjson.dumps(body)
        try:
            response = await self._http.request(method, path, params=params, headers=headers, content=content)
        except (httpx2.HTTPError, OSError) as error:
            raise Unreachable(f"the API server does not answer ({_cause(error)})") from None
        self._clock.saw(response.headers.get("date"))
        if not response.is_success:
            raise _error(response.status_code, response.content)
        return response.content

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.read()}"
        return headers

    def _read_authority_again(self) -> None:
        # a cluster's authority may be renewed while this pod lives; a context trusts what it has loaded since, too
        self._trust.load_verify_locations(cafile=str(self._access.certificate_authority))


class _Token:
    """The token in a file, read again when the kubelet has replaced it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._value = ""

    def read(self) -> str:
        try:
            stat = self._path.stat()
            identity = (stat.st_mtime_ns, stat.st_ino)
            if identity != self._identity:
                self._value, self._identity = self._path.read_text(encoding="utf-8").strip(), identity
        except OSError:
            pass  # being replaced at this moment: the old one is good for a while
        return self._value


async def _events(response: httpx2.Response) -> AsyncIterator[LedgerEvent]:
    async for line in response.aiter_lines():
        if not line:
            continue
        try:
            event = orjson.loads(line)
            kind = EventType(event["type"])
            told = event["object"]
        except (ValueError, KeyError, TypeError):
            raise Unreachable("the API server's watch ended in the middle of an event") from None
        if kind is EventType.ERROR:
            raise _error(int(told.get("code") or 500), orjson.dumps(told))
        if kind is not EventType.BOOKMARK:
            yield LedgerEvent(ledger=_validated(told), deleted=kind is EventType.DELETED)


def _ledger(content: bytes) -> StoredLedger:
    try:
        return StoredLedger.model_validate_json(content)
    except ValueError:
        raise Unreachable("the API server's answer is no AgentLedger of this version") from None


def _validated(told: object) -> StoredLedger:
    try:
        return StoredLedger.model_validate(told)
    except ValueError:
        raise Unreachable("what the API server tells is no AgentLedger of this version") from None


def _error(status: int, content: bytes) -> ApiError:
    match status:
        case 404:
            return NotFound("there is no such AgentLedger")
        case 409:
            return Conflict("somebody else has written the AgentLedger")
        case 410:
            return Gone("the API server has forgotten the state to go on from")
        case 401 | 403:
            return Forbidden(f"this pod's account is refused ({status}): its Role names its own AgentLedger alone")
        case 400 | 422:
            return Rejected(_message(content))
        case _:
            return Unreachable(f"the API server answers {status}")


def _cause(error: BaseException) -> str:
    """Say what happened without the address: a wrong clock shows as a certificate that is not valid yet."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _message(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return "the API server refuses the status"
