"""Decides how a question reaches an agent in the cluster: through the API server, to a pod or to its Service.

A port-forward to a ready pod carries every header. Where it is not allowed or does not work, the API server's proxy
to the Service does, unless a token is needed: the API server keeps the Authorization header for itself.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from kubernetes.client import ApiException, CoreV1Api
from kubernetes.stream import portforward  # pyright: ignore[reportUnknownVariableType]

from agentservice_api.names import GENERATED_TOKEN_KEY, LABEL_NAME, LABEL_REVISION
from agentservice_cli.ask.exchange import Answer, Exchange, pieces
from agentservice_cli.cluster.client import Cluster, RefusedError, body_of
from agentservice_cli.cluster.plain import Manifest, entries, part, text
from agentservice_cli.cluster.status import agent_service
from agentservice_cli.exits import CliError
from agentservice_cli.terminal import note
from agentservice_operator import pods as pod_facts

_PORT = 8000


@dataclass(frozen=True)
class Reached:
    """An agent in the cluster and how to ask it. `token` is None when it asks for none, or the user may not read it."""

    exchange: Exchange
    token: str | None = field(repr=False)


def reach(
    cluster: Cluster, *, namespace: str, name: str, token: str | None, timeout: float, method: str = "POST"
) -> Reached:
    """Return how to ask the AgentService. Raises CliError when it is not there or no pod serves."""
    live = agent_service(cluster, namespace=namespace, name=name)
    needs_token = text(live, "spec", "auth", "type") == "BearerToken"
    if token is None and needs_token:
        token = _token(cluster, live, namespace=namespace)
    pod = _serving_pod(cluster, live, namespace=namespace)
    who = f"{namespace}/{name}"

    def exchange(path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            return _to_pod(
                cluster, namespace, pod, method, path=path, body=body, headers=headers, timeout=timeout, who=who
            )
        except _NoForward as error:
            if needs_token or "Authorization" in headers:
                raise CliError(
                    f"no port-forward to pod {pod}: {error}",
                    mend="ask for get and create on pods/portforward; the API server's proxy cannot carry the agent's token",
                ) from None
            note(f"no port-forward ({error}); asking through the API server's proxy")
            return _to_service(cluster, namespace, name, method, path=path, body=body, headers=headers, timeout=timeout)

    return Reached(exchange, token)


class _NoForward(Exception):  # noqa: N818  not an error yet: there is another way
    """A port-forward could not be had."""


def _to_pod(
    cluster: Cluster,
    namespace: str,
    pod: str,
    method: str,
    *,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
    who: str,
) -> Answer:
    try:
        connect = CoreV1Api(cluster.client).connect_get_namespaced_pod_portforward
        forward = cast("Any", portforward(connect, pod, namespace, ports=str(_PORT)))
    except ApiException as error:
        raise _NoForward(_why(error)) from None
    except OSError as error:
        raise _NoForward(str(error)) from None
    connection = http.client.HTTPConnection(who.replace("/", "."), _PORT, timeout=timeout)
    connection.sock = cast("socket.socket", forward.socket(_PORT))
    connection.sock.settimeout(timeout)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _NoForward(str(forward.error(_PORT) or error)) from None
    return Answer(response.status, response.headers.get("Content-Type", ""), pieces(response, who))


def _to_service(
    cluster: Cluster,
    namespace: str,
    name: str,
    method: str,
    *,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
) -> Answer:
    proxy = f"/api/v1/namespaces/{namespace}/services/{name}:http/proxy{path}"
    response = cluster.open(method, proxy, content=body, headers=headers, timeout=timeout)
    return Answer(response.status, response.headers.get("Content-Type", ""), body_of(response))


def _serving_pod(cluster: Cluster, live: Manifest, *, namespace: str) -> str:
    """Return a ready pod, of the current revision if there is one. Raises CliError that says why there is none."""
    name, revision = text(live, "metadata", "name"), text(live, "status", "revision")
    pods = cluster.items("v1", "Pod", namespace, labelSelector=f"{LABEL_NAME}={name}")
    ready = [pod for pod in pods if pod_facts.is_ready(pod) and not pod_facts.is_dying(pod)]
    ready.sort(key=lambda pod: text(pod, "metadata", "labels", LABEL_REVISION) != revision)
    if ready:
        return text(ready[0], "metadata", "name")
    conditions = entries(live, "status", "conditions")
    why = next((text(c, "message") for c in conditions if c.get("type") == "Ready"), "no pod is ready")
    raise CliError(f"{name} does not serve: {why}", mend=f"agentservice status {name} -n {namespace}")


def _token(cluster: Cluster, live: Manifest, *, namespace: str) -> str | None:
    reference = _token_reference(live)
    if reference is None:
        return None
    try:
        secret = cluster.find("v1", "Secret", namespace, reference[0])
    except RefusedError as error:
        if error.status == 403:
            note(f"the agent asks for a token, and you may not read Secret {reference[0]}: pass --token @FILE")
            return None
        raise
    encoded = text(secret, "data", reference[1])
    return base64.b64decode(encoded).decode(errors="replace").strip() if encoded else None


def _token_reference(live: Manifest) -> tuple[str, str] | None:
    """Return name and key of a Secret that holds a token that the agent takes."""
    generated = text(live, "status", "auth", "secretName")
    if generated:
        return generated, GENERATED_TOKEN_KEY
    for token in entries(live, "spec", "auth", "tokens"):
        reference = part(token, "valueFrom", "secretKeyRef")
        return text(reference, "name"), text(reference, "key")
    return None


def _why(error: ApiException) -> str:
    """Return the API server's words. A refused websocket carries its Status behind the headers, in one line."""
    said = str(cast("Any", error).reason or error)
    start = said.find('{"kind":"Status"')
    if start >= 0:
        with contextlib.suppress(ValueError):
            return text(json.loads(said[start:]), "message")
    return (said.strip().splitlines() or [type(error).__name__])[0]
