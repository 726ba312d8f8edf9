"""Budgets: amounts, windows, the accounts of an AgentLedger and every change of them, prices. All pure."""

from agentservice_api.budget.amount import UNLIMITED, ZERO, Amount, nano_from_usd, usd_string
from agentservice_api.budget.decision import Verdict, decide
from agentservice_api.budget.ledger import (
    Enforcement,
    LedgerSpec,
    LedgerStatus,
    ModelPrice,
    ModelSpend,
    WindowKey,
    WindowLimit,
    WindowState,
)
from agentservice_api.budget.windows import WINDOWS, Window, WindowName

__all__ = [
    "UNLIMITED",
    "WINDOWS",
    "ZERO",
    "Amount",
    "Enforcement",
    "LedgerSpec",
    "LedgerStatus",
    "ModelPrice",
    "ModelSpend",
    "Verdict",
    "Window",
    "WindowKey",
    "WindowLimit",
    "WindowName",
    "WindowState",
    "decide",
    "nano_from_usd",
    "usd_string",
]
