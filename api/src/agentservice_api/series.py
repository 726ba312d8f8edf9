"""Decides every series that pods and the operator expose: its name, kind, labels, and the sentence that documents it.

The reference page is generated from here, the dashboards are written in these names, and a series is never renamed or
removed without a deprecation. The labels are bounded: by a closed vocabulary, or by what the specification names; names
that only running code knows (tools, models that an agent chooses itself) are counted up to a limit, then as OTHER.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final

OTHER: Final = "other"
"""The label of whatever came after the last name that got a series of its own."""


class Kind(Enum):
    """How Prometheus treats a series."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Series(StrEnum):
    """A series: ``MEMBER = "name", kind, labels, "Sentence."``. A counter's name ends in ``_total``."""

    _value_: str
    kind: Kind
    labels: tuple[str, ...]
    doc: str

    def __new__(cls, value: str, kind: Kind, labels: tuple[str, ...], doc: str) -> Series:
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind = kind
        member.labels = labels
        member.doc = doc
        return member

    @property
    def stored(self) -> tuple[str, ...]:
        """The names under which Prometheus keeps it."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(self.value + suffix for suffix in ("_bucket", "_sum", "_count"))
        return (self.value,)


_AGENT: Final = ("agent_name",)
_MODEL: Final = (*_AGENT, "model")
_WINDOW: Final = ("namespace", "name", "window", "unit")
_CONTROLLER: Final = ("controller",)
_QUEUE: Final = ("name", "controller")


class PodSeries(Series):
    """What an agent's pod tells at `/metrics` of its port 8000."""

    RUNS = (
        "pydantic_ai_requests_total",
        Kind.COUNTER,
        (*_AGENT, "status"),
        "Runs by outcome: success, cancelled (by its caller or by hanging up), or the category of the error.",
    )
    RUN_SECONDS = "pydantic_ai_request_duration_seconds", Kind.HISTOGRAM, _AGENT, "Seconds that runs took."
    TOKENS = (
        "pydantic_ai_tokens_used_total",
        Kind.COUNTER,
        (*_AGENT, "token_type"),
        "Tokens used: input, output.",
    )
    ACTIVE = "pydantic_ai_active_requests", Kind.GAUGE, _AGENT, "Runs under way."

    WAITING = (
        "agentservice_waiting_requests",
        Kind.GAUGE,
        _AGENT,
        "Requests that wait for a slot; they are refused (503, overloaded) after a moment.",
    )
    SLOTS = "agentservice_slots", Kind.GAUGE, _AGENT, "Runs that this pod does at once: spec.runtime.concurrencyPerPod."
    DRAINING = (
        "agentservice_draining",
        Kind.GAUGE,
        _AGENT,
        "1 from the signal to stop until the process ends: it finishes what runs.",
    )
    INFO = "agentservice_info", Kind.GAUGE, (*_AGENT, "revision"), "1, with the revision that this pod serves."
    SLOW_RUNS = (
        "agentservice_slow_runs_total",
        Kind.COUNTER,
        _AGENT,
        "Runs that took longer than spec.observability.slowRunSeconds; each is a warning in the log.",
    )
    COST = (
        "agentservice_cost_usd_total",
        Kind.COUNTER,
        _MODEL,
        "US dollars that runs have cost, by the model that answered; runs without a known price are left out.",
    )
    MODEL_REQUESTS = (
        "agentservice_model_requests_total",
        Kind.COUNTER,
        (*_MODEL, "status"),
        "Model requests, each attempt by itself: success, cancelled (with its run, whose time was up too), or the category of the error.",
    )
    MODEL_SECONDS = (
        "agentservice_model_request_duration_seconds",
        Kind.HISTOGRAM,
        _MODEL,
        "Seconds that model requests took, failed ones too; of a stream, to its end.",
    )
    FIRST_TOKEN_SECONDS = (
        "agentservice_model_time_to_first_token_seconds",
        Kind.HISTOGRAM,
        _MODEL,
        "Seconds from a streamed model request to the first piece of its answer.",
    )
    RETRIES = (
        "agentservice_model_retries_total",
        Kind.COUNTER,
        (*_MODEL, "category"),
        "Model requests that were sent again to the same model, by the category of the failure.",
    )
    FALLBACKS = (
        "agentservice_model_fallbacks_total",
        Kind.COUNTER,
        (*_MODEL, "category"),
        "Model requests that another model took over, by that model and the category of the failure before it.",
    )
    TOOL_CALLS = (
        "agentservice_tool_calls_total",
        Kind.COUNTER,
        (*_AGENT, "tool", "status"),
        "Calls of tools: success, retry (the tool asked the model to try otherwise, or took too long), error, cancelled.",
    )
    TOOL_SECONDS = (
        "agentservice_tool_duration_seconds",
        Kind.HISTOGRAM,
        (*_AGENT, "tool"),
        "Seconds that calls of tools took.",
    )
    SPANS = (
        "agentservice_trace_spans_total",
        Kind.COUNTER,
        (*_AGENT, "outcome"),
        "Spans that were sent to a collector, or lost because it did not take them.",
    )

    CACHE_RUNS = (
        "agentservice_cache_requests_total",
        Kind.COUNTER,
        (*_AGENT, "outcome"),
        "Runs by what the cache did: hit, shared (waited for an equal run), miss, bypass, unavailable (no Redis).",
    )
    CACHE_NOT_KEPT = (
        "agentservice_cache_not_kept_total",
        Kind.COUNTER,
        (*_AGENT, "reason"),
        "Answers that were not kept: tool, cut, other_model, too_large, no_answer.",
    )
    CACHE_SAVED = (
        "agentservice_cache_saved_tokens_total",
        Kind.COUNTER,
        _AGENT,
        "Tokens that the runs behind cached answers had used, once for each time that an answer was given again.",
    )

    TASKS_SUBMITTED = "agentservice_tasks_submitted_total", Kind.COUNTER, _AGENT, "Tasks that were taken in."
    TASKS_ATTEMPTS = "agentservice_tasks_attempts_total", Kind.COUNTER, _AGENT, "Tasks that were begun, each time."
    TASKS_FINISHED = (
        "agentservice_tasks_finished_total",
        Kind.COUNTER,
        (*_AGENT, "status"),
        "Tasks that have ended: succeeded, failed, cancelled.",
    )
    TASKS_RETRIED = (
        "agentservice_tasks_retried_total",
        Kind.COUNTER,
        (*_AGENT, "category"),
        "Tasks that are tried again, by the category of the failure before.",
    )
    TASKS_LOST = (
        "agentservice_tasks_lost_total",
        Kind.COUNTER,
        _AGENT,
        "Leases that ended with the process that held them; the task is begun again.",
    )
    TASKS_RETURNED = (
        "agentservice_tasks_returned_total",
        Kind.COUNTER,
        _AGENT,
        "Tasks that pods gave back because they stop.",
    )
    TASKS_DEAD = (
        "agentservice_tasks_dead_total",
        Kind.COUNTER,
        (*_AGENT, "reason"),
        "Tasks that have failed, by why they were given up: failure, attempts, workers.",
    )
    TASKS_QUEUE = (
        "agentservice_tasks_queue",
        Kind.GAUGE,
        (*_AGENT, "state"),
        "Tasks of the whole queue, as each pod last saw it: waiting for a worker, running, delayed until their next try.",
    )
    TASKS_OLDEST = (
        "agentservice_tasks_oldest_seconds",
        Kind.GAUGE,
        _AGENT,
        "Age of the oldest task that waits or runs, as each pod last saw it.",
    )
    TASKS_AGE = (
        "agentservice_tasks_age_seconds",
        Kind.HISTOGRAM,
        _AGENT,
        "Seconds from taking a task in to its end.",
    )

    BUDGET_REFUSED = (
        "agentservice_budget_refused_total",
        Kind.COUNTER,
        (*_AGENT, "reason"),
        "Model requests that the budget refused, by reason.",
    )
    BUDGET_RATIO = (
        "agentservice_budget_estimate_ratio",
        Kind.HISTOGRAM,
        _AGENT,
        "Tokens billed for each token reserved; above 1 the bound was too small.",
    )
    BUDGET_WAIT = (
        "agentservice_budget_wait_seconds",
        Kind.HISTOGRAM,
        _AGENT,
        "Seconds that model requests waited for their reservation.",
    )
    BUDGET_OVERRUN_TOKENS = (
        "agentservice_budget_overrun_tokens_total",
        Kind.COUNTER,
        _AGENT,
        "Tokens that providers billed beyond what was reserved.",
    )
    BUDGET_OVERRUN_USD = (
        "agentservice_budget_overrun_usd_total",
        Kind.COUNTER,
        _AGENT,
        "US dollars that providers billed beyond what was reserved.",
    )
    BUDGET_TOKENS = (
        "agentservice_budget_settled_tokens_total",
        Kind.COUNTER,
        _MODEL,
        "Tokens that model requests were settled at, by the model's id as prices and the AgentLedger have it.",
    )
    BUDGET_USD = (
        "agentservice_budget_settled_usd_total",
        Kind.COUNTER,
        _MODEL,
        "US dollars that model requests were settled at, by the same id; 0 where a price is not known.",
    )
    BUDGET_UNMEASURED = (
        "agentservice_budget_unmeasured_total",
        Kind.COUNTER,
        _MODEL,
        "Model requests that were settled at their bound because nobody told what they used.",
    )


class OperatorSeries(Series):
    """What the operator tells at `/metrics` of its port 8080: controller-runtime's and client-go's names, and our own."""

    CONDITION = (
        "agentservice_condition",
        Kind.GAUGE,
        ("namespace", "name", "type", "status"),
        "1 for the status that each condition of each AgentService has.",
    )
    BUDGET_LIMIT = (
        "agentservice_budget_limit",
        Kind.GAUGE,
        _WINDOW,
        "Limit of the current window, in tokens or US dollars; absent where none is set.",
    )
    BUDGET_USED = "agentservice_budget_used", Kind.GAUGE, _WINDOW, "Spent: billed, or presumed to be."
    BUDGET_RESERVED = (
        "agentservice_budget_reserved",
        Kind.GAUGE,
        _WINDOW,
        "In the hands of pods or of Redis, for requests.",
    )
    BUDGET_PRESUMED = (
        "agentservice_budget_presumed",
        Kind.GAUGE,
        _WINDOW,
        "Counted as spent because nobody can tell.",
    )
    BUDGET_OVERRUN = "agentservice_budget_overrun", Kind.GAUGE, _WINDOW, "Billed beyond the limit."

    RECONCILES = (
        "controller_runtime_reconcile_total",
        Kind.COUNTER,
        (*_CONTROLLER, "result"),
        "Reconciles by result: success, requeue_after, error.",
    )
    RECONCILE_ERRORS = (
        "controller_runtime_reconcile_errors_total",
        Kind.COUNTER,
        _CONTROLLER,
        "Reconciles that failed.",
    )
    RECONCILE_SECONDS = (
        "controller_runtime_reconcile_time_seconds",
        Kind.HISTOGRAM,
        _CONTROLLER,
        "Length of a reconcile.",
    )
    ACTIVE_WORKERS = "controller_runtime_active_workers", Kind.GAUGE, _CONTROLLER, "Workers that reconcile now."
    WORKERS = "controller_runtime_max_concurrent_reconciles", Kind.GAUGE, _CONTROLLER, "Workers at most."
    API_REQUESTS = (
        "rest_client_requests_total",
        Kind.COUNTER,
        ("code", "host", "method"),
        "Requests to the API server.",
    )
    API_SECONDS = (
        "rest_client_request_duration_seconds",
        Kind.HISTOGRAM,
        ("verb", "resource"),
        "Length of a request; of a watch: until its first byte.",
    )
    LEADER = "leader_election_master_status", Kind.GAUGE, ("name",), "1 on the replica that leads."
    QUEUE_ADDS = "workqueue_adds_total", Kind.COUNTER, _QUEUE, "Keys that began to wait."
    QUEUE_RETRIES = "workqueue_retries_total", Kind.COUNTER, _QUEUE, "Keys put back after a failure."
    QUEUE_WAITED = (
        "workqueue_queue_duration_seconds",
        Kind.HISTOGRAM,
        _QUEUE,
        "How long a key waited since it was due.",
    )
    QUEUE_WORKED = (
        "workqueue_work_duration_seconds",
        Kind.HISTOGRAM,
        _QUEUE,
        "How long the work on a key took.",
    )
    QUEUE_DEPTH = "workqueue_depth", Kind.GAUGE, _QUEUE, "Keys that wait for a worker."
    QUEUE_UNFINISHED = "workqueue_unfinished_work_seconds", Kind.GAUGE, _QUEUE, "Age of all running work together."
    QUEUE_LONGEST = (
        "workqueue_longest_running_processor_seconds",
        Kind.GAUGE,
        _QUEUE,
        "Age of the oldest running work.",
    )
