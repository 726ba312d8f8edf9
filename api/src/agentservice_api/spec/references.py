"""Decides how a specification points at Secrets and ConfigMaps of its namespace, and the bounded string types."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, Model, PreserveUnknownFields, Rule

ObjectName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Explained("name is the name of an object: a-z, 0-9, '-' and '.', first and last a letter or digit"),
]
"""The name of a Secret, ConfigMap or ServiceAccount (a DNS subdomain)."""
NameOrEmpty = Annotated[
    str,
    StringConstraints(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"),
    Explained(
        "this is the name of an object: a-z, 0-9, '-' and '.', first and last a letter or digit; or leave it out"
    ),
]
"""The name of an object; empty means the same as absent."""
DataKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"),
    Explained("key is a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.' only, and not .. at its begin"),
]
"""A key of a Secret or ConfigMap."""
ListItemName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    Explained("name is made of a-z, 0-9 and '-', first and last a letter or digit"),
]
HeaderName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"),
    Explained("name is an HTTP header's name, for instance Authorization: no spaces, no colon"),
]
ShortText = Annotated[str, StringConstraints(max_length=1024)]
LabelValue = Annotated[
    str,
    StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"),
    Explained("a label's value is made of letters, digits, '-', '_' and '.', first and last a letter or digit"),
]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]
Annotations = Annotated[dict[str, Annotated[str, StringConstraints(max_length=16384)]], Field(max_length=64)]
OpenObject = Annotated[dict[str, Any], PreserveUnknownFields()]
"""An object whose schema belongs to Kubernetes or to a library; what does not fit it is reported by them."""


class LocalObjectReference(Model):
    """An object of this namespace, by name."""

    name: ObjectName = Field(description="Name of the object in this namespace.")


class KeySelector(Model):
    """One key of a Secret or ConfigMap of this namespace."""

    name: ObjectName = Field(description="Name of the object in this namespace.")
    key: DataKey = Field(description="The key whose value is used.")


class SecretKeySelector(KeySelector):
    """One key of a Secret of this namespace."""


class ConfigMapKeySelector(KeySelector):
    """One key of a ConfigMap of this namespace."""


class SecretSource(Model):
    """A value that stands in a Secret. Secrets are mounted as files and re-read when they change."""

    secret_key_ref: SecretKeySelector = Field(description="The Secret's key that holds the value.")


class EnvVarSource(Model):
    """Where the value of an environment variable comes from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.secretKeyRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + (has(self.fieldRef) ? 1 : 0) == 1",
            message="valueFrom needs exactly one of secretKeyRef, configMapKeyRef or fieldRef",
        ),
    )

    secret_key_ref: SecretKeySelector | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: ConfigMapKeySelector | None = Field(default=None, description="A key of a ConfigMap.")
    field_ref: OpenObject | None = Field(
        default=None, description="A field of the pod, such as {fieldPath: spec.nodeName}."
    )


class EnvVar(Model):
    """An environment variable of the agent's container."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!(has(self.value) && has(self.valueFrom))",
            message="an env entry takes value or valueFrom, not both: remove one",
        ),
        Rule(
            rule="!self.name.startsWith('AGENTSERVICE_')",
            message="env names that begin with AGENTSERVICE_ are the operator's: choose another name",
            field_path=".name",
        ),
    )

    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
        Explained("an env name is made of letters, digits and '_', no digit first"),
    ] = Field(description="Name of the variable: letters, digits and _, no digit first.")
    value: Annotated[str, StringConstraints(max_length=32768)] | None = Field(
        default=None, description="The value, for what is no secret. Default: empty."
    )
    value_from: EnvVarSource | None = Field(default=None, description="Where the value stands, in place of `value`.")


class EnvFromSource(Model):
    """All keys of a Secret or ConfigMap as environment variables."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.secretRef) != has(self.configMapRef)",
            message="an envFrom entry needs exactly one of secretRef or configMapRef",
        ),
    )

    prefix: (
        Annotated[
            str,
            StringConstraints(max_length=64, pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$"),
            Explained("an envFrom prefix is made of letters, digits and '_', no digit first"),
        ]
        | None
    ) = Field(default=None, description="Stands before each key's name. Default: nothing.")
    secret_ref: LocalObjectReference | None = Field(default=None, description="The Secret whose keys become variables.")
    config_map_ref: LocalObjectReference | None = Field(
        default=None, description="The ConfigMap whose keys become variables."
    )
