"""What an AgentService becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservice_api import RuntimeConfig, names
from agentservice_operator.render import ApiServerAddresses, Platform, Rendered, render

from .builders import PLATFORM, UID, agent_service, child, rendered


def test_the_same_specification_gives_the_same_bytes() -> None:
    assert json.dumps(rendered().children) == json.dumps(rendered().children)


def test_an_agent_has_a_config_map_a_service_account_a_service_and_a_deployment() -> None:
    assert [c["kind"] for c in rendered().children] == ["ConfigMap", "ServiceAccount", "Service", "Deployment"]


def test_a_named_service_account_is_used_and_none_is_created() -> None:
    result = rendered(runtime={"serviceAccountName": "theirs"})
    assert "ServiceAccount" not in [c["kind"] for c in result.children]
    assert child(result, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"


def test_the_configuration_is_what_the_runtime_reads() -> None:
    config = RuntimeConfig.from_json(child(rendered(), "ConfigMap")["data"][names.CONFIG_FILE].encode())
    assert (config.name, config.agent.instructions, config.model.name) == ("support", "Answer briefly.", "test")


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"instructions": "Answer at length."}},
        {"model": {"name": "openai-chat:gpt-4o-mini"}},
        {"runtime": {"image": "registry.example/mine:2"}},
        {"runtime": {"env": [{"name": "A", "value": "1"}]}},
        {"observability": {"logLevel": "debug"}},
    ],
)
def test_what_replaces_the_pods_is_a_new_revision(change: dict[str, object]) -> None:
    assert rendered(**change).revision != rendered().revision


@pytest.mark.parametrize("change", [{"replicas": 5}, {"network": {"service": {"port": 81}}}, {"suspend": True}])
def test_what_leaves_the_pods_alone_is_no_new_revision(change: dict[str, object]) -> None:
    assert rendered(**change).revision == rendered().revision


def test_going_back_gives_the_old_configuration_its_old_name() -> None:
    first, second = rendered(), rendered(agent={"instructions": "Otherwise."})
    assert first.config_map != second.config_map
    assert rendered().config_map == first.config_map


def test_user_labels_never_enter_the_selector_nor_replace_ours() -> None:
    result = rendered(runtime={"podLabels": {"team": "a", names.LABEL_NAME: "other"}})
    spec = child(result, "Deployment")["spec"]
    assert spec["selector"]["matchLabels"] == {names.LABEL_NAME: "support"}
    assert spec["template"]["metadata"]["labels"][names.LABEL_NAME] == "support"
    assert spec["template"]["metadata"]["labels"]["team"] == "a"


def test_pods_pass_pod_security_restricted() -> None:
    pod = child(rendered(), "Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False


def test_each_referenced_secret_key_is_one_file_and_no_other_key_is_mounted() -> None:
    key = {"secretKeyRef": {"name": "openai", "key": "api-key"}}
    result = rendered(
        model={"name": "openai-chat:m", "apiKey": key},
        auth={
            "type": "BearerToken",
            "tokens": [{"name": "web", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}}],
        },
    )
    volumes = child(result, "Deployment")["spec"]["template"]["spec"]["volumes"]
    sources = next(v for v in volumes if v["name"] == "secrets")["projected"]["sources"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["openai/api-key", "web/token"]
    assert result.generated_secret is None


def test_a_token_is_generated_only_where_none_is_named_and_its_name_holds_the_uid() -> None:
    assert rendered(auth={"type": "BearerToken"}).generated_secret == "support-token-1f0c9a2b"
    assert rendered().generated_secret is None


def test_suspending_leaves_everything_but_the_pods() -> None:
    assert child(rendered(replicas=3, suspend=True), "Deployment")["spec"]["replicas"] == 0


def test_pods_get_the_time_they_need_to_drain() -> None:
    template = child(rendered(agent={"instructions": "x", "limits": {"runTimeoutSeconds": 100}}), "Deployment")["spec"][
        "template"
    ]
    assert template["spec"]["terminationGracePeriodSeconds"] == 125


def test_an_empty_value_is_left_out_because_kubernetes_stores_none() -> None:
    result = rendered(runtime={"env": [{"name": "EMPTY", "value": ""}]})
    assert {"name": "EMPTY"} in child(result, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]


def test_the_users_environment_wins_over_ours() -> None:
    result = rendered(runtime={"env": [{"name": "ENVIRONMENT", "value": "mine"}]})
    env = child(result, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [e["value"] for e in env if e["name"] == "ENVIRONMENT"] == ["mine"]


def test_the_url_names_the_port_unless_it_is_80() -> None:
    assert rendered().url == "http://support.team-a.svc"
    assert rendered(network={"service": {"port": 8080}}).url == "http://support.team-a.svc:8080"


@given(name=st.from_regex(names.NAME_PATTERN, fullmatch=True).filter(names.is_legal_name))
def test_every_derived_name_is_a_legal_label_or_secret_name(name: str) -> None:
    resource = agent_service(auth={"type": "BearerToken"})
    resource = resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"name": name})})
    result = render(resource, platform=PLATFORM)
    assert all(len(c["metadata"]["name"]) <= 63 for c in result.children)
    assert result.generated_secret is not None
    assert len(result.generated_secret) <= 253


def test_the_revisions_of_agents_without_a_budget_stay_as_they_are() -> None:
    """An upgrade of the operator restarts no pod: these are what version 0.1 gave."""
    key = {"secretKeyRef": {"name": "a", "key": "b"}}
    keyed = rendered(auth={"type": "BearerToken"}, model={"name": "openai-chat:x", "apiKey": key})
    assert (rendered().revision, keyed.revision) == ("ab058329", "3d297ed5")


BUDGET = {"daily": {"tokens": 1000}}


def pod(result: Rendered) -> dict[str, Any]:
    return child(result, "Deployment")["spec"]["template"]["spec"]


def test_only_a_budget_gives_the_pods_a_token_and_the_right_to_keep_one_ledger() -> None:
    plain, budgeted = rendered(), rendered(budget=BUDGET)
    assert not {"Role", "RoleBinding"} & {c["kind"] for c in plain.children}
    assert "kube-api-access" not in [volume["name"] for volume in pod(plain)["volumes"]]
    assert [rule["resourceNames"] for rule in child(budgeted, "Role")["rules"]] == [["support"], ["support"]]
    assert [rule["verbs"] for rule in child(budgeted, "Role")["rules"]] == [["get", "list", "watch"], ["patch"]]
    sources = next(v for v in pod(budgeted)["volumes"] if v["name"] == "kube-api-access")["projected"]["sources"]
    assert [next(iter(source)) for source in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert pod(budgeted)["automountServiceAccountToken"] is False


def test_the_right_goes_to_the_account_that_the_pods_run_as() -> None:
    theirs = rendered(budget=BUDGET, runtime={"serviceAccountName": "theirs"})
    assert [child(r, "RoleBinding")["subjects"][0]["name"] for r in (rendered(budget=BUDGET), theirs)] == [
        "support",
        "theirs",
    ]


def test_a_token_that_the_user_mounts_serves_the_ledger_too() -> None:
    mount = {"name": "mine", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    volume = {"name": "mine", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    result = rendered(budget=BUDGET, runtime={"volumes": [volume], "volumeMounts": [mount]})
    assert [m["mountPath"] for m in pod(result)["containers"][0]["volumeMounts"]].count(mount["mountPath"]) == 1


def test_the_users_environment_cannot_make_two_pods_one_holder() -> None:
    result = rendered(budget=BUDGET, runtime={"env": [{"name": "POD_UID", "value": "all-the-same"}]})
    (entry,) = [e for e in pod(result)["containers"][0]["env"] if e["name"] == "POD_UID"]
    assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"


def test_a_limit_or_a_price_is_no_new_revision_but_where_the_ledger_is_kept_is() -> None:
    price = {"inputPerMillionUSD": "1", "outputPerMillionUSD": "2"}
    first = rendered(budget=BUDGET)
    assert (
        rendered(budget={"daily": {"tokens": 5}}, model={"name": "test", "pricing": price}).revision == first.revision
    )
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    assert rendered(budget={**BUDGET, "ledger": {"type": "Redis"}}, redis=redis).revision != first.revision
    kept = {**BUDGET, "ledger": {"type": "Kubernetes"}}
    assert rendered(budget=kept, redis=redis).revision == first.revision


def test_only_pods_that_keep_their_budget_in_redis_say_so() -> None:
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    mine = {"podLabels": {"agentservice.dev/ledger": "mine"}}

    def label(**parts: Any) -> str | None:
        template = child(rendered(**parts), "Deployment")["spec"]["template"]
        return template["metadata"]["labels"].get("agentservice.dev/ledger")

    assert label(budget={**BUDGET, "ledger": {"type": "Redis"}}, redis=redis, runtime=mine) == "Redis"
    assert label(budget=BUDGET, redis=redis) == "Redis"
    assert label(budget={**BUDGET, "ledger": {"type": "Kubernetes"}}, redis=redis) is None
    assert label(budget=BUDGET) is None


def test_the_keys_of_redis_and_of_the_cheaper_model_are_files() -> None:
    cheaper = {"name": "openai-chat:y", "apiKey": {"secretKeyRef": {"name": "cheap", "key": "key"}}}
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    result = rendered(
        budget={**BUDGET, "ledger": {"type": "Redis"}, "degrade": {"atPercent": 90, "model": cheaper}}, redis=redis
    )
    sources = next(v for v in pod(result)["volumes"] if v["name"] == "secrets")["projected"]["sources"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["cheap/key", "redis/url"]


def test_where_the_api_server_is_matters_to_a_policy_of_an_agent_with_a_budget_alone() -> None:
    api_server = ApiServerAddresses(cidrs=("192.0.2.0/24",), ports=(6443,))
    platform = Platform(runtime_image="r", api_server=api_server)
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 6443, "protocol": "TCP"}]}
    network = {"policy": {"allowTo": []}}
    with_budget = render(agent_service(network=network, budget={"daily": {"tokens": 1}}), platform=platform)
    assert rule in child(with_budget, "NetworkPolicy")["spec"]["egress"]
    without = render(agent_service(network=network), platform=platform)
    assert rule not in child(without, "NetworkPolicy")["spec"]["egress"]


def test_the_network_is_no_part_of_a_revision() -> None:
    network = {"ingress": {"host": "a.example.com"}, "httpRoute": {"parentRefs": [{"name": "edge"}]}, "policy": {}}
    assert rendered(network=network).revision == rendered().revision


def test_the_cache_gets_its_redis_as_a_file_and_the_uid_that_tells_it_from_its_namesakes() -> None:
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    result = rendered(cache={"enabled": True, "tags": ["catalog"]}, redis=redis)
    config = json.loads(child(result, "ConfigMap")["data"]["config.json"])
    assert config["cache"] == {"redisUrl": redis["urlFrom"], "uid": UID, "tags": ["catalog"]}
    volumes = child(result, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (sources,) = [v["projected"]["sources"] for v in volumes if v["name"] == "secrets"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["redis/url"]
    off = rendered(cache={"enabled": False, "tags": ["catalog"]}, redis=redis)
    assert off.revision == rendered(redis=redis).revision


def test_the_queue_gets_its_redis_as_a_file_and_says_who_works_but_not_how_many() -> None:
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    result = rendered(queue={"enabled": True, "maxAttempts": 5}, redis=redis)
    config = json.loads(child(result, "ConfigMap")["data"]["config.json"])
    assert config["queue"] == {"redisUrl": redis["urlFrom"], "uid": UID, "maxAttempts": 5}
    volumes = child(result, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (sources,) = [v["projected"]["sources"] for v in volumes if v["name"] == "secrets"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["redis/url"]
    few, many = ({"enabled": True, "workers": {"replicas": count}} for count in (1, 9))
    assert rendered(queue=few, redis=redis).revision == rendered(queue=many, redis=redis).revision
    assert rendered(queue=few, redis=redis).revision != rendered(queue={"enabled": True}, redis=redis).revision
    assert rendered(queue={"enabled": False, "maxAttempts": 5}, redis=redis).revision == rendered(redis=redis).revision


def test_a_queue_gets_the_database_of_its_steps_as_a_file_and_without_them_its_pods_are_as_they_were() -> None:
    redis, database = ({"urlFrom": {"secretKeyRef": {"name": name, "key": "url"}}} for name in ("redis", "agent-db"))
    result = rendered(queue={"enabled": True, "durability": "Steps"}, redis=redis, postgres=database)
    config = json.loads(child(result, "ConfigMap")["data"]["config.json"])
    assert config["queue"] == {"redisUrl": redis["urlFrom"], "stepsUrl": database["urlFrom"], "uid": UID}
    sources = next(v for v in pod(result)["volumes"] if v["name"] == "secrets")["projected"]["sources"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["agent-db/url", "redis/url"]
    plain = rendered(queue={"enabled": True}, redis=redis)
    without = rendered(queue={"enabled": True, "durability": "None"}, redis=redis, postgres=database)
    assert child(without, "ConfigMap")["data"] == child(plain, "ConfigMap")["data"]
    assert without.revision == plain.revision != result.revision
    disabled = {"enabled": False, "durability": "Steps"}
    assert rendered(queue=disabled, postgres=database).revision == rendered().revision


def test_conversations_get_their_store_as_a_file_and_the_uid_that_tells_them_from_those_of_namesakes() -> None:
    redis, database = ({"urlFrom": {"secretKeyRef": {"name": name, "key": "url"}}} for name in ("redis", "agent-db"))
    kept = {"store": "Postgres", "retentionSeconds": 60}
    result = rendered(conversations=kept, postgres=database, redis=redis)
    config = json.loads(child(result, "ConfigMap")["data"]["config.json"])
    assert config["conversations"] == {
        "store": "Postgres",
        "url": database["urlFrom"],
        "uid": UID,
        "retentionSeconds": 60,
    }
    volumes = child(result, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (sources,) = [v["projected"]["sources"] for v in volumes if v["name"] == "secrets"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["agent-db/url"]
    without = rendered(postgres=database, redis=redis)
    assert without.revision == rendered().revision
    assert rendered(conversations={"store": "Redis"}, redis=redis).revision not in (without.revision, result.revision)


HEADER = {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "otel", "key": "authorization"}}}


def test_the_keys_of_the_collector_and_of_logfire_are_files() -> None:
    result = rendered(
        observability={
            "otlp": {"endpoint": "http://collector:4318", "headersFrom": [HEADER]},
            "logfire": {"tokenFrom": {"secretKeyRef": {"name": "logfire", "key": "token"}}},
        }
    )
    sources = next(v for v in pod(result)["volumes"] if v["name"] == "secrets")["projected"]["sources"]
    assert [s["secret"]["items"][0]["path"] for s in sources] == ["logfire/token", "otel/authorization"]


NAMESPACED = {"kubernetes.io/metadata.name": "observability"}


@pytest.mark.parametrize(
    ("endpoint", "peer", "port"),
    [
        ("http://otel.observability:4318", {"namespaceSelector": {"matchLabels": NAMESPACED}}, 4318),
        ("http://otel.observability.svc.cluster.local:4318", {"namespaceSelector": {"matchLabels": NAMESPACED}}, 4318),
        ("https://otel.observability.svc", {"namespaceSelector": {"matchLabels": NAMESPACED}}, 443),
        ("http://otel", {"podSelector": {}}, 80),
        ("http://192.0.2.7:4318/x", {"ipBlock": {"cidr": "192.0.2.7/32"}}, 4318),
        ("http://[2001:db8::7]:4318", {"ipBlock": {"cidr": "2001:db8::7/128"}}, 4318),
        ("https://otlp.example.com", None, 443),
    ],
)
def test_a_policy_opens_the_way_to_a_collector_whose_address_says_where_it_is(
    endpoint: str, peer: dict[str, Any] | None, port: int
) -> None:
    def egress(**observability: Any) -> list[Any]:
        result = rendered(network={"policy": {"allowTo": []}}, observability=observability)
        return child(result, "NetworkPolicy")["spec"]["egress"]

    opened = [rule for rule in egress(otlp={"endpoint": endpoint}) if rule not in egress()]
    assert opened == ([] if peer is None else [{"to": [peer], "ports": [{"port": port, "protocol": "TCP"}]}])
