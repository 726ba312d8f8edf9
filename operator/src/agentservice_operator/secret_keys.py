"""Decides which keys of Secrets an agent's pods read, and the digest of them by which a change of one replaces the pods.

Only with `rollout.restartOnSecretChange`. The digest stands in the pod template for everybody to read who may read a Deployment, so it is
keyed: without the key nobody can try guesses of a password against it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from agentservice_api import Reason, names
from agentservice_api.spec import RolloutSpec
from agentservice_operator.manifest import Manifest, canonical
from agentservice_operator.rollout import Verdict

_HEX_DIGITS: Final = 32
"""Of a fingerprint and of a digest: 128 bits."""
_NAME_DIGITS: Final = 8
_DIGEST: Final = re.compile(f"[0-9a-f]{{{_NAME_DIGITS}}}-[0-9a-f]{{{_HEX_DIGITS}}}")

Fingerprints: TypeAlias = Mapping[str, str]
"""By key of one Secret: what stands for its value (`fingerprint`)."""


@dataclass(frozen=True, kw_only=True, order=True)
class Reference:
    """One key of a Secret that a pod reads."""

    name: str
    key: str
    """Empty: all keys that the Secret has."""
    is_optional: bool = False
    """The pod starts without it."""

    def __str__(self) -> str:
        return f"{self.name}, key {self.key}" if self.key else self.name


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What becomes of `rollout.restartOnSecretChange` for now."""

    verdict: Verdict
    at_work: str | None = None
    """The digest that the pods bear now; None: none."""
    digest: str | None = None
    """The one that they are to bear."""
    again_in: float | None = None
    """Seconds until the Secrets are looked at again."""

    @property
    def is_change(self) -> bool:
        """Whether pods are replaced because of a Secret, rather than the field just switched on or off."""
        return self.at_work is not None and self.digest is not None and self.digest != self.at_work


def fingerprint(value: str, *, key: bytes) -> str:
    """Return what stands for a value: equal for equal values, and telling nothing to who has no ``key``."""
    return _hmac(key, b"value:" + value.encode())


def references(children: Iterable[Manifest], *, besides: str | None = None) -> tuple[Reference, ...]:
    """Return what the pods of the Deployments among ``children`` read of Secrets, in order and once; a Secret named ``besides`` is left out.

    Credentials for pulling images are not among them: no container sees them.
    """
    pods = [child["spec"]["template"]["spec"] for child in children if child["kind"] == "Deployment"]
    found = {reference for pod in pods for reference in _references(pod) if reference.name != besides}
    required = {(reference.name, reference.key) for reference in found if not reference.is_optional}
    return tuple(sorted(r for r in found if not r.is_optional or (r.name, r.key) not in required))


def missing(wanted: Iterable[Reference], found: Mapping[str, Fingerprints | None]) -> Reference | None:
    """Return the first reference that no pod starts without and that is not there; ``found`` has None for a Secret that does not exist."""
    for reference in wanted:
        keys = found[reference.name]
        if not reference.is_optional and (keys is None or (reference.key and reference.key not in keys)):
            return reference
    return None


def digest(wanted: Iterable[Reference], found: Mapping[str, Fingerprints | None], *, uid: str, key: bytes) -> str:
    """Return the digest of what ``wanted`` refers to, for the AgentService with ``uid``: no two agents have the same for the same keys.

    It begins with what tells its key from others (`same_key`). Another digest of the same content would replace pods, so this never changes.
    """
    covered: dict[str, dict[str, str | None]] = {}
    for reference in wanted:
        keys = found[reference.name] or {}
        of_secret = covered.setdefault(reference.name, {})
        of_secret.update({reference.key: keys.get(reference.key)} if reference.key else keys)
    return f"{_hmac(key, b'name')[:_NAME_DIGITS]}-{_hmac(key, f'agent:{uid}:'.encode() + canonical(covered))}"


def same_key(one: str, other: str) -> bool:
    """Tell whether two digests were made with one key, so that they can be compared."""
    return one[:_NAME_DIGITS] == other[:_NAME_DIGITS]


def digest_at_work(rollout: RolloutSpec, template: Manifest | None) -> str | None:
    """Return the digest in a Deployment's pod template; None without one (or without a Deployment), or when none is wanted any more."""
    if not rollout.restart_on_secret_change or template is None:
        return None
    annotations = cast("Mapping[str, str]", template["metadata"].get("annotations") or {})
    found = annotations.get(names.ANNOTATION_SECRETS, "")
    return found if _DIGEST.fullmatch(found) else None


def not_referenced() -> Verdict:
    """Return what is said of an agent whose pods read no Secret but a generated one."""
    return Verdict(status="True", reason=Reason.NOT_REFERENCED, message="the specification names no Secret")


def is_followed(interval: int) -> Verdict:
    """Return what is said when all is well; ``interval`` is in seconds."""
    return Verdict(
        status="True",
        reason=Reason.FOLLOWED,
        message=f"a change of a referenced key replaces the pods; the Secrets are looked at every {interval} s",
    )


def is_missing(reference: Reference) -> Verdict:
    """Return what is said while ``reference`` is not there: the pods that run have it from before, so they are let be."""
    return Verdict(
        status="False",
        reason=Reason.SECRET_NOT_FOUND,
        message=f"Secret {reference} does not exist: create it; until then no change of another key replaces the pods",
    )


def is_unreadable(where: str, *, why: str, forbidden: bool) -> Verdict:
    """Return what is said when the Secret ``where`` (namespace/name) cannot be read."""
    if forbidden:
        told = f"may not read Secret {where}: set readSecrets.enabled of the operator's chart to true, or take the field out"
    else:
        told = f"cannot read Secret {where}: {why}; it is tried again"
    return Verdict(
        status="False",
        reason=Reason.SECRETS_UNREADABLE,
        message=f"rollout.restartOnSecretChange has no effect, because the operator {told}",
    )


def is_paused() -> Verdict:
    """Return what is said while the AgentService is paused."""
    return Verdict(
        status="Unknown",
        reason=Reason.PAUSED,
        message=f"no Secret is read while the annotation {names.ANNOTATION_PAUSED} is there",
    )


def _references(spec: Manifest) -> Iterator[Reference]:
    for container in cast("list[Manifest]", spec["containers"]):
        for variable in cast("list[Manifest]", container.get("env") or []):
            reference = cast("Manifest", variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                yield Reference(name=reference["name"], key=reference["key"], is_optional=_is_optional(reference))
        for source in cast("list[Manifest]", container.get("envFrom") or []):
            reference = source.get("secretRef")
            if reference:
                yield Reference(name=reference["name"], key="", is_optional=_is_optional(reference))
    for volume in cast("list[Manifest]", spec.get("volumes") or []):
        if volume.get("secret"):
            yield from _files(volume["secret"], volume["secret"].get("secretName"))
        for source in cast("list[Manifest]", (volume.get("projected") or {}).get("sources") or []):
            if source.get("secret"):
                yield from _files(source["secret"], source["secret"].get("name"))


def _files(source: Manifest, name: Any) -> Iterator[Reference]:
    """Yield what a volume shows of the Secret ``name``. Its shape was not judged by us: what is unusable is the API server's to refuse."""
    if not isinstance(name, str) or not name:
        return
    items = cast("list[Manifest]", source.get("items") or [])
    for key in [str(item.get("key") or "") for item in items] or [""]:
        yield Reference(name=name, key=key, is_optional=_is_optional(source))


def _is_optional(source: Manifest) -> bool:
    return source.get("optional") is True


def _hmac(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()[:_HEX_DIGITS]
