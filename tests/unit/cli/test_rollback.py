"""Which revisions there are, and what brings one back."""

import json
from typing import Any

import pytest

from agentservice_api import AgentService
from agentservice_cli.cluster.merging import apply_merge_patch
from agentservice_cli.cluster.revisions import Revision, choose, left_over, restoration, revisions
from agentservice_cli.cluster.rollback import gitops_of
from agentservice_cli.exits import CliError
from agentservice_operator.render import Platform, Rendered, render

PLATFORM = Platform(runtime_image="runtime:1")
UID = "6f7c1c2e-1111-2222-3333-444455556666"


def rendered(
    spec: dict[str, Any],
    *,
    instructions: str | None = None,
    platform: Platform = PLATFORM,
    secret_digest: str | None = None,
) -> Rendered:
    metadata = {"name": "hello", "namespace": "team-a", "uid": UID}
    resource = AgentService.model_validate({"metadata": metadata, "spec": spec})
    return render(resource, platform=platform, instructions=instructions, secret_digest=secret_digest)


def revision(made: Rendered, *, number: int, current: bool = False) -> Revision:
    deployment = next(child for child in made.children if child["kind"] == "Deployment")
    config = next(child for child in made.children if child["kind"] == "ConfigMap")["data"]["config.json"]
    return Revision(
        number=number,
        name=made.revision,
        current=current,
        created="",
        template=deployment["spec"]["template"],
        config=json.loads(config),
    )


OLD: dict[str, Any] = {"agent": {"instructions": "Old."}, "model": {"name": "test"}}


def restored(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    current, target = revision(rendered(new), number=2, current=True), revision(rendered(old), number=1)
    return apply_merge_patch(new, restoration(new, current, target).spec_patch)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"instructions": "New."}},
        {"agent": {"instructions": "New.", "outputSchema": {"type": "object"}, "retries": {"output": 3}}},
        {"agent": {"entrypoint": "pkg.mod:agent"}},
        {"model": {"name": "openai-chat:x", "settings": {"temperature": "0.5"}}},
        {"model": {"name": "openai-chat:x", "apiKey": {"secretKeyRef": {"name": "openai", "key": "k"}}}},
        {"auth": {"type": "BearerToken"}},
        {
            "auth": {
                "type": "BearerToken",
                "tokens": [{"name": "w", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            }
        },
        {"observability": {"environment": "staging", "slowRunSeconds": 5}},
        {"runtime": {"image": "mine:2", "concurrencyPerPod": 4}},
        {"runtime": {"env": [{"name": "A", "value": "1"}], "envFrom": [{"secretRef": {"name": "s"}}]}},
        {
            "runtime": {
                "resources": {"requests": {"cpu": "1"}},
                "nodeSelector": {"a": "b"},
                "podAnnotations": {"a": "b"},
            }
        },
        {
            "runtime": {
                "volumes": [{"name": "data", "emptyDir": {}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "tolerations": [{"key": "x", "operator": "Exists"}],
                "imagePullSecrets": [{"name": "r"}],
            }
        },
    ],
)
def test_what_is_restored_renders_exactly_the_revision_both_ways(change: dict[str, Any]) -> None:
    changed = {**OLD, **change}
    assert rendered(changed).revision != rendered(OLD).revision
    assert rendered(restored(OLD, changed)).revision == rendered(OLD).revision
    assert rendered(restored(changed, OLD)).revision == rendered(changed).revision


def test_a_revision_that_a_changed_secret_made_is_passed_over_and_no_part_of_its_digest_comes_back() -> None:
    new = {**OLD, "agent": {"instructions": "New."}, "runtime": {"podAnnotations": {"a": "b"}}}
    oldest = revision(rendered(OLD, secret_digest="0" * 32), number=1)
    before = revision(rendered(new, secret_digest="1" * 32), number=2)
    current = revision(rendered(new, secret_digest="2" * 32), number=3, current=True)
    assert choose([current, before, oldest], None) == (current, oldest)
    assert choose([current, before, oldest], "2") == (current, before)
    assert restoration(new, current, before).spec_patch == {}
    assert apply_merge_patch(new, restoration(new, current, oldest).spec_patch)["agent"] == OLD["agent"]
    assert "podAnnotations" not in str(restoration({**OLD}, oldest, oldest).spec_patch)
    assert left_over(rendered(new, secret_digest="2" * 32).children[-1]["spec"]["template"], before) == (
        "the Secrets that its pods read",
    )
    with pytest.raises(CliError, match="no earlier revision of another specification"):
        choose([current, before], None)


def test_what_is_no_part_of_a_revision_stays() -> None:
    new = {
        **OLD,
        "agent": {"instructions": "New."},
        "replicas": 7,
        "suspend": True,
        "rollout": {"maxSurge": 1},
        "network": {"service": {"port": 81}},
    }
    found = restored(OLD, new)
    assert found == {**new, "agent": {"instructions": "Old."}}


def test_nothing_that_is_equal_is_touched() -> None:
    new = {**OLD, "model": {"name": "openai-chat:x"}}
    current, target = revision(rendered(new), number=2, current=True), revision(rendered(OLD), number=1)
    assert restoration(new, current, target).spec_patch == {"model": {"name": "test"}}


def test_instructions_from_a_config_map_are_replaced_by_the_text_and_it_is_said() -> None:
    spec: dict[str, Any] = {
        "agent": {"instructionsFrom": {"configMapKeyRef": {"name": "p", "key": "k"}}},
        "model": {"name": "test"},
    }
    current = revision(rendered(spec, instructions="New."), number=2, current=True)
    target = revision(rendered(spec, instructions="Old."), number=1)
    found = restoration(spec, current, target)
    assert apply_merge_patch(spec, found.spec_patch)["agent"] == {"instructions": "Old."}
    assert any("instructionsFrom is replaced" in text for text in found.notes)


def test_an_image_that_was_the_platforms_is_pinned_and_it_is_said() -> None:
    current = revision(rendered(OLD, platform=Platform(runtime_image="runtime:2")), number=2, current=True)
    target = revision(rendered(OLD), number=1)
    found = restoration(OLD, current, target)
    assert found.spec_patch == {"runtime": {"image": "runtime:1"}}
    assert any("pinned to runtime:1" in text for text in found.notes)


def test_the_platforms_image_of_today_is_not_pinned() -> None:
    new: dict[str, Any] = {**OLD, "runtime": {"image": "mine:2"}}
    current, target = revision(rendered(new), number=2, current=True), revision(rendered(OLD), number=1)
    found = restoration(new, current, target, platform_image="runtime:1")
    assert found.spec_patch == {"runtime": {"image": None}}
    assert found.notes == ()


def test_the_revision_before_the_current_is_meant_also_after_a_rollback() -> None:
    def numbered(number: int, *, current: bool = False) -> Revision:
        return revision(rendered(OLD), number=number, current=current)

    found = (numbered(4, current=True), numbered(3), numbered(1))
    assert choose(found, None)[1].number == 3
    assert choose(found, "1")[1].number == 1
    assert choose((numbered(5), *found), None)[1].number == 3, "a newer one is no way back"
    with pytest.raises(CliError, match=r"no revision 2: revisions kept: 4"):
        choose(found, "2")
    with pytest.raises(CliError, match="is the current one"):
        choose(found, "4")
    with pytest.raises(CliError, match="no earlier revision"):
        choose((numbered(1, current=True),), None)


def test_a_revision_whose_configuration_is_gone_is_not_guessed_at() -> None:
    from dataclasses import replace

    current = revision(rendered(OLD), number=2, current=True)
    lost = replace(revision(rendered(OLD), number=1), config=None)
    with pytest.raises(CliError, match="configuration of revision 1 is gone"):
        choose((current, lost), None)


def test_revisions_are_read_from_replica_sets_of_this_deployment_only() -> None:
    def replica_set(number: int, owner: str, config_map: str) -> dict[str, Any]:
        volume = {"name": "config", "configMap": {"name": config_map}}
        return {
            "metadata": {
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
                "ownerReferences": [{"uid": owner}],
            },
            "spec": {
                "template": {
                    "metadata": {"labels": {"agentservice.dev/revision": f"r{number}"}},
                    "spec": {"containers": [{"name": "agent", "image": f"i:{number}"}], "volumes": [volume]},
                }
            },
        }

    template = {"metadata": {"labels": {"agentservice.dev/revision": "r10"}}}
    behind = {"deployment.kubernetes.io/revision": "9"}  # its controller numbers the ReplicaSet first
    deployment = {"metadata": {"uid": "d1", "annotations": behind}, "spec": {"template": template}}
    config_map = {"metadata": {"name": "hello-1"}, "data": {"config.json": '{"model": {"name": "test"}}'}}
    sets = [replica_set(9, "d1", "hello-1"), replica_set(10, "d1", "gone"), replica_set(11, "other", "hello-1")]
    found = revisions(deployment, sets, [config_map])
    assert [(r.number, r.name, r.image, r.model, r.current, r.config is None) for r in found] == [
        (10, "r10", "i:10", "", True, True),
        (9, "r9", "i:9", "test", False, False),
    ]


@pytest.mark.parametrize(
    ("metadata", "tool"),
    [
        ({}, ""),
        ({"managedFields": [{"manager": "kubectl-client-side-apply"}]}, ""),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
        ({"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD"),
        ({"managedFields": [{"manager": "kustomize-controller"}]}, "Flux"),
    ],
)
def test_who_keeps_an_object_as_git_has_it_is_seen(metadata: dict[str, Any], tool: str) -> None:
    assert gitops_of(metadata) == tool
