"""Which images are built again, and when."""

import json
import tarfile
from pathlib import Path

import pytest

from devcluster import builder, image_store, images, kind
from devcluster.image_store import Store


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, text in {
        "Dockerfile": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n",
        ".dockerignore": "*\n",
        "pyproject.toml": "",
        "uv.lock": "",
        "api/src/api.py": "",
        "operator/pyproject.toml": "",
        "operator/src/operator.py": "",
        "runtime/pyproject.toml": "",
        "runtime/src/runtime.py": "",
        "cli/pyproject.toml": "",
        "cli/src/cli.py": "",
        "charts/agentservice-operator/Chart.yaml": 'version: 0.1.0\nappVersion: "0.1.0"\n',
        "examples/analyst/Dockerfile": "ARG RUNTIME_IMAGE\nFROM ${RUNTIME_IMAGE}\n",
        "examples/database/Dockerfile": "FROM debian\n",
        "examples/redis/Dockerfile": "FROM debian\n",
        "examples/postgres/Dockerfile": "FROM debian\n",
        "examples/compose/nginx/Dockerfile": "FROM debian\n",
        "examples/compose/nginx/nginx.conf": "",
        "examples/compose/prometheus/Dockerfile": "FROM debian\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def tags(repository: Path, base: str = "base") -> dict[str, str]:
    planned = images.plan(repository, base=base, archives=repository / "archives")
    return {image.repository.rpartition("/")[2]: image.tag for image in planned.all}


def changed(repository: Path, path: str, base: str = "base") -> set[str]:
    before = tags(repository)
    (repository / path).write_text((repository / path).read_text() + "\n# changed\n")
    after = tags(repository, base=base)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("operator/src/operator.py", {"agentservice-operator"}),
        ("runtime/src/runtime.py", {"agentservice-runtime", "agentservice-example-analyst"}),
        ("api/src/api.py", {"agentservice-operator", "agentservice-runtime", "agentservice-example-analyst"}),
        ("uv.lock", {"agentservice-operator", "agentservice-runtime", "agentservice-example-analyst"}),
        ("examples/database/Dockerfile", {"agentservice-example-database"}),
        ("charts/agentservice-operator/Chart.yaml", set[str]()),
    ],
)
def test_a_change_builds_again_what_stands_on_it_and_nothing_else(repository: Path, path: str, expected: set[str]):
    assert changed(repository, path) == expected


def test_the_stack_without_a_cluster_has_images_of_its_own_that_no_cluster_loads(repository: Path):
    def names() -> dict[str, str]:
        planned = images.plan_stack(repository, base="base", archives=repository)
        return {image.repository.rpartition("/")[2]: image.tag for image in planned.all}

    before = names()
    loaded = images.plan(repository, base="base", archives=repository).all
    assert before.keys() - {image.repository.rpartition("/")[2] for image in loaded} == {
        "agentservice-cli",
        "agentservice-compose-nginx",
        "agentservice-compose-prometheus",
    }
    (repository / "cli/src/cli.py").write_text("changed")
    after = names()
    assert {name for name in before if before[name] != after[name]} == {"agentservice-cli"}


def test_another_base_builds_everything_again(repository: Path):
    assert changed(repository, "charts/agentservice-operator/Chart.yaml", base="other") == set(tags(repository))


def test_what_python_leaves_behind_builds_nothing(repository: Path):
    before = tags(repository)
    (repository / "api/src/__pycache__").mkdir()
    (repository / "api/src/__pycache__/api.pyc").write_text("x")
    assert tags(repository) == before


def test_manifests_find_every_image_under_the_charts_version(repository: Path):
    planned = images.plan(repository, base="base", archives=repository)
    assert [image.aliases for image in planned.all] == [
        ("localhost/agentservice-operator:0.1.0",),
        ("localhost/agentservice-runtime:0.1.0",),
        ("localhost/agentservice-example-analyst:0.1.0",),
        ("localhost/agentservice-example-database:0.1.0",),
        ("localhost/agentservice-example-postgres:0.1.0",),
        ("localhost/agentservice-example-redis:0.1.0",),
    ]


def test_an_authority_of_the_host_is_mounted_beside_the_images_own(tmp_path: Path):
    bundle = tmp_path / "bundle.crt"
    bundle.touch()
    arguments, volumes = builder.certificates({"PIP_CERT": str(bundle), "SSL_CERT_FILE": "/nowhere"})
    assert arguments == {"PIP_CERT": "/run/host-certificates/0/bundle.crt"}
    assert volumes == [f"{tmp_path}:/run/host-certificates/0"]


def test_a_host_without_an_authority_of_its_own_passes_on_nothing():
    assert builder.certificates({}) == ({}, [])


def test_the_pause_image_is_an_archive_of_one_program(tmp_path: Path):
    (tmp_path / "pause").write_bytes(b"program")
    image_store.pause_archive(tmp_path / "pause", tmp_path / "pause.tar")
    with tarfile.open(tmp_path / "pause.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (described,) = json.load(manifest)
    assert described["RepoTags"] == [image_store.PAUSE_IMAGE]


def store(*names: str, generation: int = 0, made: float = 0) -> Store:
    return Store(directory=Path(f"/{made}"), images=frozenset(names), generation=generation, made=made)


@pytest.mark.parametrize(
    ("stores", "expected"),
    [
        ([], None),
        ([store("a", "b", made=1), store("a", made=2)], 1),  # the one that has everything, though it is older
        ([store("x", made=1), store("y", made=2)], 2),  # what is missing is added to the newest
        ([store("x", made=1), store("y", made=2, generation=image_store.GENERATIONS)], 1),
        ([store("x", generation=image_store.GENERATIONS)], None),  # too much in it that nobody wants
        ([store("a", "b", "c", generation=image_store.GENERATIONS, made=3)], 3),
    ],
)
def test_a_node_starts_from_the_store_that_spares_the_most(stores: list[Store], expected: float | None):
    chosen = image_store.choose(stores, wanted=frozenset({"a", "b"}))
    assert (chosen.made if chosen else None) == expected


def test_kind_gets_a_worker_for_every_further_node():
    assert [node["role"] for node in json.loads(kind.configuration(3))["nodes"]] == [
        "control-plane",
        "worker",
        "worker",
    ]
