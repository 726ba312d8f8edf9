"""Decides what is wrong with a pod, in words that say what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from agentservice_api import Reason, names
from agentservice_operator.manifest import Manifest

EX_CONFIG: Final = 78
"""Exit code (sysexits.h) with which the runtime says that it cannot use its configuration."""

_PULL_REASONS: Final = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_URGENCY: Final = (
    Reason.CONFIGURATION_REJECTED,
    Reason.SECRET_NOT_FOUND,
    Reason.REFERENCE_NOT_FOUND,
    Reason.IMAGE_PULL_FAILED,
    Reason.CRASH_LOOPING,
    Reason.UNSCHEDULABLE,
)
"""Which trouble to name when pods have several: the one whose mend is surest first."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a pod does not serve."""

    reason: Reason
    message: str


def is_ready(pod: Manifest) -> bool:
    """Tell whether the kubelet calls the pod ready."""
    return _condition(pod, "Ready").get("status") == "True"


def is_dying(pod: Manifest) -> bool:
    """Tell whether the pod is being deleted or has ended."""
    return bool(pod["metadata"].get("deletionTimestamp")) or is_over(pod)


def is_over(pod: Manifest) -> bool:
    """Tell whether the pod's containers have ended for good."""
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def revision(pod: Manifest) -> str:
    """Return the revision that the pod runs."""
    labels = cast("Mapping[str, str]", pod["metadata"].get("labels") or {})
    return labels.get(names.LABEL_REVISION, "")


def has_started(pod: Manifest) -> bool:
    """Tell whether the agent's container ever ran, and so whether every volume could be mounted."""
    container = _agent(pod)
    state = cast("Mapping[str, Any]", container.get("state") or {})
    waiting = cast("Mapping[str, Any]", state.get("waiting") or {})
    return (
        "running" in state
        or "terminated" in state
        or bool(container.get("lastState"))
        or waiting.get("reason") == "CrashLoopBackOff"
    )


def is_starting(pod: Manifest) -> bool:
    """Tell whether the pod is on its first way up and nothing has gone wrong yet."""
    return not is_dying(pod) and not is_ready(pod) and not _agent(pod).get("restartCount") and trouble(pod) is None


def trouble(pod: Manifest, failed_mount: str = "") -> Trouble | None:
    """Return why ``pod`` does not serve; ``failed_mount`` is the kubelet's last word on a volume, if any."""
    if is_ready(pod):
        return None
    container = _agent(pod)
    state = cast("Mapping[str, Any]", container.get("state") or {})
    waiting = cast("Mapping[str, str]", state.get("waiting") or {})
    ended = cast(
        "Mapping[str, Any]", state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    )
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_REASONS:
        return Trouble(
            reason=Reason.IMAGE_PULL_FAILED,
            message=f"the image cannot be pulled ({reason}: {message}): check runtime.image and runtime.imagePullSecrets",
        )
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        return _missing(message)
    if ended and ended.get("exitCode") == EX_CONFIG:
        why = str(ended.get("message") or "the runtime gave no reason; see its log").strip()
        return Trouble(reason=Reason.CONFIGURATION_REJECTED, message=why)
    if ended and (container.get("restartCount") or state.get("terminated")):
        return Trouble(reason=Reason.CRASH_LOOPING, message=_crash(pod, container, ended))
    if failed_mount and not has_started(pod):
        return _missing(failed_mount)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Trouble(
            reason=Reason.UNSCHEDULABLE,
            message=f"no node can take a pod: {scheduled.get('message') or ''}".rstrip(": "),
        )
    return None


def worst(troubles: Iterable[Trouble]) -> Trouble | None:
    """Return the trouble to name first, None without any."""
    return min(troubles, key=lambda t: (_URGENCY.index(t.reason), t.message), default=None)


def waits_for_secret(found: Collection[Trouble]) -> Trouble | None:
    """Return the trouble that is a missing Secret."""
    return next((t for t in found if t.reason is Reason.SECRET_NOT_FOUND), None)


def _missing(message: str) -> Trouble:
    """Turn the kubelet's words about a Secret or ConfigMap into ours: `secret "x" not found`, `couldn't find key k in Secret ns/x`."""
    text = message.removeprefix("MountVolume.SetUp failed for volume ").strip()
    if "secret" in text.lower():
        return Trouble(
            reason=Reason.SECRET_NOT_FOUND,
            message=f"a pod waits for a Secret: {text}: create it with that key; the pod goes on by itself within 3 minutes",
        )
    return Trouble(
        reason=Reason.REFERENCE_NOT_FOUND,
        message=f"a pod waits for what it refers to: {text}: create it; the pod goes on by itself",
    )


def _crash(pod: Manifest, container: Manifest, ended: Mapping[str, Any]) -> str:
    meta = pod["metadata"]
    what = ended.get("reason") or "Error"
    ends = container.get("restartCount") or 1
    said = str(ended.get("message") or "").strip()
    return (
        f"pod {meta['name']} ended {'once' if ends == 1 else f'{ends} times'}, last with exit code {ended.get('exitCode')} ({what})"
        + (f": {said}" if said else "")
        + f"; see: kubectl -n {meta['namespace']} logs {meta['name']} --previous"
    )


def _agent(pod: Manifest) -> Manifest:
    containers = cast("list[Manifest]", pod["status"].get("containerStatuses") or [])
    return next((c for c in containers if c.get("name") == "agent"), Manifest())


def _condition(pod: Manifest, kind: str) -> Mapping[str, str]:
    conditions = cast("list[Mapping[str, str]]", pod["status"].get("conditions") or [])
    return next((c for c in conditions if c.get("type") == kind), dict[str, str]())
