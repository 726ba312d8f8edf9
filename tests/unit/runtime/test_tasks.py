"""What a process does of a queue, what is kept of a request, and how long a task waits for its next try."""

import pytest

from agentservice_api import RuntimeConfig
from agentservice_api.config import Role
from agentservice_runtime.app import create_app
from agentservice_runtime.configuration import role_of
from agentservice_runtime.drain import DrainPlan
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.tasks.asking import Asker
from agentservice_runtime.tasks.store import pause_seconds


def test_a_process_serves_unless_its_environment_says_that_it_works() -> None:
    assert role_of({}) is role_of({"AGENTSERVICE_ROLE": ""}) is Role.SERVER
    assert role_of({"AGENTSERVICE_ROLE": "worker"}) is Role.WORKER
    with pytest.raises(ConfigurationRejected, match="is server or worker"):
        role_of({"AGENTSERVICE_ROLE": "boss"})


def test_a_worker_without_a_queue_says_that_it_has_no_work(tmp_path) -> None:
    config = RuntimeConfig.model_validate(
        {
            "name": "support",
            "namespace": "team-a",
            "agent": {"instructions": "Answer."},
            "model": {"name": "test"},
            "auth": {},
            "serving": {"concurrencyPerPod": 8, "drainTimeoutSeconds": 10},
            "observability": {},
        }
    )
    with pytest.raises(ConfigurationRejected, match="there is no work for AGENTSERVICE_ROLE=worker"):
        create_app(config, secrets=SecretFiles(tmp_path), role=Role.WORKER)


def test_a_worker_that_stops_waits_for_no_endpoints() -> None:
    assert DrainPlan.of(100, is_called=False).accept_seconds == 0
    assert DrainPlan.of(100, is_called=False).finish_seconds > DrainPlan.of(100).finish_seconds


def test_who_asked_is_the_same_wherever_the_task_runs_and_what_is_new_is_left_out_by_the_old() -> None:
    asker = Asker(caller="web/ada", end_user="web/ada", trace_id="f" * 32, wants_fresh=True)
    assert Asker.decode(asker.encode()) == asker
    assert Asker.decode(b'{"caller": null, "of_a_later_version": 1}').owner is None


def test_the_pause_before_another_try_grows_and_keeps_the_providers_own() -> None:
    for attempts, most in ((1, 2.5), (2, 5), (3, 10), (20, 375)):
        assert 0.3 * most <= pause_seconds(attempts) <= most
    assert pause_seconds(1, least=77) == 77
