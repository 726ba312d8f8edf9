"""Decides how budgets are fetched, shown, exported and forgiven; what they say is `accounts`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta

from agentservice_api import names
from agentservice_api.budget import UNLIMITED, Amount, usd_string
from agentservice_api.budget.ledger import LEDGER_KIND
from agentservice_api.budget.windows import WINDOWS
from agentservice_cli.cluster.accounts import (
    Account,
    Charge,
    WindowLine,
    account_of,
    amount_document,
    charges,
    clock,
    holders,
    lines,
    suggestion,
)
from agentservice_cli.cluster.client import Cluster, RefusedError, path_of
from agentservice_cli.cluster.plain import Manifest, part, text
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.terminal import Cell, OutputFormat, Tone, age, confirm, document, note, say, table

_NOBODY = "no AgentService of this name ever had a budget here"


def show(cluster: Cluster, *, namespace: str, name: str, output: OutputFormat) -> ExitCode:
    """Show one budget. Raises CliError."""
    account, now = _account(cluster, namespace, name), datetime.now(UTC)
    found, hands = lines(account, now=now), holders(account, now=now)
    if output is not OutputFormat.TABLE:
        content = {
            "namespace": namespace,
            "name": name,
            "enforcement": account.spec.enforcement.value,
            "timeZone": account.spec.time_zone,
            "seeded": account.status.seeded,
            "windows": [line.document() for line in found],
            "holders": [{"holder": hand.holder, "window": hand.window, **amount_document(hand.held)} for hand in hands],
        }
        document(content, output)
        return ExitCode.OK
    say(f"{namespace}/{name}", Tone.STRONG, end="")
    say(f"   {account.spec.enforcement.value}, days and months of {account.spec.time_zone}")
    if not account.status.seeded:
        note("the accounts are not seeded yet: no request is served until the operator has done that", Tone.CAUTION)
    for line in found:
        _show_window(line, account, now)
    if hands:
        say("\nheld for requests", Tone.HEADING)
        table(
            ["HOLDER", "WINDOW", "TOKENS", "USD"],
            [[h.holder, h.window, f"{h.tokens:,}", usd_string(h.nano_usd, decimals=4)] for h in hands],
        )
    return ExitCode.OK


def _show_window(line: WindowLine, account: Account, now: datetime) -> None:
    full = line.percent is not None and line.percent >= 100
    share = "no limit" if line.percent is None else f"{line.percent:.1f} %"
    say(f"\n{line.name}", Tone.HEADING, end="")
    say(f"  {share}", Tone.BAD if full else Tone.PLAIN, end="")
    say(f"  until {clock(line.end, account.zone)}, in {age((line.end - now).total_seconds())}")
    rows = [[label, *_units(amount)] for label, amount in (
        ("limit", line.limit), ("spent", line.spent), ("  billed", line.settled), ("  presumed", line.presumed),
        ("  beyond the limit", line.overrun), ("held", line.held),
    ) if label in ("limit", "spent", "held") or amount]  # fmt: skip
    table(["", "TOKENS", "USD"], rows)
    if line.exhausted_at is not None and not full:
        remaining = age((line.exhausted_at - now).total_seconds())
        say(f"at this rate exhausted {clock(line.exhausted_at, account.zone)}, in {remaining}", Tone.CAUTION)
    if line.models:
        table(
            ["MODEL", "TOKENS", "USD", "PRICE FROM"],
            [
                [m.name, f"{m.tokens:,}", usd_string(m.nano_usd, decimals=4), m.price or "not priced"]
                for m in line.models
            ],
        )


def _units(amount: Amount) -> list[str]:
    return [
        "-" if amount.tokens == UNLIMITED.tokens else f"{amount.tokens:,}",
        "-" if amount.nano_usd == UNLIMITED.nano_usd else usd_string(amount.nano_usd, decimals=4),
    ]


def top(cluster: Cluster, *, namespace: str | None, output: OutputFormat) -> ExitCode:
    """Show all budgets of a namespace, or of all, the most used first. Raises CliError."""
    now = datetime.now(UTC)
    found = [(account, lines(account, now=now)) for account in _accounts(cluster, namespace)]
    ranked = sorted(found, key=lambda pair: max((line.percent or 0 for line in pair[1]), default=0), reverse=True)
    if output is not OutputFormat.TABLE:
        document(
            [
                {"namespace": a.namespace, "name": a.name, "windows": [line.document() for line in windows]}
                for a, windows in ranked
            ],
            output,
        )
        return ExitCode.OK
    if not ranked:
        note("no budgets in " + ("any namespace" if namespace is None else f"namespace {namespace}"))
        return ExitCode.OK
    rows: list[Sequence[Cell | str]] = []
    for account, windows in ranked:
        by_name = {line.name: line for line in windows}
        day, month = by_name.get("daily"), by_name.get("monthly")
        rows.append(
            [
                account.namespace,
                account.name,
                account.spec.enforcement.value,
                _percent(day),
                _percent(month),
                usd_string(month.spent.nano_usd, decimals=2) if month else "-",
                f"{month.spent.tokens:,}" if month else "-",
            ]
        )
    table(["NAMESPACE", "NAME", "ENFORCEMENT", "TODAY", "MONTH", "USD THIS MONTH", "TOKENS THIS MONTH"], rows)
    return ExitCode.OK


def _percent(line: WindowLine | None) -> Cell:
    if line is None or line.percent is None:
        return Cell("-")
    tone = Tone.BAD if line.percent >= 100 else Tone.CAUTION if line.percent >= 80 else Tone.PLAIN
    return Cell(f"{line.percent:.0f} %", tone)


def export(cluster: Cluster, *, namespace: str | None, month: str, by: str | None, output: OutputFormat) -> ExitCode:
    """Print what each agent's models cost in a month: CSV, or -o json. Raises CliError."""
    try:
        datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise CliError(f"--month {month[:20]}: no month", mend="write it as 2026-11", code=ExitCode.USAGE) from None
    accounts = _accounts(cluster, namespace)
    groups = _groups(cluster, namespace, accounts, by) if by else {}
    found = charges(accounts, month=month, groups=groups)
    if output is not OutputFormat.TABLE:
        document([asdict(charge) for charge in found], output)
        return ExitCode.OK
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([field.name for field in fields(Charge)])
    writer.writerows([str(value).lower() if isinstance(value, bool) else value for value in asdict(charge).values()]
                     for charge in found)  # fmt: skip
    if not found:
        note(f"nothing was spent in {month}, or its books are gone (months are kept for 13 months)")
    return ExitCode.OK


def _groups(
    cluster: Cluster, namespace: str | None, accounts: Sequence[Account], label: str
) -> dict[tuple[str, str], str]:
    """Return each agent's value of ``label``: the AgentService's own, the ledger's once that is gone, else its namespace's."""
    services = {
        (text(live, "metadata", "namespace"), text(live, "metadata", "name")): text(live, "metadata", "labels", label)
        for live in cluster.items(names.API_VERSION, names.KIND, namespace)
    }
    spaces: dict[str, str] = {}
    found: dict[tuple[str, str], str] = {}
    for account in accounts:
        key = (account.namespace, account.name)
        value = services.get(key) or account.labels.get(label, "")
        if not value:
            if account.namespace not in spaces:
                spaces[account.namespace] = _namespace_label(cluster, account.namespace, label)
            value = spaces[account.namespace]
        found[key] = value
    return found


def _namespace_label(cluster: Cluster, namespace: str, label: str) -> str:
    try:
        return text(cluster.request("GET", f"/api/v1/namespaces/{namespace}"), "metadata", "labels", label)
    except RefusedError:
        return ""  # who may not read it has the label on the agents


def suggest(cluster: Cluster, *, namespace: str, name: str, headroom: float, output: OutputFormat) -> ExitCode:
    """Print limits that would have fitted what the books say. Raises CliError."""
    account = _account(cluster, namespace, name)
    found = suggestion(account, headroom=headroom / 100)
    if found is None:
        raise CliError(
            f"the books of {name} have no day with spend yet",
            mend="set budget.enforcement to Observe and let it run; a day is in the books when it is over",
        )
    budget: Manifest = {
        "enforcement": "Hard",
        "timeZone": account.spec.time_zone,
        "daily": _limits(found.daily),
        "monthly": _limits(found.monthly),
    }
    document({"spec": {"budget": budget}}, OutputFormat.YAML if output is OutputFormat.TABLE else output)
    note(
        f"from {found.days} days: 95 of 100 days would have fitted, with {headroom:g} % headroom; a month is 31 average days"
    )
    return ExitCode.OK


def _limits(amount: Amount) -> Manifest:
    found: Manifest = {"tokens": amount.tokens} if amount.tokens else {}
    if amount.nano_usd:
        cents = -(-amount.nano_usd // 10_000_000)  # up: a limit that rounds down would not have fitted
        found["costUSD"] = f"{cents / 100:.2f}"
    return found


def forgive(cluster: Cluster, *, namespace: str, name: str, window: str, reason: str, yes: bool) -> ExitCode:
    """Ask the operator to give back what is presumed spent of a window. Raises CliError."""
    if window not in (known := [found.value for found in WINDOWS]):
        raise CliError(f"--window {window[:20]}: no window", mend=f"use {' or '.join(known)}", code=ExitCode.USAGE)
    if not 0 < len(reason.strip()) <= names.MAX_FORGIVE_REASON:
        raise CliError(
            f"--reason has {len(reason.strip())} characters",
            mend=f"say in 1 to {names.MAX_FORGIVE_REASON} characters why it may be given back",
            code=ExitCode.USAGE,
        )
    account, now = _account(cluster, namespace, name), datetime.now(UTC)
    line = next((line for line in lines(account, now=now) if line.name == window), None)
    if line is None or not line.presumed:
        note(f"nothing is presumed spent of the {window} window of {name}")
        return ExitCode.OK
    amount = f"{line.presumed.tokens:,} tokens and {usd_string(line.presumed.nano_usd, decimals=4)} USD"
    note(f"{amount} count as spent because nobody can tell: a process died, or accounts were lost.", Tone.STRONG)
    note("If the provider did bill them, giving them back overspends the limit by as much.", Tone.CAUTION)
    if not yes and not confirm(f"Give them back to the {window} window of {name} in namespace {namespace}?"):
        note("nothing was changed")
        return ExitCode.FAILED
    cluster.request(
        "PATCH",
        path_of(names.API_VERSION, LEDGER_KIND, namespace, name),
        body={
            "metadata": {
                "annotations": {names.ANNOTATION_FORGIVE: window, names.ANNOTATION_FORGIVE_REASON: reason.strip()}
            }
        },
        content_type="application/merge-patch+json",
    )
    note(
        f"asked; the operator does it and says so in an Event. See: agentservice budget {name} -n {namespace}",
        Tone.GOOD,
    )
    return ExitCode.OK


def _accounts(cluster: Cluster, namespace: str | None) -> list[Account]:
    return [account_of(found) for found in cluster.items(names.API_VERSION, LEDGER_KIND, namespace)]


def _account(cluster: Cluster, namespace: str, name: str) -> Account:
    found = cluster.find(names.API_VERSION, LEDGER_KIND, namespace, name)
    if found is not None:
        return account_of(found)
    live = cluster.find(names.API_VERSION, names.KIND, namespace, name)
    if live is None:
        raise CliError(f"{_NOBODY}: {namespace}/{name}", mend="see who has one: agentservice budget top -A")
    if part(live, "spec").get("budget") is None:
        raise CliError(
            f"{name} has no budget", mend="add spec.budget, for instance {daily: {tokens: 1000000}}; docs/budgets.md"
        )
    raise CliError(
        f"{name} has a budget and no AgentLedger yet", mend=f"see why: agentservice status {name} -n {namespace}"
    )


def last_month(now: datetime) -> str:
    """Return the month before ``now``, YYYY-MM."""
    return (now.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
