"""Decides the course of one model request: its bound, its reservation, its cap, and what it settles for.

Whatever ends it - an answer, an error, a broken stream, a caller that hung up - it is settled: at what the provider says
it has used, at nothing when it provably never left, and else at its bound.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from agentservice_api.budget import ZERO, Amount, Enforcement, LedgerSpec
from agentservice_api.budget.amount import MAX_UNITS
from agentservice_runtime.ledger.interface import Bill, Busy, Exhausted, LedgerUnavailable
from agentservice_runtime.meter import wire
from agentservice_runtime.meter.account import Charge
from agentservice_runtime.meter.attempt import ACTIVE, Attempt, Owed, owed
from agentservice_runtime.meter.bound import Bounder, Order, capped, worth
from agentservice_runtime.meter.desk import Desk
from agentservice_runtime.meter.observed import Observed
from agentservice_runtime.meter.pricing import rates_as_served
from agentservice_runtime.meter.refusals import Refused, busy, exhausted, unavailable, unbounded
from agentservice_runtime.meter.settings import is_other_tier

Send = Callable[[list[ModelMessage], ModelSettings | None, ModelRequestParameters], Awaitable[ModelResponse]]
SendStream = Callable[
    [list[ModelMessage], ModelSettings | None, ModelRequestParameters], AbstractAsyncContextManager[StreamedResponse]
]

_UNKNOWN_TERMS: Final = LedgerSpec(enforcement=Enforcement.SOFT)
"""Until the ledger has been reached once, where requests are served without it."""


class Meter:
    """Meters the model requests of a process. Safe to be used from any loop and thread once its desk is open."""

    def __init__(self, desk: Desk, *, observed: Observed, serves_unreserved: bool = False) -> None:
        """``serves_unreserved``: send what cannot be reserved because the ledger cannot be asked, and count it later."""
        self.desk = desk
        self._observed = observed
        self._serves_unreserved = serves_unreserved
        self._bounder = Bounder()
        self._process = uuid4().hex
        self._count = itertools.count(1)

    @property
    def is_hard(self) -> bool:
        """Whether what does not fit, or cannot be bounded, is refused now."""
        return self.desk.is_open and self.desk.ledger.spec.is_hard

    async def request(self, order: Order, send: Send) -> ModelResponse:
        """Send one request that is answered at once. Raises Refused, and what ``send`` raises."""
        attempt, settings = await self._reserve(order)
        try:
            token = ACTIVE.set(attempt)
            try:
                response = await send(order.messages, settings, order.parameters)
            finally:
                ACTIVE.reset(token)
        except BaseException as error:
            self._fail(attempt, error)
            if attempt.refusal is not None:
                raise attempt.refusal from None
            raise
        self._settle(attempt, response)
        return response

    @asynccontextmanager
    async def stream(self, order: Order, send: SendStream) -> AsyncGenerator[StreamedResponse]:
        """Send one request whose answer comes in pieces. Raises as `request` does."""
        attempt, settings = await self._reserve(order)
        opening = send(order.messages, settings, order.parameters)
        try:
            # the stream may be closed by another task than this one, so the variable is set only while it opens
            token = ACTIVE.set(attempt)
            try:
                stream = await opening.__aenter__()
            finally:
                ACTIVE.reset(token)
        except BaseException as error:
            self._fail(attempt, error)
            if attempt.refusal is not None:
                raise attempt.refusal from None
            raise
        try:
            yield stream
        except BaseException as error:
            if not await opening.__aexit__(type(error), error, error.__traceback__):
                raise
        else:
            await opening.__aexit__(None, None, None)
        finally:
            self._settle(attempt, stream.get())

    async def leaving(self, request: Any) -> None:
        """See a request of the HTTP client before it leaves. Raises Refused when it does not keep within its bound."""
        attempt = ACTIVE.get()
        if attempt is None or attempt.is_closed:
            return
        content = wire.body_of(request)
        body = None if content is None else wire.parse(content)
        if content is None or body is None:
            return
        try:
            await self._check(attempt, body, request=request, length=len(content))
        except Refused as refusal:
            # the provider's SDK wraps what it catches here: it is told apart by this
            attempt.refusal = refusal
            raise
        attempt.sent += 1

    async def _check(self, attempt: Attempt, body: dict[str, Any], *, request: Any, length: int) -> None:
        expected = attempt.expected
        if expected is not None:
            found = wire.violation(body, path="" if "model" in body else request.url.path, expected=expected)
            if found is not None:
                raise self._refused(unbounded(f"{found!r} in the request as sent"))
            # most bodies are shorter than what was reserved for, and need no second look
            if length > expected.input_tokens:
                tokens = wire.text_bytes(body)
                if tokens > expected.input_tokens:
                    larger = worth(attempt.bounded.rates, tokens, attempt.output_tokens)
                    await self._add(attempt, (larger - attempt.bound).non_negative())
        if attempt.sent:
            # something beneath repeats a request: each is billed, so each is reserved
            await self._add(attempt, attempt.bound)

    async def _add(self, attempt: Attempt, amount: Amount) -> None:
        attempt.additions += 1
        await self._hold(f"{attempt.id}.{attempt.additions}", bound=amount, minimum=amount)
        attempt.bound += amount

    async def _reserve(self, order: Order) -> tuple[Attempt, ModelSettings]:
        """Return the attempt, reserved, and the settings to send it with. Raises Refused."""
        outer = ACTIVE.get()
        if outer is not None:
            self._release_router(outer)
        terms = self._terms()
        try:
            bounded = self._bounder.bound(order, terms)
        except Refused as refusal:
            raise self._refused(refusal) from None
        cap = bounded.output_cap
        bound = bounded.amount(cap)
        request_id = f"{self._process}-{next(self._count)}"
        if self.desk.reserve_now(request_id, bound):
            granted = bound
            self._observed.waited(0.0)
        else:
            minimum = bounded.amount(bounded.least_output)
            granted = await self._hold(request_id, bound=bound, minimum=minimum, terms=terms)
        if granted is not None and granted is not bound and granted != bound:
            bound, cap = granted, bounded.cap_within(granted)
            if order.account is not None:
                order.account.is_squeezed = True
        attempt = Attempt(
            id=request_id,
            model=order.model,
            account=order.account,
            bounded=bounded,
            output_tokens=bounded.output_tokens(cap),
            bound=bound,
            is_reserved=granted is not None,
            expected=wire.Expected(order.model.model_name, cap, bounded.input_tokens, not bounded.limits_money)
            if terms.is_hard
            else None,
            is_watched=wire.watch(_client_of(order.model), self.leaving),
        )
        return attempt, capped(order, cap=cap, is_hard=terms.is_hard)

    async def _hold(
        self, request_id: str, *, bound: Amount, minimum: Amount, terms: LedgerSpec | None = None
    ) -> Amount | None:
        """Return what was granted; None when it is served without a reservation. Raises Refused."""
        began = time.perf_counter()
        try:
            answer = await self.desk.reserve(request_id, bound=bound, minimum=minimum)
        except LedgerUnavailable:
            if self._serves_unreserved and (terms is None or not terms.is_hard):
                return None
            raise self._refused(unavailable()) from None
        self._observed.waited(time.perf_counter() - began)
        match answer:
            case Exhausted():
                raise self._refused(exhausted(resets_in=answer.resets_in))
            case Busy():
                raise self._refused(busy(retry_after=answer.retry_after))
            case _:
                return answer.amount

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        """Settle a request that has no answer."""
        match owed(error, attempt):
            case Owed.NOTHING:
                self._close(attempt, ZERO, is_measured=False)
            case Owed.INPUT:
                self._close(attempt, worth(attempt.bounded.rates, attempt.bounded.input_tokens, 0), is_measured=False)
            case Owed.BOUND:
                self._settle(attempt, None)

    def _settle(self, attempt: Attempt, response: ModelResponse | None) -> None:
        """Settle at the usage that ``response`` tells, or at the bound when it tells none."""
        usage = None if response is None else _measured(response)
        if response is None or usage is None:
            if attempt.is_router:
                self._close(attempt, ZERO, is_measured=False)
                return
            self._observed.unmeasured(attempt.bounded.model_id)
            self._close(attempt, attempt.bound, is_measured=False)
            return
        bounded = attempt.bounded
        rates, details = bounded.rates, response.provider_details
        if details and rates is not None and is_other_tier(details.get("service_tier")):
            # a tier that was not asked for has served it: the bill is what it is
            rates = rates_as_served(attempt.model, bounded.prices, details) or rates
        billed = Amount(usage.input_tokens + usage.output_tokens, 0 if rates is None else rates.cost(usage))
        if attempt.sent > 1:  # nobody measures what the others cost
            for _ in range(attempt.sent - 1):
                billed += Amount(attempt.bound.tokens // attempt.sent, attempt.bound.nano_usd // attempt.sent)
        if usage.input_tokens > bounded.input_tokens or usage.output_tokens > attempt.output_tokens:
            self._bounder.calibration.learn(
                bounded.model_id,
                input_ratio=usage.input_tokens / bounded.input_tokens,
                output_ratio=usage.output_tokens / max(1, attempt.output_tokens),
            )
        if attempt.is_router:
            billed = (billed - attempt.delegated).non_negative()
        self._close(attempt, billed, is_measured=True)

    def _close(self, attempt: Attempt, amount: Amount, *, is_measured: bool) -> None:
        if attempt.is_closed:
            return
        attempt.is_closed = True
        outer = ACTIVE.get()
        if outer is not None:
            outer.delegated += amount
        bounded = attempt.bounded
        rates, tokens, nano = bounded.rates, amount.tokens, amount.nano_usd
        spend = Bill(bounded.model_id[:256], "" if rates is None else rates.source[:128], tokens, nano)
        if not (spend.name and 0 <= tokens <= MAX_UNITS and 0 <= nano <= MAX_UNITS):
            spend.checked()
        if amount and attempt.account is not None:
            attempt.account.charges.append(Charge(spend, rates is not None))
        self._observed.settled(spend, bound=attempt.bound, is_measured=is_measured)
        for number in range(1, attempt.additions + 1):
            self.desk.give_back(f"{attempt.id}.{number}")
        if (amount or attempt.is_reserved) and not self.desk.settle_now(attempt.id, spend):
            self.desk.settle(attempt.id, spend.checked())

    def _release_router(self, outer: Attempt) -> None:
        """A model that asks another model is a router: what it holds would only stand in that one's way."""
        if outer.is_closed:
            return
        outer.is_router = True
        if outer.is_reserved:
            outer.is_reserved = False
            self.desk.give_back(outer.id)
            outer.id = f"{outer.id}.own"

    def _terms(self) -> LedgerSpec:
        if self.desk.is_open:
            return self.desk.ledger.spec
        if self._serves_unreserved:
            return _UNKNOWN_TERMS
        raise self._refused(unavailable())

    def _refused(self, refusal: Refused) -> Refused:
        self._observed.refused(refusal.reason)
        return refusal


def _measured(response: ModelResponse) -> RequestUsage | None:
    """Return what the provider says was used; None when it says nothing, or not all that there was."""
    usage = response.usage
    if response.state not in ("complete", "suspended") or usage.unmeasured_requests:
        return None
    return usage if usage.input_tokens or usage.output_tokens else None


def _client_of(model: Model[Any]) -> Any:
    found = getattr(model, "client", None)
    return found if found is not None else getattr(getattr(model, "provider", None), "client", None)
