"""`agentservice run` and `ask`, as a person uses them."""

import json
import re
from pathlib import Path

from .terminal import Terminal, wait_until

HELLO = """\
apiVersion: agentservice.dev/v1alpha1
kind: AgentService
metadata: {name: hello}
spec:
  agent: {instructions: "You say %s."}
  model: {name: test}
"""


def test_an_agent_of_ones_own_answers_and_a_change_of_its_code_is_taken_over(terminal: Terminal) -> None:
    assert terminal.run("init", "my-agent").returncode == 0
    served = terminal.serve("-f", "my-agent/agent.yaml")
    served.wait_for("my-agent answers at")
    assert "Use days_until" in terminal.run("ask", "Hello").stdout

    code = terminal.folder / "my-agent" / "my_agent" / "agent.py"
    good = code.read_text()
    code.write_text(good.replace("Use days_until", "Always use days_until"))
    served.wait_for("my-agent answers again at")
    assert "Always use days_until" in terminal.run("ask", "my-agent", "Hello").stdout

    code.write_text(good + "\nraise RuntimeError('mine')\n")
    served.wait_for("Waiting for a change")
    assert "spec.agent.entrypoint" in served.log.read_text()
    code.write_text(good)
    served.wait_for("my-agent answers again at", times=2)

    assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()
    assert list((terminal.folder / ".tmp").iterdir()) == [], "Secrets and configuration are gone"


def test_a_broken_manifest_is_reported_and_what_serves_goes_on_serving(terminal: Terminal) -> None:
    manifest = terminal.folder / "agent.yaml"
    manifest.write_text(HELLO % "one")
    served = terminal.serve("-f", "agent.yaml")
    served.wait_for("hello answers at")
    manifest.write_text((HELLO % "two").replace("instructions", "instruction"))
    served.wait_for("the last good version serves on")
    assert "did you mean instructions?" in served.log.read_text()
    assert "You say one." in terminal.run("ask", "Hi").stdout
    replaced = terminal.folder / "agent.yaml.new"
    replaced.write_text(HELLO % "two")
    replaced.replace(manifest)  # as editors save
    served.wait_for("hello answers again at")
    assert "You say two." in terminal.run("ask", "Hi").stdout
    assert served.stop() == 0


AGENT = """\
import os
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel


async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    for name in ("GREETING", "WHO", "BOTH"):
        yield os.environ[name] + " "


agent = Agent(FunctionModel(stream_function=answer), name="env")
"""

MANIFEST = """\
apiVersion: agentservice.dev/v1alpha1
kind: AgentService
metadata: {name: env}
spec:
  agent: {entrypoint: "mine:agent"}
  model: {name: ""}
  auth: {type: BearerToken}
  runtime:
    env:
      - {name: GREETING, valueFrom: {configMapKeyRef: {name: words, key: greeting}}}
      - {name: WHO, valueFrom: {secretKeyRef: {name: people, key: who}}}
      - {name: BOTH, value: "[$(GREETING)/$(WHO)]"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {greeting: Good morning}
"""


def test_secrets_config_maps_and_a_generated_token_serve_an_agent_without_a_cluster(terminal: Terminal) -> None:
    (terminal.folder / "mine.py").write_text(AGENT)
    (terminal.folder / "agent.yaml").write_text(MANIFEST)
    refused = terminal.run("run", "-f", "agent.yaml", "--port", str(terminal.port))
    assert refused.returncode == 1
    assert "Secret people, key who (needed by spec.runtime.env WHO)" in refused.stderr
    assert ".secrets/people/who" in refused.stderr

    secret = terminal.folder / ".secrets" / "people" / "who"
    secret.parent.mkdir(parents=True)
    secret.write_text("Ada\n")
    served = terminal.serve("-f", "agent.yaml")
    served.wait_for("env answers at")
    found = terminal.run("ask", "Hi")
    assert found.stdout == "Good morning Ada [Good morning/Ada] \n", found.stderr
    stranger = terminal.run("ask", terminal.url, "Hi", "--token", "wrong")
    assert stranger.returncode == 1
    assert "Unauthorized" in stranger.stderr
    assert served.stop() == 0

    overridden = terminal.serve("-f", "agent.yaml", "--secret", "people/who=Grace", "--no-reload")
    overridden.wait_for("env answers at")
    wait_until(lambda: "Grace" in terminal.run("ask", "Hi").stdout, "an answer", overridden.log)
    assert overridden.stop() == 0


def test_scripts_get_json_and_exit_codes(terminal: Terminal) -> None:
    (terminal.folder / "agent.yaml").write_text(HELLO % "one")
    served = terminal.serve("-f", "agent.yaml")
    served.wait_for("hello answers at")
    found = terminal.run("ask", "-", "-o", "json", stdin="from stdin")
    assert "from stdin" in json.loads(found.stdout)["output"]
    typed = terminal.run("ask", "--input", '{"a": 1}')
    assert (typed.returncode, "input" in typed.stderr) == (1, True)
    taken = terminal.run("run", "-f", "agent.yaml", "--port", str(terminal.port))
    assert taken.returncode == 1
    assert re.search(r"cannot listen on .*in use\n  take another port: --port \d+\n$", taken.stderr)
    assert served.stop() == 0
    gone = terminal.run("ask", "Hi")
    assert (gone.returncode, "nothing answers" in gone.stderr) == (1, True)


def test_a_killed_run_leaves_no_server_and_no_secret_behind(terminal: Terminal) -> None:
    (terminal.folder / "agent.yaml").write_text(HELLO % "one")
    served = terminal.serve("-f", "agent.yaml")
    served.wait_for("hello answers at")
    served.process.kill()
    served.process.wait()
    wait_until(lambda: terminal.run("ask", terminal.url, "Hi").returncode == 1, "the end", served.log)
    wait_until(lambda: list((terminal.folder / ".tmp").iterdir()) == [], "an empty folder", served.log)


def test_children_can_be_rendered_without_a_cluster_and_with_the_platforms_defaults(
    terminal: Terminal, tmp_path: Path
) -> None:
    import yaml

    (tmp_path / "agent.yaml").write_text(HELLO % "one")
    (tmp_path / "values.yaml").write_text("replicas: 2\nagentDefaults: {runtime: {nodeSelector: {pool: agents}}}\n")
    found = terminal.run(
        "render", "-f", "agent.yaml", "--defaults", "values.yaml", "--runtime-image", "r:1", "-n", "team-a"
    )
    assert found.returncode == 0, found.stderr
    children = list(yaml.safe_load_all(found.stdout))
    assert [child["kind"] for child in children] == ["ConfigMap", "ServiceAccount", "Service", "Deployment"]
    pod = children[-1]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "agents"}
    assert pod["containers"][0]["image"] == "r:1"
    assert {child["metadata"]["namespace"] for child in children} == {"team-a"}
    (tmp_path / "values.yaml").write_text("agentDefaults: {runtim: {}}\n")
    wrong = terminal.run("render", "-f", "agent.yaml", "--defaults", "values.yaml")
    assert wrong.returncode == 1
    assert "runtim" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_cluster_that_is_not_there_is_told_in_one_line_each_time(terminal: Terminal) -> None:
    (terminal.folder / "agent.yaml").write_text(HELLO % "one")
    for command in (["status"], ["plan", "-f", "agent.yaml"], ["rollback", "hello"], ["ask", "hello", "Hi"]):
        found = terminal.run(*command)
        assert found.returncode == 1, command
        assert found.stderr.startswith("error: no cluster: ")
        assert "Traceback" not in found.stderr
    config = {"server": "https://127.0.0.1:9"}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": config}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "canary-token"}}],
    }
    (terminal.folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    found = terminal.run("status", "--kubeconfig", "kubeconfig")
    assert found.returncode == 1
    assert "https://127.0.0.1:9 cannot be reached" in found.stderr
    doctor = terminal.run("doctor", "--kubeconfig", "kubeconfig", "-o", "json")
    assert doctor.returncode == 1
    assert json.loads(doctor.stdout)[0]["verdict"] == "fail"
    assert "canary-token" not in found.stderr + doctor.stdout
