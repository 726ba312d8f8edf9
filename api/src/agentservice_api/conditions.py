"""Decides the closed vocabulary of conditions and reasons, with the sentence that documents each.

The reference page is generated from here. A reason is never renamed or removed without a deprecation, because
alerts and scripts match on it.
"""

from __future__ import annotations

from enum import StrEnum


class Documented(StrEnum):
    """A string enum whose members carry the sentence that documents them: ``MEMBER = "Value", "Sentence."``."""

    _value_: str
    doc: str

    def __new__(cls, value: str, doc: str) -> Documented:
        member = str.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member


class ConditionType(Documented):
    """The conditions of an AgentService. Every one carries observedGeneration, reason and message."""

    READY = "Ready", "Every pod of the current revision serves. The summary that tools wait for; always present."
    RECONCILING = "Reconciling", "Work is going on (abnormal-true: absent when it is done)."
    STALLED = "Stalled", "Something that waiting cannot mend is in the way (abnormal-true: absent when it is not)."
    SPEC_ACCEPTED = "SpecAccepted", "The specification makes sense. False: the last good revision serves on."
    SECRETS_READY = "SecretsReady", "The kubelet could mount every referenced Secret. Unknown while no pod has tried."
    SCALING_ACTIVE = (
        "ScalingActive",
        "The number of pods follows the load; False says why it does not. Never makes Ready False. Only with `autoscaling`.",
    )
    ROUTE_ACCEPTED = (
        "RouteAccepted",
        "Every Gateway that `network.httpRoute` names takes the route; False says why not. Never makes Ready False. "
        "Only with `network.httpRoute`.",
    )
    SECRET_CHANGES_FOLLOWED = (
        "SecretChangesFollowed",
        "A change of a Secret key that the pods read replaces them; False says why it does not. Never makes Ready False. "
        "Only with `rollout.restartOnSecretChange`.",
    )
    PRICES_RESOLVED = "PricesResolved", "Every model has a price, so a limit in USD can hold. Only with a budget."
    BUDGET_AVAILABLE = (
        "BudgetAvailable",
        "The current windows have something left. Never makes Ready False. Only with a budget.",
    )


class Reason(Documented):
    """Why a condition has its status."""

    AVAILABLE = "Available", "Every wanted pod of the current revision serves."
    SUSPENDED = "Suspended", "`spec.suspend` is true: no pods run, as asked."
    PROGRESSING = "Progressing", "Pods of the current revision are being started or old ones stopped."
    UNAVAILABLE = "Unavailable", "Fewer pods serve than wanted; the message says why they do not."
    IMAGE_PULL_FAILED = "ImagePullFailed", "A pod's image cannot be pulled."
    CRASH_LOOPING = "CrashLooping", "A container of the current revision ends soon after each start."
    CONFIGURATION_REJECTED = (
        "ConfigurationRejected",
        "The runtime refuses its configuration, for instance an entrypoint that does not import.",
    )
    UNSCHEDULABLE = "Unschedulable", "No node can take a pod."
    PODS_REFUSED = "PodsRefused", "The API server refuses to create pods: a quota, Pod Security or a policy."
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "The rollout made no progress for `spec.rollout.progressDeadlineSeconds`.",
    )
    PAUSED = (
        "Paused",
        "The annotation `agentservice.dev/paused` stops writes, and something differs from the specification.",
    )
    INVALID_SPEC = "InvalidSpec", "The specification cannot be used; the message names the field and the mend."
    REFERENCE_NOT_FOUND = "ReferenceNotFound", "A ConfigMap, or a key of it, that the specification names is missing."
    CONFLICT = "Conflict", "An object of a needed name exists and is not ours; it is never touched."
    FORBIDDEN = "Forbidden", "The operator lacks a permission, or an admission policy refuses what it applies."
    WAITING_FOR_DELETION = "WaitingForDeletion", "A child of a deleted namesake is still going away."
    ACCEPTED = "Accepted", "The specification is accepted."
    MOUNTED = "Mounted", "Every referenced Secret and key is there."
    SECRET_NOT_FOUND = "SecretNotFound", "A Secret, or a key of it, that a pod needs is missing."
    NO_PODS = "NoPods", "No pod has tried to mount the Secrets yet."
    NOT_REFERENCED = "NotReferenced", "The specification names no Secret."
    SCALING = "Scaling", "The HorizontalPodAutoscaler, or KEDA, sees its metric and acts."
    SCALED_EXTERNALLY = "ScaledExternally", "Somebody else writes the Deployment's replicas, as asked."
    NOT_SCALING = "NotScaling", "The HorizontalPodAutoscaler, or KEDA, cannot act; the message is its own."
    KEDA_MISSING = (
        "KEDAMissing",
        "KEDA is not installed in this cluster, so the number of pods stays as it is. Once it is, the ScaledObject is made by itself.",
    )
    CUSTOM_METRICS_MISSING = (
        "CustomMetricsMissing",
        "The HorizontalPodAutoscaler cannot scale by runs in flight: the cluster serves no custom metrics API.",
    )
    PROMETHEUS_UNKNOWN = "PrometheusUnknown", "KEDA cannot scale by runs in flight: the chart names no Prometheus."
    SCALE_OUT_OFF = (
        "ScaleOutOff",
        "The budget is all but spent, so that more pods could not serve more: the autoscaler only scales in.",
    )
    AUTOSCALER_PENDING = (
        "AutoscalerPending",
        "The HorizontalPodAutoscaler, or KEDA, has not said yet whether it can act.",
    )
    ROUTED = "Routed", "Every named Gateway takes the route."
    ROUTE_REFUSED = "RouteRefused", "A Gateway does not take the route, or cannot resolve it; the message is its own."
    ROUTE_PENDING = "RoutePending", "A named Gateway has not said yet whether it takes the route."
    GATEWAY_API_MISSING = (
        "GatewayAPIMissing",
        "The Gateway API is not installed in this cluster, so there is no route. Once it is, the route is made by itself.",
    )
    FOLLOWED = (
        "Followed",
        "The Secrets that the pods read are looked at, and a change of a referenced key replaces the pods.",
    )
    SECRETS_UNREADABLE = (
        "SecretsUnreadable",
        "The operator may not, or cannot, read a Secret, so that `rollout.restartOnSecretChange` has no effect: the chart's "
        "`readSecrets.enabled` lets it. The pods are well.",
    )
    PRICED = "Priced", "Every model has a price."
    PRICE_UNKNOWN = (
        "PriceUnknown",
        "A model has no price: a Hard limit in USD refuses its requests, otherwise its tokens alone are counted.",
    )
    WITHIN_BUDGET = "WithinBudget", "Less is spent than the first percentage of `budget.alertAtPercent`."
    BUDGET_WARNING = "BudgetWarning", "More is spent than a percentage of `budget.alertAtPercent`."
    BUDGET_EXCEEDED = "BudgetExceeded", "More is spent than a limit, which under Soft and Observe refuses nothing."
    BUDGET_EXHAUSTED = "BudgetExhausted", "A Hard limit is reached: requests are refused until its window ends."
    LEDGER_NOT_SEEDED = "LedgerNotSeeded", "The AgentLedger is missing or new, and its accounts are not set up yet."


class EventReason(Documented):
    """Reasons of Events that are not conditions' reasons."""

    CREATED = "Created", "A child object was created."
    UPDATED = "Updated", "A child object was changed because the specification did."
    RESTORED = "Restored", "A child object that someone deleted or edited was restored."
    PRUNED = "Pruned", "A child object that is no longer needed was deleted."
    READY = "Ready", "The AgentService became ready."
    SECRET_CHANGED = (
        "SecretChanged",
        "A Secret key that the pods read has changed, so they are replaced (`rollout.restartOnSecretChange`).",
    )
    CONTENDED = (
        "Contended",
        "An object was written 60 times in a short while, because the specification or somebody else keeps changing it: it is "
        "written at most every 5 seconds until that ends.",
    )
    BUDGET_THRESHOLD = (
        "BudgetThreshold",
        "A percentage of `budget.alertAtPercent` was passed, once a window and percentage.",
    )
    BUDGET_LIMIT_REACHED = "BudgetLimitReached", "A limit was reached, once a window."
    BUDGET_RESET = "BudgetReset", "A window that was exhausted ended, or its limit was raised."
    BUDGET_OVERRUN = "BudgetOverrun", "A provider billed more than was reserved, beyond a limit."
    LEDGER_RESTORED = (
        "LedgerRestored",
        "The AgentLedger was deleted or emptied, and was restored from the last one seen.",
    )
    LEDGER_PRESUMED = (
        "LedgerPresumed",
        "The accounts of a window were lost: all that was left of it counts as spent until it ends.",
    )
    PRESUMED_FORGIVEN = (
        "PresumedForgiven",
        "A person gave back what was presumed spent of a window, by the annotation `agentservice.dev/forgive-presumed`.",
    )
    PRICE_BOOK_REFUSED = "PriceBookRefused", "The price book cannot be read; the last good prices stay in force."
