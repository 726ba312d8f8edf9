"""Decides who a caller is: a bearer token of `spec.auth.tokens`, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from agentservice_api.spec import AuthSpec, AuthType
from agentservice_runtime.errors import Category, Problem, ServiceError
from agentservice_runtime.secrets import SecretFiles

_MAX_CALLER: Final = 256

UNAUTHORIZED: Final = Problem(
    status=401,
    title="Unauthorized",
    detail="Send a valid token in the header 'Authorization: Bearer <token>'.",
    category=Category.VALIDATION,
    headers=(("WWW-Authenticate", 'Bearer realm="agentservice"'),),
)


class Authenticator:
    """Knows the tokens; their files are read again when they change."""

    def __init__(self, spec: AuthSpec, *, secrets: SecretFiles) -> None:
        self._spec = spec
        self._secrets = secrets

    def caller(self, headers: Mapping[str, str]) -> str | None:
        """Return the caller's name, or None where nobody need say who they are.

        Raises ServiceError (401). Every token is compared, whichever fits, so that the time tells nothing; digests
        have one length, so their comparison does not tell the token's.
        """
        if self._spec.type is AuthType.NONE:
            return None
        given = _bearer(headers.get("authorization"))
        digest = hashlib.sha256((given or "").encode("utf-8", "surrogateescape")).digest()
        name: str | None = None
        for token in self._spec.tokens:
            value = self._secrets.read(token.value_from.secret_key_ref)
            expected = hashlib.sha256((value or "").encode()).digest()
            if hmac.compare_digest(digest, expected) and value and given:
                name = token.name
        if name is None:
            raise ServiceError(UNAUTHORIZED)
        header = self._spec.caller_header
        user = _printable(headers.get(header.lower(), "")) if header else ""
        return f"{name}/{user}" if user else name

    def end_user(self, headers: Mapping[str, str], *, caller: str | None) -> str | None:
        """Return what tells who asks from everybody else; None when that is not known.

        ``caller`` is what `caller` returned. The header is taken as it came: the name in logs may be that of several.
        """
        name = self._spec.caller_header
        if caller is None or name is None:
            return caller
        user = headers.get(name.lower(), "").strip()
        return f"{caller.partition('/')[0]}/{user}" if user else None


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _printable(value: str) -> str:
    return "".join(c for c in value.strip() if c.isprintable())[:_MAX_CALLER]
