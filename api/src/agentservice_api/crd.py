"""Decides the CustomResourceDefinitions: names, subresources, printer columns, and where the schemas stand.

The API server must accept them from Kubernetes 1.30 on, so their CEL rules use no library newer than that.
"""

from __future__ import annotations

from typing import Any, Final

from agentservice_api.budget.ledger import LEDGER_KIND, LEDGER_PLURAL, AgentLedger, LedgerSpec, LedgerStatus
from agentservice_api.conditions import ConditionType
from agentservice_api.names import GROUP, KIND, PLURAL, VERSION
from agentservice_api.openapi import Schema, model_schema, rule_schema, summary
from agentservice_api.schema import Model
from agentservice_api.spec import AgentService, AgentServiceSpec
from agentservice_api.status import AgentServiceStatus

NAME: Final = f"{PLURAL}.{GROUP}"
LEDGER_NAME: Final = f"{LEDGER_PLURAL}.{GROUP}"

_READY: Final = f'.status.conditions[?(@.type=="{ConditionType.READY.value}")]'
FRESH_STATUS: Final = {"observedGeneration": -1}
"""What the API server gives a new object: kstatus (Flux, helm --wait) calls an object without any status Current."""
FRESH_LEDGER: Final = {"seeded": False}
"""What the API server gives a new ledger, so that every rule finds a status. Pods refuse until it is seeded."""


def custom_resource_definition() -> Schema:
    """Return the manifest of AgentService's. Raises agentservice_api.openapi.SchemaError for what cannot be expressed."""
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return _definition(
        kind=KIND,
        plural=PLURAL,
        short="ags",
        columns=_printer_columns(),
        subresources={"status": {}, "scale": scale},
        schema=resource_schema(),
    )


def ledger_definition() -> Schema:
    """Return the manifest of AgentLedger's. Raises agentservice_api.openapi.SchemaError for what cannot be expressed."""
    return _definition(
        kind=LEDGER_KIND,
        plural=LEDGER_PLURAL,
        short="agl",
        columns=_ledger_columns(),
        subresources={"status": {}},
        schema=ledger_schema(),
    )


def resource_schema() -> Schema:
    """Return the structural schema of a whole AgentService."""
    return _root(AgentService, AgentServiceSpec, AgentServiceStatus, kind=KIND, fresh=FRESH_STATUS)


def ledger_schema() -> Schema:
    """Return the structural schema of a whole AgentLedger."""
    schema = _root(AgentLedger, LedgerSpec, LedgerStatus, kind=LEDGER_KIND, fresh=FRESH_LEDGER)
    # The status is written as a whole. So its fields have one owner, and the API server needs not keep a list of owners
    # for each holder, which would cost it half of the time of a write.
    schema["properties"]["status"]["x-kubernetes-map-type"] = "atomic"
    return schema


def _definition(
    *, kind: str, plural: str, short: str, columns: list[dict[str, Any]], subresources: Schema, schema: Schema
) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["agents"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": columns,
                    "subresources": subresources,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _root(
    resource: type[AgentService | AgentLedger], spec: type[Model], status: type[Model], *, kind: str, fresh: Schema
) -> Schema:
    return {
        "description": summary(resource),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": model_schema(spec, path="spec"),
            "status": {**model_schema(status, path="status"), "default": fresh},
        },
        "x-kubernetes-validations": [rule_schema(rule) for rule in resource.rules],
    }


def _column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    if wide:
        found["priority"] = 1
    return found


def _printer_columns() -> list[dict[str, Any]]:
    return [
        _column("Ready", f"{_READY}.status", "Whether every pod of the current revision serves."),
        _column("Status", f"{_READY}.reason", "Why Ready is as it is."),
        _column("Model", ".spec.model.name", "The model that answers."),
        _column("Replicas", ".status.readyReplicas", "Pods that serve.", kind="integer"),
        _column("Today", ".status.budget.daily.percent", "Percent spent of the day's budget.", kind="integer"),
        _column("Month", ".status.budget.monthly.percent", "Percent spent of the month's budget.", kind="integer"),
        _column("Age", ".metadata.creationTimestamp", "When it was created.", kind="date"),
        _column("Wanted", ".spec.replicas", "Pods that shall serve.", kind="integer", wide=True),
        _column("URL", ".status.url", "Where the agent answers in the cluster.", wide=True),
        _column("Revision", ".status.revision", "The revision that the specification asks for.", wide=True),
        _column("Message", f"{_READY}.message", "What Ready has to say.", wide=True),
    ]


def _ledger_columns() -> list[dict[str, Any]]:
    def window(name: str, member: str) -> str:
        return f'.status.windows[?(@.name=="{name}")].{member}'  # the first of them is the current one

    def limit(name: str) -> str:
        return f'.spec.windows[?(@.name=="{name}")].tokens'

    return [
        _column("Enforcement", ".spec.enforcement", "What a limit does."),
        _column("Seeded", ".status.seeded", "Whether the accounts may be trusted.", kind="boolean"),
        _column("Today", window("daily", "settledTokens"), "Tokens billed today.", kind="integer"),
        _column("Day Limit", limit("daily"), "Tokens of a day at most.", kind="integer"),
        _column("Month", window("monthly", "settledTokens"), "Tokens billed this month.", kind="integer"),
        _column("Month Limit", limit("monthly"), "Tokens of a month at most.", kind="integer"),
        _column("Age", ".metadata.creationTimestamp", "When it was created.", kind="date"),
        _column("Zone", ".spec.timeZone", "The time zone of the next windows.", wide=True),
        _column("Day Ends", window("daily", "end"), "When today's window ends.", kind="date", wide=True),
        _column(
            "Authorized",
            window("daily", "authorizedTokens"),
            "Tokens of today that left the pool.",
            kind="integer",
            wide=True,
        ),
        _column(
            "Presumed",
            window("daily", "presumedTokens"),
            "Tokens of today that count as spent because nobody can tell.",
            kind="integer",
            wide=True,
        ),
        _column(
            "Overrun",
            window("daily", "overrunTokens"),
            "Tokens billed today beyond the limit.",
            kind="integer",
            wide=True,
        ),
    ]
