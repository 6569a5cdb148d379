# The only list of verbs. `make help` prints it; CI calls the same ones.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python 3.11 or newer on PATH that can make virtual environments; `make demo PYTHON=/path/to/python3` names one.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
MLFLOW := mlflow==3.17.2
# What is compiled once, not in the first start: modules to bytecode, and the loops of a convolution to machine code
COMPILE := $(BIN)/python -m compileall -q service storage workers migrations && $(BIN)/python -c "import workers.sparse.fused, workers.sparse.compiled"
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input -c constraints.txt

.PHONY: demo serve test test-all soak check lint types layers format bench-sparse bench-store bench-load bench-start bench-service bench-method bench-scale bench-features bench-usage mini-encoder minkowski clean help

demo: .venv/.for-demo ## The main job, end to end, on synthetic rooms; DATA=FOLDER runs it on an RGB-D capture
	$(BIN)/vlglab demo $(if $(DATA),--data "$(DATA)") $(ARGS)

serve: .venv/.for-demo ## The service, on VLGLAB_HOME (default ~/.vlglab), at port 8765
	$(BIN)/vlglab serve $(ARGS)

test: .venv/.for-tests check ## What `check` does, then every test but the slow ones and those that need PostgreSQL
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow and not postgres and not soak" $(ARGS)

test-all: .venv/.for-all ## The slow tests: PostgreSQL, TensorFlow, transformers, and MinkowskiEngine after `make minkowski`
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "(slow or postgres) and not soak" $(ARGS)

soak: .venv/.for-tests ## An hour or more: 200 rounds of faults and 10,000 odd requests, on SQLite and PostgreSQL
	$(PYTEST) -m soak -s $(ARGS)

check: lint types layers ## Ruff, mypy and import-linter

lint: .venv/.for-tests ## Ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.for-tests ## mypy, strict
	$(BIN)/mypy

layers: .venv/.for-tests ## import-linter: the layers of docs/architecture.md
	$(BIN)/lint-imports

format: .venv/.for-tests ## Lays the code out as `lint` wants it
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench-sparse: .venv/.for-tests ## MinkUNet beside MinkowskiEngine (where installed), then at several sizes
	$(BIN)/python -m benchmarks.sparse $(ARGS)

bench-store: .venv/.for-tests ## Times writing, verifying and reading a scene's embeddings, then a training epoch beside .pt files, then pulling
	$(BIN)/python -m benchmarks.store $(ARGS)
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.pull

bench-load: .venv/.for-tests ## 64 clients submit, read and follow events for ten minutes, on SQLite; ARGS=--postgres on PostgreSQL
	$(BIN)/python -m benchmarks.load $(ARGS)

bench-start: .venv/.for-tests ## Times `vlglab serve` in a fresh home, to the first answer of /healthz
	$(BIN)/python -m benchmarks.start $(ARGS)

bench-service: .venv/.for-tests .venv-mlflow/.made ## The service beside MLflow's tracking server, which gets a venv of its own
	$(BIN)/python -m benchmarks.service $(ARGS)

bench-method: .venv/.for-tests ## The demo's experiment with three seeds, beside the supervised bound
	$(BIN)/python -m benchmarks.method $(ARGS)

bench-scale: .venv/.for-tests ## Listing, filtering and opening runs at 100,000 runs and 10 million points; ARGS=--postgres on PostgreSQL
	$(BIN)/python -m benchmarks.scale $(ARGS)

bench-features: .venv/.for-tests ## Listing and filtering 10,000 feature stores; ARGS=--postgres on PostgreSQL
	$(BIN)/python -m benchmarks.features $(ARGS)

bench-usage: .venv/.for-tests ## The quota's check and the usage report at 10,000 artifacts; ARGS=--postgres on PostgreSQL
	$(BIN)/python -m benchmarks.usage $(ARGS)

mini-encoder: .venv/.for-tests ## Trains the mini encoder anew and writes its weights
	$(BIN)/python -m tools.mini_encoder.train $(ARGS)

minkowski: .venv/.for-tests ## Builds MinkowskiEngine 0.5.4 (six minutes, kept in ~/.cache/vlglab) and installs it beside torch
	tools/minkowski/build.sh $(BIN)/python

clean: ## Removes what the other verbs made: .venv and caches (VLGLAB_HOME stays)
	rm -rf .venv .venv-mlflow build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.venv/.made:
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 or newer (with its venv module) on PATH;" \
		"install one or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv-mlflow/.made: ## Apart from .venv, for it brings a hundred packages of its own
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 or newer (with its venv module) on PATH" >&2; exit 1; }
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip install --disable-pip-version-check --no-input $(MLFLOW)
	@touch $@

.venv/.for-demo: .venv/.made pyproject.toml constraints.txt
	$(INSTALL) -e .
	-@$(COMPILE)
	@touch $@

.venv/.for-all: .venv/.for-tests ## TensorFlow's CPU build stands in for the extra `openseg`: the same module, half the download
	$(INSTALL) -e ".[test,text]" tensorflow-cpu "triton; sys_platform == 'linux'"
	@touch $@

.venv/.for-tests: .venv/.made pyproject.toml constraints.txt
	$(INSTALL) -e ".[test]"
	-@$(COMPILE)
	@touch $@ .venv/.for-demo
