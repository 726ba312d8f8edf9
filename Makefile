# The commands of this repository. On a bare Debian they need root, make and python3 alone; the rest is fetched or built once and
# kept in ~/.cache/agentservice-devcluster.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-compose unit process-test apiserver-test cluster-test test-keda lint generate verify pictures images dist clean bench bench-operator bench-budgets bench-runtime

# pytest keeps rewritten tests as bytecode, which halves the time of `make unit`.
unexport PYTHONDONTWRITEBYTECODE

DC := devcluster/dc
RUN := .venv/bin
ENVIRONMENT := .venv/.synced
# A test that needs a cluster fails without one, here as in CI; `pytest` by hand skips it and says why.
BENCH := CI=true $(RUN)/python -m tests.bench
PYTEST := CI=true $(RUN)/pytest -q
# Tests that wait for processes more than they compute: with two at a time, two cores are idle for more than half of it.
WAITING := -n 3 --dist loadfile
# Properties, and whole processes without a cluster: every folder of tests/ that has no target of its own.
OTHERS = $(filter-out tests/unit/ tests/apiserver/ tests/chart/ tests/cluster/ tests/compose/ tests/keda/ tests/bench/,$(wildcard tests/[a-z]*/))

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## A real Kubernetes on this machine, the operator, an agent and its answer (cold 15 minutes, warm 1)
	@$(DC) demo

demo-down: ## Remove the demo's cluster: every process, mount, interface and cgroup
	@$(DC) down

test: lint unit process-test apiserver-test cluster-test test-compose ## Everything: lint, unit, property, runtime, chart, API server, cluster and compose tests

unit: $(ENVIRONMENT) ## Tests that need no cluster and no network, in seconds
	$(PYTEST) -n 2 tests/unit

process-test: $(ENVIRONMENT)
	$(PYTEST) $(WAITING) $(OTHERS)

runtime-test: $(ENVIRONMENT)
	$(PYTEST) $(WAITING) tests/runtime

apiserver-test: $(ENVIRONMENT) ## Tests against a real API server and with the real Helm; no root
	@$(DC) build > /dev/null
	$(PYTEST) $(WAITING) tests/apiserver tests/chart

cluster-test: $(ENVIRONMENT) ## Tests in real pods, on the dev cluster
	@$(DC) up --images
	$(PYTEST) tests/cluster

test-compose: $(ENVIRONMENT) ## The stack of examples/compose as containers, with docker or, as root, podman (2 minutes)
	$(PYTEST) tests/compose

# A cluster of its own: to the other tests KEDA is not installed.
KEDA := AGENTSERVICE_CLUSTER_NAME=keda
test-keda: $(ENVIRONMENT) ## That a real KEDA scales agents and workers (4 minutes, and 15 more at first to build KEDA; not part of `make test`)
	@trap '$(KEDA) $(DC) down' EXIT; $(KEDA) $(DC) up --images && $(KEDA) $(DC) install-keda && $(KEDA) $(PYTEST) tests/keda

lint: $(ENVIRONMENT) verify ## ruff, pyright (strict), the import contracts; generated files are what the types say
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright
	$(RUN)/lint-imports

# Draw the dashboards for the documents, after some minutes on the dev cluster.
pictures: $(ENVIRONMENT)
	@$(DC) up --images
	DRAW=docs/images $(PYTEST) tests/cluster/test_dashboards.py

generate: $(ENVIRONMENT) ## Write the CRDs, the reference pages, the chart's schema and dashboards from their sources
	$(RUN)/python -m agentservice_api.generate
	$(RUN)/python charts/agent_defaults_schema.py
	$(RUN)/python charts/dashboards.py

# Fails when a generated file is not what the types say; a part of lint.
verify: $(ENVIRONMENT)
	$(RUN)/python -m agentservice_api.generate --check
	$(RUN)/python charts/agent_defaults_schema.py --check
	$(RUN)/python charts/dashboards.py --check

# Build the operator's, the runtime's and the examples' images, and print their archives.
images:
	@$(DC) images

bench: $(ENVIRONMENT) ## What 200 agents cost from nothing to Ready and away again, as a table (about 5 minutes)
	@$(DC) build > /dev/null
	$(BENCH)

bench-budgets: $(ENVIRONMENT) ## That budgets hold, as tables, in real processes (CHECK=1 fails outside of the ranges, WRITE=page)
	@$(DC) build > /dev/null
	$(BENCH).budgets $(if $(CHECK),--check) $(if $(WRITE),--write=$(WRITE))

bench-operator: $(ENVIRONMENT) ## 200, 1,000 and 5,000 agents beside what is possible (half an hour; CHECK=1 fails outside of the ranges, SIZES=200,1000, WRITE=page)
	@$(DC) build > /dev/null
	$(BENCH).operator $(if $(SIZES),--sizes $(SIZES)) $(if $(CHECK),--check) $(if $(WRITE),--write=$(WRITE))

bench-runtime: $(ENVIRONMENT) ## What serving an agent costs beside the bare loop of its library (10 minutes; CHECK=1 fails outside of the ranges, WRITE=page)
	@$(DC) build > /dev/null
	$(BENCH).runtime $(if $(CHECK),--check) $(if $(WRITE),--write=$(WRITE))

dist: $(ENVIRONMENT) ## Wheels and source archives of the four packages, and the chart, in dist/
	"$$($(DC) uv)" build --quiet --all-packages --out-dir dist
	$$($(DC) build)/helm package charts/agentservice-operator --destination dist

clean: ## Remove the cluster, the environment and build results (the caches stay)
	@$(DC) down
	rm -rf .venv dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(ENVIRONMENT): uv.lock pyproject.toml api/pyproject.toml operator/pyproject.toml runtime/pyproject.toml cli/pyproject.toml
	"$$($(DC) uv)" sync --frozen --quiet
	@touch $@
