# LogStream. `make up` runs the platform on this machine, `make test` sets up and tests it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UP_STAMP := $(VENV)/.installed-server
FULL_STAMP := $(VENV)/.installed-full

.DEFAULT_GOAL := help
.PHONY: help install up up-full test cluster lint format clean

help: ## Show this help
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2}'

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("LogStream needs Python 3.11 or newer; set PYTHON=python3.12 or the like" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'

$(UP_STAMP): $(BIN)/uv requirements/server.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/server.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(FULL_STAMP): $(UP_STAMP) requirements/full.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/full.txt
	@touch $@

$(STAMP): $(BIN)/uv requirements/dev.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(UP_STAMP) $(FULL_STAMP) $@

install: $(STAMP) ## Create the environment with everything for development

up: $(UP_STAMP) ## Set up and run the platform on this machine (ARGS="--data DIR …")
	@exec $(BIN)/logstream up $(ARGS)

up-full: $(FULL_STAMP) ## The same on real servers: Kafka, Postgres, two of each service (needs Java 17 and Maven)
	@exec $(BIN)/logstream up-full $(ARGS)

# Most tests wait for real servers, so there may be more processes than cores. WORKERS=0: one after another.
WORKERS ?= 3
test: $(STAMP) ## Set up and run all tests (ARGS="-k tail", WORKERS=0 for one after another)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

cluster: $(STAMP) ## Run the tests' Kubernetes API server, without nodes, to look at (needs Go 1.24; Ctrl-C ends it)
	@exec $(BIN)/python -m tests.support.cluster

lint: $(STAMP) ## Style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-%: $(STAMP) ## Run one: bench-ingest, -tail, -memory, -crash, -query, -export, -redaction; on Kafka bench-ingest-full, -latency, -drain, -chaos; bench-operator
	$(BIN)/python -m benchmarks.$(subst -,_,$*) $(ARGS)

clean: ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

requirements: $(BIN)/uv ## Pin the dependencies again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --generate-hashes --extra all pyproject.toml -o requirements/server.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --generate-hashes --extra all --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --generate-hashes --group full -c requirements/dev.txt -o requirements/full.txt
.PHONY: requirements
