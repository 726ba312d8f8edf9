"""Decides how the parts of a pod that are handed on as they are must look, as JSON Schemas.

Only what makes a pod impossible: required members, closed vocabularies, types. Unknown members pass, because a newer
Kubernetes may know them. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Shape = Mapping[str, Any]

_NAME: Final = {"type": "string", "minLength": 1}
_ITEMS: Final = {
    "type": "array",
    "items": {"type": "object", "required": ["key", "path"], "properties": {"key": _NAME, "path": _NAME}},
}
_MODE: Final = {"type": "integer", "minimum": 0, "maximum": 0o777}

FIELD_REF: Final[Shape] = {"type": "object", "required": ["fieldPath"], "properties": {"fieldPath": _NAME}}

TOLERATION: Final[Shape] = {
    "type": "object",
    "properties": {
        "key": {"type": "string"},
        "operator": {"enum": ["Exists", "Equal", "Lt", "Gt"]},
        "value": {"type": "string"},
        "effect": {"enum": ["", "NoSchedule", "PreferNoSchedule", "NoExecute"]},
        "tolerationSeconds": {"type": "integer"},
    },
    "if": {"required": ["operator"], "properties": {"operator": {"const": "Exists"}}},
    "then": {"properties": {"value": {"const": ""}}},
    "else": {"required": ["key"]},
}

SPREAD: Final[Shape] = {
    "type": "object",
    "required": ["maxSkew", "topologyKey", "whenUnsatisfiable"],
    "properties": {
        "maxSkew": {"type": "integer", "minimum": 1},
        "topologyKey": _NAME,
        "whenUnsatisfiable": {"enum": ["DoNotSchedule", "ScheduleAnyway"]},
        "minDomains": {"type": "integer", "minimum": 1},
        "labelSelector": {"type": "object"},
    },
}

_PROJECTION: Final = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {
        "configMap": {"type": "object", "required": ["name"], "properties": {"name": _NAME, "items": _ITEMS}},
        "secret": {"type": "object", "required": ["name"], "properties": {"name": _NAME, "items": _ITEMS}},
        "serviceAccountToken": {"type": "object", "required": ["path"], "properties": {"path": _NAME}},
        "downwardAPI": {"type": "object"},
        "clusterTrustBundle": {"type": "object", "required": ["path"]},
    },
}

VOLUME_SOURCES: Final[Mapping[str, tuple[str, Shape]]] = {
    "config_map": (
        "configMap",
        {"type": "object", "required": ["name"], "properties": {"name": _NAME, "items": _ITEMS, "defaultMode": _MODE}},
    ),
    "secret": (
        "secret",
        {
            "type": "object",
            "required": ["secretName"],
            "properties": {"secretName": _NAME, "items": _ITEMS, "defaultMode": _MODE},
        },
    ),
    "empty_dir": (
        "emptyDir",
        {
            "type": "object",
            "properties": {"medium": {"enum": ["", "Memory"]}, "sizeLimit": {"type": ["string", "integer"]}},
        },
    ),
    "projected": (
        "projected",
        {
            "type": "object",
            "required": ["sources"],
            "properties": {"sources": {"type": "array", "items": _PROJECTION}, "defaultMode": _MODE},
        },
    ),
    "persistent_volume_claim": (
        "persistentVolumeClaim",
        {
            "type": "object",
            "required": ["claimName"],
            "properties": {"claimName": _NAME, "readOnly": {"type": "boolean"}},
        },
    ),
    "csi": ("csi", {"type": "object", "required": ["driver"], "properties": {"driver": _NAME}}),
}
"""By attribute of `Volume`: the member's name, and its shape."""
