"""Decides where model requests are caught: where each class of pydantic-ai's `Model` sends one, whoever asked for it.

A capability sees the requests of the run it was given to, but not those of agents in its tools, nor each attempt of a
`FallbackModel`. Every one of them, `pydantic_ai.direct` included, ends in `request` or `request_stream` of a class that
answers itself, so these two are wrapped on every such class, those that are imported later too. pydantic-ai wraps the
same two methods of each subclass for its own ends (`Model.__init_subclass__`); ours goes around that.

Which meter applies, `scope` says. Without a meter, nothing changes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings

from agentservice_runtime.meter.attempt import ACTIVE
from agentservice_runtime.meter.bound import Order
from agentservice_runtime.meter.meter import Meter
from agentservice_runtime.meter.refusals import unbounded
from agentservice_runtime.meter.scope import Scope, current_scope, in_process

_MARK: Final = "__agentservice_metered__"
_UNMETERED: Final = {
    "batch_create": "the provider's batch interface",
    "compact_messages": "compaction by the provider",
}
"""Methods that are billed too, and whose bill cannot be bounded."""


@contextmanager
def metering(meter: Meter) -> Generator[None]:
    """Meter every model request of the process by ``meter``, unless it belongs to another scope."""
    _install()
    with in_process(meter):
        yield


def _install() -> None:
    """Wrap every class of models there is, and see to it that those to come are wrapped too."""
    for cls in _subclasses(Model):
        _wrap(cls)
    original = Model.__init_subclass__
    if hasattr(original, _MARK):
        return
    inherited = cast("Any", original).__func__

    def wrapping(cls: type[Model[Any]], **arguments: Any) -> None:
        inherited(cls, **arguments)
        _wrap(cls)

    setattr(wrapping, _MARK, True)
    Model.__init_subclass__ = classmethod(wrapping)  # pyright: ignore[reportAttributeAccessIssue]


def _subclasses(cls: type[Model[Any]]) -> Iterator[type[Model[Any]]]:
    for below in cls.__subclasses__():
        yield below
        yield from _subclasses(below)


def _wrap(cls: type[Model[Any]]) -> None:
    members = vars(cls)
    request = members.get("request")
    if inspect.iscoroutinefunction(request) and not hasattr(request, _MARK):
        cls.request = _metered(request)
    request_stream = members.get("request_stream")
    if inspect.isfunction(request_stream) and not hasattr(request_stream, _MARK):
        cls.request_stream = _metered_stream(request_stream)
    for name, words in _UNMETERED.items():
        method = members.get(name)
        if inspect.iscoroutinefunction(method) and not hasattr(method, _MARK):
            setattr(cls, name, _refused(method, words))


def _scope_for(model: Model[Any]) -> Scope | None:
    """Return the scope of a request that ``model`` is about to send; None where nothing is to be metered.

    That is so where another call has metered it: a router (FallbackModel, a wrapper) hands its request to a model that
    sends it, and a subclass may call the method of its base class.
    """
    if not model._answers_requests_itself:  # pyright: ignore[reportPrivateUsage]
        return None
    scope = current_scope()
    if scope is None:
        return None
    active = ACTIVE.get()
    return None if active is not None and active.model is model and not active.is_closed else scope


def _metered(original: Any) -> Any:
    @functools.wraps(original)
    async def request(
        self: Model[Any],
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        scope = _scope_for(self)
        if scope is None or scope.meter is None:
            return await original(self, messages, model_settings, model_request_parameters)
        order = Order(self, messages, model_settings, model_request_parameters, scope.account)
        return await scope.meter.request(order, functools.partial(original, self))

    setattr(request, _MARK, True)
    return request


def _metered_stream(original: Any) -> Any:
    @functools.wraps(original)
    @asynccontextmanager
    async def request_stream(
        self: Model[Any],
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        scope = _scope_for(self)
        if scope is None or scope.meter is None:
            async with original(self, messages, model_settings, model_request_parameters, run_context) as stream:
                yield stream
            return

        def send(*arguments: Any) -> Any:
            return original(self, *arguments, run_context)

        order = Order(self, messages, model_settings, model_request_parameters, scope.account)
        async with scope.meter.stream(order, send) as stream:
            yield stream

    setattr(request_stream, _MARK, True)
    return request_stream


def _refused(original: Any, words: str) -> Any:
    @functools.wraps(original)
    async def method(self: Model[Any], *arguments: Any, **named: Any) -> Any:
        scope = _scope_for(self)
        if scope is not None and scope.meter is not None and scope.meter.is_hard:
            raise unbounded(words)
        return await original(self, *arguments, **named)

    setattr(method, _MARK, True)
    return method
