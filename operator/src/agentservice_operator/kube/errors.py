"""Decides what a failed request means: which error is raised, and which words of the API server may be repeated.

Messages are safe to log and to put into a condition: they never carry a request body, they are cut at
`MESSAGE_LIMIT` characters, and what the server says about a Secret is replaced, because its validation messages
quote the offending value.
"""

# ruff: noqa: N818 - named after the reasons of the API conventions, as client libraries in every language do
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from agentservice_operator.kube.resources import Resource

MESSAGE_LIMIT = 1024


class KubeError(Exception):
    """Everything that a request to the API server can fail with."""


class TransportError(KubeError):
    """No answer: refused, reset, TLS, timeout. Whether the server carried the request out is unknown."""


@dataclass(frozen=True)
class Cause:
    """One entry of `status.details.causes`: the field (JSONPath-like, may be empty), the reason and the rule it breaks."""

    field: str
    reason: str
    message: str


class ApiError(KubeError):
    """The API server answered with a Status of failure (https://kubernetes.io/docs/reference/using-api/api-concepts).

    `retry_after` is in seconds, from the `Retry-After` header or `details.retryAfterSeconds`; None when not given.
    """

    def __init__(
        self,
        *,
        status: int,
        reason: str = "",
        message: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
        resource: Resource | None = None,
        name: str = "",
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after = retry_after
        self.resource = resource
        self.name = name
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")


class Invalid(ApiError):
    """400 or 422: the manifest can never be accepted as it is. `causes` names the fields."""


class Unauthorized(ApiError):
    """401: the credentials are not (or no longer) known."""


class Forbidden(ApiError):
    """403: RBAC, a quota or an admission policy refuses."""


class NotFound(ApiError):
    """404: the object, its namespace or the whole kind is absent; `kind_is_absent` tells the last apart."""

    @property
    def kind_is_absent(self) -> bool:
        """True when the server does not know the path at all: no CustomResourceDefinition, or an old server.

        It then answers without naming an object, often in plain text instead of a Status.
        """
        return not self.name and (not self.reason or "could not find the requested resource" in self.message)


class Conflict(ApiError):
    """409: a resourceVersion or uid precondition failed, or an apply without force met another owner."""


class AlreadyExists(Conflict):
    """409 to a create: the name is taken, by us or by somebody else: read it, then decide."""


class Gone(ApiError):
    """410: the resourceVersion or the continue token is too old: list again."""


class TooManyRequests(ApiError):
    """429: API priority and fairness refused; the request was not carried out."""


class ServerError(ApiError):
    """5xx. The request may have been carried out."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from_answer(
    *, status: int, body: bytes, retry_after: str | None = None, resource: Resource | None = None
) -> ApiError:
    """The error of an answer with status >= 400. A body that is not a Status is not repeated: a proxy may have written it."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict) or cast("dict[str, Any]", parsed).get("kind") != "Status":
        parsed = {}
    return error_from_status(cast("dict[str, Any]", parsed), status=status, retry_after=retry_after, resource=resource)


def error_from_status(
    answer: Mapping[str, Any],
    *,
    status: int | None = None,
    retry_after: str | None = None,
    resource: Resource | None = None,
) -> ApiError:
    """The error of a Status object: an answer's body, or the object of a watch event of type ERROR."""
    code = status or int(answer.get("code") or 500)
    details = cast("Mapping[str, Any]", answer.get("details") or {})
    reason = str(answer.get("reason") or "")
    causes = tuple(
        Cause(
            field=str(cause.get("field") or ""),
            reason=str(cause.get("reason") or ""),
            message=_cut(str(cause.get("message") or "")),
        )
        for cause in cast("list[Mapping[str, Any]]", details.get("causes") or [])
    )
    message = _cut(str(answer.get("message") or ""))
    if resource is not None and resource.plural == "secrets":
        message = f"the API server refused the Secret ({reason or code})"
        causes = tuple(Cause(field=cause.field.split("[")[0], reason=cause.reason, message="") for cause in causes)
    if not message:
        message = f"the API server answered {code}"
    return _kind(code, reason, message, causes)(
        status=code,
        reason=reason,
        message=message,
        causes=causes,
        retry_after=_seconds(retry_after, details.get("retryAfterSeconds")),
        resource=resource,
        name=str(details.get("name") or ""),
    )


def _kind(code: int, reason: str, message: str, causes: tuple[Cause, ...]) -> type[ApiError]:
    if reason == "Expired":
        return Gone
    if reason == "AlreadyExists":
        return AlreadyExists
    if code == 422 and any(cause.field == "metadata.uid" for cause in causes):
        return Conflict  # an apply that names the uid of an object which another one has replaced (seen on 1.36)
    if code == 500 and "failed to create typed patch object" in message:
        return Invalid  # an apply with a field that the schema does not have (seen on 1.36): no server's fault
    return ServerError if code >= 500 else _BY_STATUS.get(code, ApiError)


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _seconds(header: str | None, details: Any) -> float | None:
    for value in (header, details):
        try:
            if value is not None and float(value) > 0:
                return float(value)
        except (TypeError, ValueError):
            continue  # an HTTP date: only proxies send it, and their clock is not ours
    return None
