"""Decides which paths the program serves and what each needs.

`/v1` needs a token where `spec.auth` asks for one. Probes, metrics and `/docs` with its schemas need none: whoever
reaches the pod may read how to ask, but not ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from agentservice_api import RuntimeConfig
from agentservice_api.config import ROLE_VARIABLE, Role
from agentservice_api.semantics.capabilities import capability_problems
from agentservice_api.semantics.json_schemas import json_schema_problems
from agentservice_api.semantics.prompts import prompt_problems
from agentservice_api.spec import AuthType, SecretKeySelector
from agentservice_runtime.a2a.card import CARD_PATH, RPC_PATH, address_of, agent_card
from agentservice_runtime.a2a.endpoint import A2aEndpoint
from agentservice_runtime.a2a.request import A2aReader
from agentservice_runtime.agent import build_agent
from agentservice_runtime.cache.endpoint import PurgeEndpoint
from agentservice_runtime.chat.answer import CHAT_PATH, MODELS_PATH, ChatTelling, ChatWording
from agentservice_runtime.chat.request import ChatReader
from agentservice_runtime.conversation import Conversation
from agentservice_runtime.deps import build_deps, resolve_deps
from agentservice_runtime.drain import Drain
from agentservice_runtime.errors import (
    INTERNAL,
    Category,
    Problem,
    ServiceError,
)
from agentservice_runtime.ledger.choice import choose_ledger
from agentservice_runtime.ledger.interface import Ledger
from agentservice_runtime.memory.endpoint import ConversationsEndpoint
from agentservice_runtime.memory.memory import build_memory
from agentservice_runtime.meter.budget import Budget, build_budget
from agentservice_runtime.openapi import openapi
from agentservice_runtime.page import page
from agentservice_runtime.recovery import Recovery
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.responses import EventStream, answer_headers, json_response, problem_response
from agentservice_runtime.run_request import RunReader
from agentservice_runtime.runner import InputReader, Question, Runner
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.service import Failed, Service
from agentservice_runtime.stream import EventTelling
from agentservice_runtime.tasks.problems import NO_QUEUE
from agentservice_runtime.tasks.task import PATH as TASKS_PATH
from agentservice_runtime.tracing.start import start_tracing

_THREADS_PER_RUN: Final = 2
"""The model may call several tools at once, and one that was given up still holds its thread."""


class Readiness:
    """Whether requests may come. Keys must have been there once; losing one later does not empty the Service."""

    def __init__(self, config: RuntimeConfig, *, secrets: SecretFiles, drain: Drain, budget: Budget | None) -> None:
        self._budget = budget
        self._missing = list(_secrets_of(config))
        self._secrets = secrets
        self._drain = drain
        self.is_started = False

    def reasons(self) -> list[str]:
        """Return why not, empty when ready. Secrets are named, their values never."""
        self._missing = [s for s in self._missing if self._secrets.read(s) is None]
        found: list[str] = []
        if self._drain.is_draining:
            found.append("stopping")
        if not self.is_started:
            found.append("starting")
        found += [f"Secret {s.name} has no value for key {s.key}" for s in self._missing]
        if self._budget is not None and not self._budget.is_open:
            found.append("the budget's ledger has not been reached yet")
        return found


def create_app(
    config: RuntimeConfig,
    *,
    secrets: SecretFiles,
    revision: str = "",
    drain: Drain | None = None,
    ledger: Ledger | None = None,
    role: Role = Role.SERVER,
) -> FastAPI:
    """Return the application. Raises ConfigurationRejected; its lifespan builds and closes `ctx.deps`.

    ``drain`` is begun by whoever receives the signal to stop. ``ledger`` keeps the budget in place of the one that the
    configuration names. With Role.WORKER it serves probes and metrics, and works off the queue.
    """
    drain = drain or Drain()
    _refuse(config)
    reader = InputReader(config)
    service = Service(config, secrets=secrets, revision=revision, drain=drain)
    # before the user's code is imported
    tracing = start_tracing(config, secrets=secrets, metrics=service.metrics, revision=revision)
    built = build_agent(config, secrets=secrets)
    deps_source = resolve_deps(config.agent.deps)
    recovery = Recovery(config.model, secrets=secrets, metrics=service.metrics, name=built.model_name)
    budget = None
    if config.budget is not None:
        ledger = ledger or choose_ledger(config, secrets=secrets)
        budget = build_budget(config, ledger=ledger, secrets=secrets, metrics=service.metrics)
    cache = None
    if config.cache is not None:
        from agentservice_runtime.cache.cache import build_cache

        cache = build_cache(
            config, secrets=secrets, metrics=service.metrics, revision=revision, is_traced=tracing is not None
        )
    memory = build_memory(config, secrets=secrets)
    tasks = None
    if config.queue is not None:
        from agentservice_runtime.tasks.queue import build_tasks

        tasks = build_tasks(config, secrets=secrets, metrics=service.metrics, drain=drain, role=role)
    elif role is Role.WORKER:
        raise ConfigurationRejected("spec.queue", f"is not enabled, so there is no work for {ROLE_VARIABLE}={role}")
    read = RunReader(reader, has_memory=memory is not None).read
    readiness = Readiness(config, secrets=secrets, drain=drain, budget=budget)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            if tracing is not None:
                stack.callback(tracing.end)
            if budget is not None:
                # before the user's code: what it may ask models for is metered too
                await stack.enter_async_context(budget.in_force())
            if cache is not None:
                stack.push_async_callback(cache.close)
            if memory is not None:
                stack.push_async_callback(memory.close)
                sweeping = asyncio.create_task(memory.sweep_for_ever())
                stack.callback(sweeping.cancel)
            deps = await build_deps(deps_source, stack=stack)
            threads = ThreadPoolExecutor(
                max_workers=_THREADS_PER_RUN * config.serving.concurrency_per_pod, thread_name_prefix="tool"
            )
            # a function that never returns must not hold the process
            stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            service.start(
                Runner(
                    config,
                    built=built,
                    deps=deps,
                    threads=threads,
                    metrics=service.metrics,
                    budget=budget,
                    recovery=recovery,
                    cache=cache,
                ),
                memory=memory,
            )
            if tasks is not None:
                tasks.start(service, read=read)
                stack.push_async_callback(tasks.close)
            readiness.is_started = True
            yield

    app = FastAPI(title=config.name, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_probes(app, service=service, readiness=readiness)
    _add_problems(app)
    if role is Role.WORKER:
        return app
    document = openapi(config, revision=revision, input_schema=reader.schema, output_schema=built.output_schema)
    app.openapi = lambda: document
    _add_docs(app, document)
    _add_root(app, name=config.name, has_queue=tasks is not None)
    _add_runs(app, service=service, read=read)
    endpoint = None
    if tasks is None:
        _add_no_tasks(app)
    else:
        from agentservice_runtime.tasks.endpoint import TaskEndpoint
        from agentservice_runtime.tasks.routes import add_tasks

        endpoint = TaskEndpoint(tasks=tasks)
        add_tasks(app, service=service, read=read, endpoint=endpoint)
    conversation = Conversation(reader)
    _add_chat(app, service=service, reader=ChatReader(config.name, conversation=conversation, is_text=built.is_text))
    _add_agui(app, service=service, conversation=conversation)
    _add_a2a(
        app,
        endpoint=A2aEndpoint(
            service,
            reader=A2aReader(reader, conversation=conversation, has_memory=memory is not None),
            tasks=endpoint,
        ),
        card=partial(agent_card, config, revision=revision, is_typed=reader.is_typed, is_text=built.is_text),
    )
    _add_purge(app, service=service, endpoint=PurgeEndpoint(cache))
    _add_conversations(app, service=service, endpoint=ConversationsEndpoint(memory))
    app.add_middleware(_CloseWhileDraining, drain=drain)
    if tracing is not None:
        tracing.watch(app)
    return app


def _refuse(config: RuntimeConfig) -> None:
    """Judge what the operator has judged already: `agentservice run` and a hand-written file come here unjudged."""
    agent = config.agent
    for check in (json_schema_problems, prompt_problems, capability_problems):
        for problem in check(agent):
            raise ConfigurationRejected(problem.field, problem.message)
    if config.auth.type is AuthType.BEARER_TOKEN and not config.auth.tokens:
        raise ConfigurationRejected("spec.auth.tokens", "is empty, so nobody could call the agent: name a token")


def _add_docs(app: FastAPI, document: dict[str, Any]) -> None:
    content = page(document)

    @app.get("/docs")
    async def docs() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(content, media_type="text/html")


def _add_root(app: FastAPI, *, name: str, has_queue: bool) -> None:
    @app.get("/")
    async def root() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(
            {
                "agent": name,
                "run": "POST /v1/run",
                "stream": "POST /v1/stream",
                **({"tasks": f"POST {TASKS_PATH}"} if has_queue else {}),
                "chat": f"POST {CHAT_PATH}",
                "a2a": f"POST {RPC_PATH}",
                "docs": "/docs",
            }
        )


def _add_probes(app: FastAPI, *, service: Service, readiness: Readiness) -> None:
    @app.get("/health")
    async def health() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:  # pyright: ignore[reportUnusedFunction]
        reasons = readiness.reasons()
        return json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    @app.get("/metrics")
    async def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        content, media_type = service.metrics.exposition()
        return Response(content, media_type=media_type)


def _add_runs(app: FastAPI, *, service: Service, read: Callable[[dict[str, Any]], Question]) -> None:

    @app.post("/v1/run")
    async def run(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        record, question = await service.accept(request, read)
        answer = await service.run(question, record, receive=request.receive)
        return json_response(answer.document(), headers=answer_headers(answer))

    @app.post("/v1/stream")
    async def stream(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        record, question = await service.accept(request, read)
        telling = EventTelling(is_text=service.runner.is_text)
        return EventStream(await service.stream(question, record, telling=telling))

    @app.delete("/v1/runs/{run_id}")
    async def cancel(request: Request, run_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        has_ended = await service.cancel(request, run_id)
        status = "cancelled" if has_ended else "cancelling"
        return json_response({"run_id": run_id, "status": status}, status=200 if has_ended else 202)


def _add_agui(app: FastAPI, *, service: Service, conversation: Conversation) -> None:
    @app.post("/v1/ag-ui")
    async def agui(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        # only agents that are asked so pay for its types
        from agentservice_runtime.agui import AgUiTelling, read

        record, (given, question) = await service.accept(request, lambda body: read(body, conversation))
        return EventStream(await service.stream(question, record, telling=AgUiTelling(given)))


def _add_a2a(app: FastAPI, *, endpoint: A2aEndpoint, card: Callable[..., dict[str, Any]]) -> None:
    @app.post(RPC_PATH)
    async def a2a(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return await endpoint.answer(request)

    # an Ingress leads to /v1 only
    for path in (CARD_PATH, RPC_PATH + CARD_PATH):

        @app.get(path)
        async def known(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
            address = address_of(request.url.scheme, request.headers)
            # no cache between may give one caller's address to another
            headers = {"Cache-Control": "private, max-age=60", "Vary": "Host, X-Forwarded-Host, X-Forwarded-Proto"}
            return json_response(card(address=address), headers=headers)


def _add_chat(app: FastAPI, *, service: Service, reader: ChatReader) -> None:
    began = int(time.time())
    model = {"id": reader.model, "object": "model", "created": began, "owned_by": "agentservice"}

    @app.post(CHAT_PATH)
    async def chat(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        record, asked = await service.accept(request, reader.read)
        wording = ChatWording(model=reader.model, run_id=record.run_id, created=int(time.time()))
        if asked.is_stream:
            telling = ChatTelling(wording, is_text=service.runner.is_text, include_usage=asked.include_usage)
            stream = await service.stream(asked.question, record, telling=telling)
            return EventStream(stream)
        answer = await service.run(asked.question, record, receive=request.receive)
        return json_response(wording.completion(answer), headers=answer_headers(answer))

    @app.get(MODELS_PATH)
    async def models(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        service.authorize(request)
        return json_response({"object": "list", "data": [model]})

    @app.get(f"{MODELS_PATH}/{{name}}")
    async def one_model(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        service.authorize(request)
        if name != reader.model:
            raise Failed(problem=reader.unknown_model(name))
        return json_response(model)


def _add_purge(app: FastAPI, *, service: Service, endpoint: PurgeEndpoint) -> None:
    @app.delete("/v1/cache")
    async def purge(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        asker = service.authorize(request)
        return json_response(await endpoint.purge(request.query_params, caller=asker.caller))


def _add_conversations(app: FastAPI, *, service: Service, endpoint: ConversationsEndpoint) -> None:
    path = "/v1/conversations/{name}"

    @app.get(path)
    async def show(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(await endpoint.show(name, service.authorize(request)))

    @app.delete(path)
    async def forget(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(await endpoint.forget(name, service.authorize(request)))


def _add_no_tasks(app: FastAPI) -> None:
    @app.api_route(TASKS_PATH, methods=["GET", "POST"])
    @app.api_route(f"{TASKS_PATH}/{{rest:path}}", methods=["GET", "POST", "DELETE"])
    async def no_tasks() -> Response:  # pyright: ignore[reportUnusedFunction]
        raise ServiceError(NO_QUEUE)


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> Response:  # pyright: ignore[reportUnusedFunction]
        return problem_response(error.problem, path=request.url.path)

    @app.exception_handler(Failed)
    async def failed(request: Request, error: Failed) -> Response:  # pyright: ignore[reportUnusedFunction]
        return problem_response(error.problem, path=request.url.path)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        titles = {404: "Not found", 405: "Method not allowed"}
        title = titles.get(error.status_code, "Request refused")
        return problem_response(
            Problem(
                status=error.status_code,
                title=title,
                detail="The paths of this agent are listed at /docs.",
                category=Category.VALIDATION,
                headers=tuple((error.headers or {}).items()),
            ),
            path=request.url.path,
        )

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _error: Exception) -> Response:  # pyright: ignore[reportUnusedFunction]
        return problem_response(INTERNAL, path=request.url.path)


class _CloseWhileDraining:
    """While this pod stops, each answer asks the client to open its next connection elsewhere."""

    def __init__(self, app: Any, *, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and self._drain.is_draining:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, sending)


def _secrets_of(config: RuntimeConfig) -> list[SecretKeySelector]:
    found = [model.api_key.secret_key_ref for model in config.models if model.api_key]
    if config.budget is not None and config.budget.redis_url is not None:
        found.append(config.budget.redis_url.secret_key_ref)
    if config.cache is not None:
        found.append(config.cache.redis_url.secret_key_ref)
    if config.queue is not None:
        found.append(config.queue.redis_url.secret_key_ref)
        if config.queue.steps_url is not None:
            found.append(config.queue.steps_url.secret_key_ref)
    if config.conversations is not None:
        found.append(config.conversations.url.secret_key_ref)
    if config.auth.type is AuthType.BEARER_TOKEN:
        found += [token.value_from.secret_key_ref for token in config.auth.tokens]
    found += [h.value_from.secret_key_ref for server in config.agent.mcp_servers for h in server.headers]
    return list(dict.fromkeys(found))
