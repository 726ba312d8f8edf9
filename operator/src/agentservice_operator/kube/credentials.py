"""Decides which API server we talk to and as whom: the pod's ServiceAccount, or a kubeconfig (no exec plugins).

Both give an `Endpoint` (pure data and an SSL context); `Connection` has the wire for requests and makes the sessions for what
streams. One connector is shared by all sessions: ours and the one handed to kopf, which closes its session whenever it logs in again.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml
from yarl import URL

from agentservice_operator.kube.wire import Wire

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_AGE_SECONDS = 60.0
"""How long a token file is trusted unread. The kubelet rotates it at 80 % of its life (an hour at least)."""


class CredentialsError(Exception):
    """No usable credentials; the message says where they were sought and what to do."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An API server and how to present oneself. At most one of `token` and `token_file`; client certificates are in `tls`."""

    server: str
    tls: ssl.SSLContext | None = None
    token: str | None = None
    token_file: Path | None = None
    namespace: str = "default"

    def __repr__(self) -> str:
        return f"Endpoint(server={self.server!r})"  # a token never reaches a log by way of repr


def find_endpoint(environ: Mapping[str, str], *, service_account: Path = SERVICE_ACCOUNT) -> Endpoint:
    """KUBECONFIG when set, else the pod's ServiceAccount.

    Raises:
        CredentialsError: neither is there, or the kubeconfig cannot be used.
    """
    path = environ.get("KUBECONFIG", "")
    if path:
        return from_kubeconfig(Path(path), context=environ.get("KUBE_CONTEXT") or None)
    return from_service_account(environ, service_account=service_account)


def from_service_account(environ: Mapping[str, str], *, service_account: Path = SERVICE_ACCOUNT) -> Endpoint:
    """The mounted ServiceAccount token and CA of a pod.

    Raises:
        CredentialsError: not in a pod, or the token is not mounted.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token_file, ca_file = service_account / "token", service_account / "ca.crt"
    if not host:
        raise CredentialsError("not in a pod (KUBERNETES_SERVICE_HOST is not set): set KUBECONFIG to a kubeconfig file")
    if not token_file.is_file() or not ca_file.is_file():
        raise CredentialsError(
            f"no ServiceAccount token in {service_account}: set automountServiceAccountToken: true on the operator's pod"
        )
    namespace_file = service_account / "namespace"
    return Endpoint(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=ssl.create_default_context(cafile=str(ca_file)),
        token_file=token_file,
        namespace=namespace_file.read_text().strip() if namespace_file.is_file() else "default",
    )


def from_kubeconfig(path: Path, *, context: str | None = None) -> Endpoint:
    """One context of a kubeconfig: certificates, a token or a token file.

    Raises:
        CredentialsError: unreadable, incomplete, or it asks for a plugin (exec, auth-provider), which the operator never runs.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CredentialsError(f"KUBECONFIG={path}: {type(error).__name__}: mend or unset it") from error
    wanted = context or config.get("current-context") or ""
    entry = _named(config, "contexts", wanted, "context", path)
    cluster = _named(config, "clusters", entry.get("cluster", ""), "cluster", path)
    user = _named(config, "users", entry.get("user", ""), "user", path)
    if "exec" in user or "auth-provider" in user:
        raise CredentialsError(
            f"KUBECONFIG={path}: user {entry.get('user')!r} needs a login plugin, which the operator does not run: "
            "use a token or client certificates"
        )
    server = str(cluster.get("server") or "")
    if not server:
        raise CredentialsError(f"KUBECONFIG={path}: cluster {entry.get('cluster')!r} names no server")
    return Endpoint(
        server=server.rstrip("/"),
        tls=_tls(cluster, user, directory=path.parent) if server.startswith("https:") else None,
        token=user.get("token"),
        token_file=(path.parent / user["tokenFile"]) if user.get("tokenFile") else None,
        namespace=entry.get("namespace") or "default",
    )


def _named(config: Mapping[str, Any], section: str, name: str, member: str, path: Path) -> dict[str, Any]:
    for entry in cast("list[dict[str, Any]]", config.get(section) or []):
        if entry.get("name") == name:
            return cast("dict[str, Any]", entry.get(member) or {})
    raise CredentialsError(f"KUBECONFIG={path}: no {member} named {name!r} in {section}")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], *, directory: Path) -> ssl.SSLContext:
    authority = _pem(cluster, "certificate-authority", directory)
    context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _pem(user, "client-certificate", directory), _pem(user, "client-key", directory)
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:  # the ssl module loads a key pair from files only; mode 0600
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(section: Mapping[str, Any], field: str, directory: Path) -> bytes | None:
    if section.get(f"{field}-data"):
        return base64.b64decode(section[f"{field}-data"])
    if section.get(field):
        return (directory / section[field]).read_bytes()
    return None


class Connection:
    """The wire to one endpoint, and sessions over one connection pool. Create and close it inside the event loop.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, endpoint: Endpoint, *, clock: Callable[[], float]) -> None:
        self.server = endpoint.server
        self.namespace = endpoint.namespace
        self._endpoint = endpoint
        self._clock = clock
        self._origin = URL(endpoint.server).origin()
        self._token: str | None = endpoint.token
        self._read_at: float | None = None
        # Unlimited: watches hold their connections for ever; requests are limited by the client.
        self._connector = aiohttp.TCPConnector(limit=0, ssl=endpoint.tls or True, keepalive_timeout=60)
        self.wire = Wire(endpoint.server, tls=endpoint.tls, token=self.token, clock=clock)

    def session(
        self,
        *,
        saw: Callable[[URL], None] = lambda _: None,
        response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
    ) -> aiohttp.ClientSession:
        """A new session over the shared pool. Closing it leaves the pool open. ``saw`` is told of each request."""

        async def seen(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            saw(request.url)
            return await handler(request)

        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            response_class=response_class,
            middlewares=(self._authorize, seen),
            headers={"User-Agent": "agentservice-operator"},
            cookie_jar=aiohttp.DummyCookieJar(),  # an API server sets none, and the other looks for some at each request
            auto_decompress=True,
        )

    def token(self) -> str | None:
        """The bearer token, read anew from its file every `TOKEN_AGE_SECONDS`."""
        file, now = self._endpoint.token_file, self._clock()
        if file is not None and (self._read_at is None or now - self._read_at >= TOKEN_AGE_SECONDS):
            try:
                self._token = file.read_text().strip()
            except OSError:
                if self._token is None:
                    raise
            # A file that is gone for a moment (the kubelet swaps a symlink) leaves the old token in use.
            self._read_at = now
        return self._token

    def distrust_token(self) -> None:
        """The server answered 401: read the token file again at the next request."""
        self._read_at = None

    async def close(self) -> None:
        await self.wire.close()
        await self._connector.close()

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if request.url.origin() == self._origin:  # a redirect elsewhere never gets the token
            token = self.token()
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)
