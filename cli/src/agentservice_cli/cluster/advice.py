"""Decides what a person should do about a condition's reason: one sentence or command each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentservice_api import Reason
from agentservice_api.names import ANNOTATION_PAUSED

_BY_REASON: Mapping[Reason, tuple[str, ...]] = {
    Reason.IMAGE_PULL_FAILED: (
        "check spec.runtime.image and spec.runtime.imagePullSecrets; the pods try again by themselves",
        "kubectl -n {namespace} describe pod {pod}",
        "or go back: agentservice rollback {name} -n {namespace}",
    ),
    Reason.CRASH_LOOPING: (
        "kubectl -n {namespace} logs {pod} --previous",
        "or go back: agentservice rollback {name} -n {namespace}",
    ),
    Reason.CONFIGURATION_REJECTED: (
        "mend the field that the message names; `agentservice run -f FILE` tries it here",
        "or go back: agentservice rollback {name} -n {namespace}",
    ),
    Reason.UNSCHEDULABLE: (
        "lower spec.runtime.resources.requests, mend nodeSelector or tolerations, or add a node",
        "kubectl -n {namespace} describe pod {pod}",
    ),
    Reason.PODS_REFUSED: (
        "kubectl -n {namespace} describe deployment {name}",
        "raise the quota or mend what the policy refuses",
    ),
    Reason.PROGRESS_DEADLINE_EXCEEDED: (
        "kubectl -n {namespace} logs {pod}",
        "or go back: agentservice rollback {name} -n {namespace}",
    ),
    Reason.SECRET_NOT_FOUND: (
        "give the Secret the key that the message names: {secret}",
        "the pods go on by themselves within 3 minutes; at once: kubectl -n {namespace} delete pod {pod}",
    ),
    Reason.REFERENCE_NOT_FOUND: ("create the ConfigMap or key that the message names; the operator goes on by itself",),
    Reason.INVALID_SPEC: (
        "mend the field that the message names, then kubectl apply; `agentservice render -f FILE` checks without a cluster",
    ),
    Reason.CONFLICT: ("rename the AgentService, or remove the object that the message names",),
    Reason.FORBIDDEN: (
        "give the operator the permission that the message names; agentservice doctor checks its installation",
    ),
    Reason.WAITING_FOR_DELETION: ("wait: what is left of the deleted one goes away by itself",),
    Reason.PAUSED: ("go on: kubectl -n {namespace} annotate ags {name} " + ANNOTATION_PAUSED + "-",),
    Reason.PROGRESSING: ("wait: agentservice status {name} -n {namespace} --wait 120",),
    Reason.UNAVAILABLE: ("wait, then look again: agentservice status {name} -n {namespace} --wait 120",),
    Reason.AVAILABLE: ('ask it: agentservice ask {name} -n {namespace} "Hello"',),
    Reason.SUSPENDED: (
        'let it run: kubectl -n {namespace} patch ags {name} --type=merge -p \'{{"spec": {{"suspend": false}}}}\'',
    ),
}

UNSEEN = (
    "the operator has not looked at this version yet: give it a moment",
    "if it stays so, is it installed and running? agentservice doctor",
)


def advice(reason: str, *, namespace: str, name: str, pod: str, secret: Mapping[str, str]) -> Iterator[str]:
    """Yield what to do about the reason of Ready; nothing for a reason that this version does not know.

    ``pod`` is one that does not serve, empty without any; ``secret`` the missing one as far as it is known:
    its ``name`` and ``key``.
    """
    try:
        known = Reason(reason)
    except ValueError:
        return
    for text in _BY_REASON.get(known, ()):
        if "{pod}" in text and not pod:
            continue
        yield text.format(namespace=namespace, name=name, pod=pod, secret=_create_secret(namespace, secret))


def _create_secret(namespace: str, secret: Mapping[str, str]) -> str:
    name, key = secret.get("name", "SECRET"), secret.get("key", "KEY")
    return f"kubectl -n {namespace} create secret generic {name} --from-file={key}=FILE"
