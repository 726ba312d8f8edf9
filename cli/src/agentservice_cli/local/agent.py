"""Decides what a local run serves: the runtime's configuration, its environment and its Secret files.

The same configuration that the operator would put into the ConfigMap, with three differences that a person at a
terminal wants: logs are text unless the manifest says otherwise, a missing namespace is `default`, and a token that
the operator would generate is generated here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from agentservice_api import AgentService, RuntimeConfig, names, runtime_config
from agentservice_api.budget.terms import ledger_spec
from agentservice_api.schema import Model
from agentservice_api.spec import AuthType, CacheScope, LogFormat, SecretKeySelector
from agentservice_cli.exits import CliError
from agentservice_cli.local.environment import environment
from agentservice_cli.local.sources import Missing, SourceKind, Sources, missing_error

SecretFiles = Mapping[tuple[str, str], bytes]


@dataclass(frozen=True, kw_only=True)
class LocalAgent:
    """Everything that one local process is started with. Values of Secrets are in it: never print it."""

    config: RuntimeConfig
    environment: Mapping[str, str] = field(repr=False)
    secret_files: SecretFiles = field(repr=False)
    token: str | None = field(repr=False)
    """The first bearer token that callers may use; None when none is asked for."""
    notes: tuple[str, ...]

    @property
    def revision(self) -> str:
        """Eight hexadecimal digits: equal configurations have equal revisions. Never equal to one in a cluster."""
        return names.short_hash(self.config.to_json())

    @property
    def has_code(self) -> bool:
        agent = self.config.agent
        return bool(agent.entrypoint or agent.tools or agent.deps)


def local_agent(
    resource: AgentService, sources: Sources, *, token: str | None = None, pod: str | None = None
) -> LocalAgent:
    """Return what a local run of `resource` serves. `token` is the generated token of an earlier start, kept over reloads;
    `pod` what the process is called among several (POD_NAME), `NAME-local` when nobody says.

    Raises CliError that names every missing Secret and ConfigMap at once.
    """
    missing: list[Missing] = []
    spec = resource.spec
    instructions = None
    if spec.agent.instructions_from is not None:
        reference = spec.agent.instructions_from.config_map_key_ref
        content = sources.value(SourceKind.CONFIG_MAP, reference.name, reference.key)
        if content is None:
            user = "spec.agent.instructionsFrom"
            missing.append(Missing(SourceKind.CONFIG_MAP, reference.name, reference.key, user))
        instructions = (content or b"missing").decode(errors="replace")
    generated = None
    if spec.auth.type is AuthType.BEARER_TOKEN and not spec.auth.tokens:
        generated = SecretKeySelector(name=f"{resource.metadata.name}-token-local", key=names.GENERATED_TOKEN_KEY)
    config = runtime_config(
        name=resource.metadata.name,
        namespace=resource.metadata.namespace,
        spec=spec,
        instructions=instructions,
        generated_token=generated,
        terms=None if spec.budget is None else ledger_spec(spec, price_book=None),
    )
    if "log_format" not in spec.observability.model_fields_set:
        config = config.model_copy(
            update={"observability": config.observability.model_copy(update={"log_format": LogFormat.TEXT})}
        )
    if config.queue is not None:
        # this process is all there is
        config = config.model_copy(update={"queue": config.queue.model_copy(update={"has_workers": False})})
    files: dict[tuple[str, str], bytes] = {}
    for user, reference in secret_references(config):
        content = sources.value(SourceKind.SECRET, reference.name, reference.key)
        if content is None and reference == generated:
            content = (token or secrets.token_urlsafe(32)).encode()
        if content is None:
            missing.append(Missing(SourceKind.SECRET, reference.name, reference.key, f"spec.{_field(resource, user)}"))
        else:
            files[(reference.name, reference.key)] = content
    env = environment(resource, sources, pod=pod or f"{resource.metadata.name}-local")
    missing += env.missing
    if missing:
        raise missing_error(missing, folder=sources.folder)
    return LocalAgent(
        config=config,
        environment=env.variables,
        secret_files=files,
        token=_first_token(config, files),
        notes=(*env.notes, *_notes(resource)),
    )


def secret_references(part: BaseModel, path: str = "") -> Iterator[tuple[str, SecretKeySelector]]:
    """Yield every reference to a Secret's key in `part` with the path of the field that holds it."""
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        below = f"{path}.{info.alias or name}" if path else str(info.alias or name)
        for index, item in enumerate(value) if isinstance(value, tuple) else ((None, value),):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            where = below if index is None else f"{below}[{index}]"
            if isinstance(item, SecretKeySelector):
                yield where.removesuffix(".secretKeyRef").removesuffix(".valueFrom"), item
            elif isinstance(item, Model):
                yield from secret_references(item, where)


def _field(resource: AgentService, user: str) -> str:
    """Return the field of the manifest behind one of the configuration."""
    if user.endswith(".redisUrl"):
        return "redis.urlFrom"
    if user.endswith(".stepsUrl"):
        return "postgres.urlFrom"
    wanted = resource.spec.conversations
    if user == "conversations.url" and wanted is not None:
        return f"{wanted.store.lower()}.urlFrom"
    return user


def _first_token(config: RuntimeConfig, files: SecretFiles) -> str | None:
    if not config.auth.tokens:
        return None
    reference = config.auth.tokens[0].value_from.secret_key_ref
    return files[(reference.name, reference.key)].decode(errors="replace").strip()


def _notes(resource: AgentService) -> Iterator[str]:
    runtime = resource.spec.runtime
    if runtime.volume_mounts:
        paths = ", ".join(mount.mount_path for mount in runtime.volume_mounts)
        yield f"spec.runtime.volumeMounts are not mounted here: {paths}"
    if resource.spec.budget is not None:
        kept = "the Redis of spec.redis" if resource.spec.redis is not None else "a file of this user"
        yield f"spec.budget holds here too, in {kept}; the cluster's accounts are not touched"
    cache = resource.spec.cache
    if cache.enabled and cache.scope is CacheScope.CALLER and resource.spec.auth.type is AuthType.NONE:
        yield "spec.cache keeps nothing: without auth no caller is known; set scope: Shared or auth.type: BearerToken"
    if resource.spec.queue.workers is not None:
        yield "spec.queue.workers are pods of a cluster: here the agent works off its queue itself"
    if resource.spec.suspend:
        yield "spec.suspend is true: in a cluster no pods would run; here the agent runs"


def parse_agent(content: dict[str, object], *, origin: str, namespace: str | None = None) -> AgentService:
    """Return the AgentService that a manifest's content says.

    Raises CliError that lists every problem with its field: wrong types, unknown fields, broken rules.
    """
    from agentservice_api.strict import check_manifest

    found = check_manifest(content)
    if found:
        lines = "\n  ".join(str(problem) for problem in found)
        raise CliError(f"{origin}: the manifest is not valid:\n  {lines}", mend="mend these fields and try again")
    resource = AgentService.model_validate(content)
    if namespace is not None:
        resource = resource.model_copy(
            update={"metadata": resource.metadata.model_copy(update={"namespace": namespace})}
        )
    return resource
