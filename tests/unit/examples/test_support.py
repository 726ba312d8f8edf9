"""The support agent of the examples, served by the runtime in this process, against the stand-in on a port of its own."""

import threading
import time
from pathlib import Path

import jsonschema
import pytest
import uvicorn
import yaml
from server import create_app as create_model_server
from starlette.testclient import TestClient

from agentservice_api import AgentService, runtime_config
from agentservice_runtime.app import create_app
from agentservice_runtime.secrets import SecretFiles

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(scope="module")
def model_server():
    server = uvicorn.Server(uvicorn.Config(create_model_server(), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all((EXAMPLES / "support.yaml").read_text()))


@pytest.fixture(scope="module")
def support(model_server, documents, tmp_path_factory):
    agent, secret = documents
    agent["spec"]["model"]["baseURL"] = model_server
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / secret["metadata"]["name"]).mkdir()
    for key, value in secret["stringData"].items():
        (secrets / secret["metadata"]["name"] / key).write_text(value)
    spec = AgentService.model_validate(agent).spec
    config = runtime_config(name="support", namespace="x", spec=spec, instructions=None, generated_token=None)
    with TestClient(create_app(config, secrets=SecretFiles(secrets))) as client:
        yield client


def run(support, **content):
    return support.post("/v1/run", json={"input": content})


def test_a_typed_request_gets_an_answer_that_fits_the_declared_schema(support, documents):
    response = run(support, customer_id=42, issue="My order never came", priority="normal")
    assert response.status_code == 200, response.text
    jsonschema.validate(response.json()["output"], documents[0]["spec"]["agent"]["outputSchema"])
    assert response.json()["output"]["escalated"] is False


def test_what_is_critical_is_escalated(support):
    answer = run(support, customer_id=42, issue="The shop is down", priority="critical").json()
    assert answer["output"]["escalated"] is True
    assert "Customer 42 (critical): The shop is down" in answer["output"]["response"]


def test_a_priority_that_is_left_out_is_normal(support):
    answer = run(support, customer_id=42, issue="Hello").json()
    assert "Customer 42 (normal): Hello" in answer["output"]["response"]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"issue": "x"}, "customer_id"),
        ({"customer_id": "forty-two", "issue": "x"}, "customer_id"),
        ({"customer_id": 42, "issue": ""}, "issue"),
        ({"customer_id": 42, "issue": "x", "priority": "urgent"}, "priority"),
        ({"customer_id": 42, "issue": "x", "mood": "bad"}, "mood"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(support, content, field):
    response = run(support, **content)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["category"] == "validation"
    assert field in response.text
