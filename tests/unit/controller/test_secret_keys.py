"""The digest of the Secret keys that a pod reads covers these keys, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from agentservice_api import names
from agentservice_operator.render import render
from agentservice_operator.secret_keys import (
    Reference,
    digest,
    digest_at_work,
    fingerprint,
    missing,
    references,
    same_key,
)

from .builders import PLATFORM, UID, agent_service, child, rendered

KEY = b"k" * 32
DIGEST = f"{'0' * 8}-{'0' * 32}"
API_KEY = {"name": "test", "apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}


def ref(name: str, key: str = "", *, optional: bool = False) -> Reference:
    return Reference(name=name, key=key, is_optional=optional)


def found(**secrets: dict[str, str] | None) -> dict[str, Any]:
    """Fingerprints by name of a Secret, of these values."""
    return {
        name: None if values is None else {key: fingerprint(value, key=KEY) for key, value in values.items()}
        for name, values in secrets.items()
    }


def of(wanted: tuple[Reference, ...], *, uid: str = UID, key: bytes = KEY, **secrets: dict[str, str] | None) -> str:
    return digest(wanted, found(**secrets), uid=uid, key=key)


def read_by(**spec: Any) -> tuple[Reference, ...]:
    result = rendered(**spec)
    return references(result.children, besides=result.generated_secret)


def test_what_a_pod_reads_is_found_wherever_it_is_named() -> None:
    secret = {"secretKeyRef": {"name": "agent-db", "key": "url"}}
    runtime = {
        "env": [{"name": "DATABASE_URL", "valueFrom": secret}, {"name": "PLAIN", "value": "x"}],
        "envFrom": [{"secretRef": {"name": "whole"}}, {"configMapRef": {"name": "settings"}}],
        "volumes": [
            {"name": "tls", "secret": {"secretName": "tls", "items": [{"key": "tls.crt", "path": "c"}]}},
            {"name": "all", "secret": {"secretName": "ca", "optional": True}},
            {
                "name": "mixed",
                "projected": {"sources": [{"secret": {"name": "mixed"}}, {"configMap": {"name": "other"}}]},
            },
        ],
        "imagePullSecrets": [{"name": "registry"}],
    }
    assert read_by(model=API_KEY, runtime=runtime) == (
        ref("agent-db", "url"),
        ref("ca", optional=True),
        ref("mixed"),
        ref("openai", "api-key"),
        ref("tls", "tls.crt"),
        ref("whole"),
    )


def test_the_workers_read_what_the_pods_that_serve_read() -> None:
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    assert read_by(redis=redis, queue={"enabled": True, "workers": {"replicas": 2}}) == (ref("redis", "url"),)


def test_a_token_that_the_operator_generated_is_left_out_and_one_of_the_users_is_not() -> None:
    assert read_by(auth={"type": "BearerToken"}) == ()
    own = [{"name": "web", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}}]
    assert read_by(auth={"type": "BearerToken", "tokens": own}) == (ref("web", "token"),)


def test_a_key_that_is_needed_in_one_place_is_not_optional() -> None:
    volumes = [
        {"name": "a", "secret": {"secretName": "ca", "optional": True}},
        {"name": "b", "secret": {"secretName": "ca"}},
    ]
    assert read_by(runtime={"volumes": volumes}) == (ref("ca"),)


def test_a_volume_that_names_no_secret_is_no_reference() -> None:
    """Its shape is Kubernetes' own: what is wrong with it is refused there."""
    assert read_by(runtime={"volumes": [{"name": "a", "secret": {"optional": True}}]}) == ()


def test_the_digest_changes_with_a_referenced_key_and_with_no_other() -> None:
    wanted = (ref("openai", "api-key"),)
    before = of(wanted, openai={"api-key": "one", "organization": "acme"})
    assert of(wanted, openai={"api-key": "one", "organization": "globex", "more": "x"}) == before
    assert of(wanted, openai={"api-key": "two", "organization": "acme"}) != before


def test_the_digest_of_a_whole_secret_changes_with_each_of_its_keys() -> None:
    wanted = (ref("whole"),)
    before = of(wanted, whole={"a": "1"})
    assert before not in (of(wanted, whole={"a": "2"}), of(wanted, whole={"a": "1", "b": "2"}), of(wanted, whole={}))


def test_the_order_of_references_and_of_keys_makes_no_difference() -> None:
    wanted = (ref("a", "x"), ref("a", "y"), ref("b"))
    a, b = {"x": "1", "y": "2"}, {"p": "3", "q": "4"}
    backwards = {key: b[key] for key in reversed(b)}
    assert of(wanted, a=a, b=b) == of(tuple(reversed(wanted)), b=backwards, a=a)


def test_values_that_change_places_are_a_change() -> None:
    wanted = (ref("a", "x"), ref("a", "y"))
    assert of(wanted, a={"x": "1", "y": "2"}) != of(wanted, a={"x": "2", "y": "1"})
    apart = (ref("a", "k"), ref("b", "k"))
    assert of(apart, a={"k": "1"}, b={"k": "2"}) != of(apart, a={"k": "2"}, b={"k": "1"})


def test_an_optional_key_that_comes_and_goes_is_a_change_and_a_needed_one_is_missing() -> None:
    optional, needed = (ref("a", "x", optional=True),), (ref("a", "x"),)
    for absent in (None, {}, {"y": "1"}):
        assert missing(optional, found(a=absent)) is None
        assert of(optional, a=absent) != of(optional, a={"x": ""})
        assert missing(needed, found(a=absent)) == needed[0]
    assert missing((ref("a"),), found(a=None)) == ref("a")
    assert missing((ref("a"),), found(a={})) is None
    assert missing(needed, found(a={"x": "1"})) is None


def test_two_agents_have_different_digests_for_the_same_key() -> None:
    """Or who may see two Deployments could tell that their passwords are the same."""
    wanted = (ref("a", "x"),)
    assert of(wanted, a={"x": "1"}) != of(wanted, uid="another", a={"x": "1"})


def test_two_digests_can_be_compared_only_when_they_are_by_one_key() -> None:
    wanted = (ref("a", "x"),)
    one, another = of(wanted, a={"x": "1"}), of(wanted, uid="another", a={"x": "2"})
    assert same_key(one, another)
    assert not same_key(one, of(wanted, key=b"g" * 32, a={"x": "1"}))


def test_the_digest_of_the_same_content_is_what_it_was() -> None:
    """Another one would replace the pods of every agent that is restarted by Secrets, at an upgrade of the operator."""
    wanted = (ref("ca", optional=True), ref("openai", "api-key"), ref("whole"))
    same = of(wanted, openai={"api-key": "MQ==", "other": "eA=="}, ca=None, whole={"a": "MQ==", "b": ""})
    assert same == "06554cc3-b12db3298639a9169b0ed34c119892e9"


def test_nothing_can_be_tried_against_a_digest_without_the_key() -> None:
    wanted = (ref("a", "x"),)
    assert of(wanted, a={"x": "1"}) != of(wanted, key=b"g" * 32, a={"x": "1"})
    assert fingerprint("1", key=KEY) != fingerprint("1", key=b"g" * 32)


def test_without_a_digest_the_pods_are_byte_for_byte_as_before_whatever_the_field_says() -> None:
    assert rendered(rollout={"restartOnSecretChange": True}).children == rendered().children


def test_a_digest_is_a_new_revision_and_nothing_but_an_annotation() -> None:
    resource = agent_service(runtime={"podAnnotations": {"a": "b"}})
    before, after = (render(resource, platform=PLATFORM, secret_digest=digest) for digest in (None, "0" * 32))
    assert before.revision != after.revision
    template = child(after, "Deployment")["spec"]["template"]
    assert template["metadata"]["annotations"] == {"a": "b", names.ANNOTATION_SECRETS: "0" * 32}
    assert template["spec"] == child(before, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "annotation", ["", "somebody's words", "0" * 32, f"{'A' * 8}-{'A' * 32}", f"{'0' * 8}-{'0' * 33}"]
)
def test_what_is_no_digest_of_ours_is_none(annotation: str) -> None:
    rollout = agent_service(rollout={"restartOnSecretChange": True}).spec.rollout
    assert digest_at_work(rollout, {"metadata": {"annotations": {names.ANNOTATION_SECRETS: annotation}}}) is None


def test_the_digest_at_work_is_the_one_of_the_template_as_long_as_the_field_is_on() -> None:
    on, off = (agent_service(rollout={"restartOnSecretChange": on}).spec.rollout for on in (True, False))
    template = {"metadata": {"annotations": {names.ANNOTATION_SECRETS: DIGEST}}}
    assert digest_at_work(on, template) == DIGEST
    assert digest_at_work(off, template) is None
    assert digest_at_work(on, None) is None
    assert digest_at_work(on, {"metadata": {}}) is None
