# Parley: `make help` lists the targets. Needs Python 3.11 with venv, and make; `setup` fetches the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

PROTOS := $(wildcard proto/parley_proto/v1/*.proto)
STUBS_CHECK := build/stubs
UV_VERSION := 0.13.8

# Settings of single targets: make run NODES=5, make chat ACCOUNT=ann TO=ben, make simulate SEEDS=200
NODES ?= 3
SEEDS ?= 50
VAR ?= var

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(READY) ## Start a three-node cluster on this machine and watch it (NODES=5, ARGS=--restart, ARGS=--events)
	@python scripts/cluster.py --var $(VAR) up --nodes $(NODES) $(ARGS)

# Tests start hundreds of processes. Without bytecode on disk each would compile every module again.
test test-gui: export PYTHONDONTWRITEBYTECODE :=

# Three workers also on two cores, because real clusters often wait.
.PHONY: test
test: $(READY) ## Run all tests but the campaigns of make chaos: unit, simulation, conformance, real clusters, the window
	python -m pytest -n 3 --dist loadgroup $(ARGS)
	$(if $(ARGS),,@$(MAKE) --no-print-directory test-gui)

# On their own, because pytest-qt loads Qt for every test of a run.
.PHONY: test-gui
test-gui: $(READY) ## Run the tests of the window, without a display
	@bash scripts/gui_libraries.sh $(BIN)/python
	python -m pytest -p pytest-qt -n 2 --dist loadfile tests/gui $(ARGS)

.PHONY: chat
chat: $(READY) ## Chat on the running cluster: make chat ACCOUNT=ann TO=ben
	@python scripts/cluster.py --var $(VAR) chat $(if $(ACCOUNT),--account $(ACCOUNT)) $(if $(TO),--to $(TO)) $(ARGS)

.PHONY: gui
gui: $(READY) ## Open the window on the running cluster: make gui ACCOUNT=ann
	@bash scripts/gui_libraries.sh $(BIN)/python --window
	@python -m scripts.gui --var $(VAR) $(if $(ACCOUNT),--account $(ACCOUNT))

.PHONY: first-minute
first-minute: $(READY) ## Measure the way from git clone to the first message, with empty caches (build/first-minute.json)
	@python -m scripts.first_minute $(ARGS)

.PHONY: demo
demo: $(READY) ## Kill the leader five times under load and count every message (build/demo.json)
	@python -m scripts.demo $(ARGS)

.PHONY: chaos
chaos: $(READY) ## Kill the leader under load (build/demo.json), then run the tests that are too long for make test
	@python -m scripts.demo $(ARGS)
	python -m pytest -m campaign
	@bash scripts/gui_libraries.sh $(BIN)/python
	python -m pytest -m campaign -p pytest-qt tests/gui
	@python -m tests.operations

.PHONY: operations
operations: $(READY) ## Carry out all procedures in a row under load: what waits, what is lost (build/operations.json)
	@python -m tests.operations $(ARGS)

.PHONY: bench
bench: $(READY) ## Measure a real cluster, row by row; in pairs with another checkout: BASE=folder (build/bench.json)
	@python -m scripts.bench $(if $(BASE),--base $(BASE)) $(ARGS)

.PHONY: bench-smoke
bench-smoke: $(READY) ## Check that no message costs twice what is recorded, in units of a fixed loop
	@python -m scripts.bench.smoke $(ARGS)

.PHONY: bench-metrics
bench-metrics: $(READY) ## Measure what monitoring costs per message, in pairs on and off (build/bench_metrics.json)
	@python -m scripts.bench.monitoring $(ARGS)

.PHONY: bench-window
bench-window: $(READY) ## Measure the window with 100,000 messages, 2,000 conversations, a day's use (build/bench_window.json)
	@bash scripts/gui_libraries.sh $(BIN)/python
	@python -m tests.bench_window $(ARGS)

.PHONY: bench-peers
bench-peers: $(READY) ## Measure NATS, etcd and RabbitMQ beside a cluster, three nodes each (build/bench_peers.json)
	@bash scripts/bench_peers/install.sh $(VENV)
	@python -m scripts.bench_peers $(ARGS)

.PHONY: verify
verify: $(READY) ## Check format, lint, types, and that the generated stubs are up to date
	ruff format --check .
	ruff check .
	mypy
	@$(MAKE) --no-print-directory stubs
	@echo "verify: format, lint, types and stubs are in order"

.PHONY: stubs
stubs: $(READY) ## Check that the generated stubs are those of the .proto files
	@rm -rf $(STUBS_CHECK) && mkdir -p $(STUBS_CHECK)
	$(call generate_stubs,$(STUBS_CHECK))
	@diff -r -x '*.proto' -x __init__.py -x __pycache__ $(STUBS_CHECK)/parley_proto/v1 proto/parley_proto/v1 || \
		{ echo "The stubs in proto/ do not match the .proto files. Run: make proto" >&2; exit 1; }

.PHONY: screenshots
screenshots: $(READY) ## Draw the pictures of the window anew (docs/images/gui-*.png)
	@bash scripts/gui_libraries.sh $(BIN)/python --pictures
	@python -m scripts.screenshots $(ARGS)

.PHONY: dashboard-shots
dashboard-shots: $(READY) ## Draw the pictures of the dashboard anew, in Chromium (docs/images/dashboard-*.png)
	@bash scripts/chromium.sh
	@python -m scripts.dashboard_shots $(ARGS)

.PHONY: conformance
conformance: $(READY) ## Replay the reference scenarios (RAFT_ORACLE) and write build/conformance.json
	@python -m tests.conformance $(ARGS)

.PHONY: simulate
simulate: $(READY) ## Run whole clusters under random faults: make simulate SEEDS=200 (build/simulate.json)
	@python -m tests.simulation.cluster --seeds $(SEEDS) $(ARGS)

.PHONY: mutants
mutants: $(READY) ## Plant every known Raft bug in a copy: a test must notice each (build/mutants.json)
	@python -m tests.mutants $(ARGS)

.PHONY: exhaust
exhaust: $(READY) ## Try every order of events in small worlds of three servers (build/exhaust.json)
	@python -m tests.simulation.exhaustion $(ARGS)

.PHONY: storage
storage: $(READY) ## Crash at every call to the disk and start from what is left (build/storage.json)
	@python -m tests.simulation.storage $(ARGS)

.PHONY: abuse
abuse: $(READY) ## Attack a real cluster as strangers and members do, and measure what it costs (build/abuse.json)
	@python -m tests.abuse $(ARGS)

.PHONY: setup
setup: $(READY) ## Make the virtual environment with all pinned packages

$(READY): requirements-dev.lock pyproject.toml scripts/setup_venv.sh
	@bash scripts/setup_venv.sh $(VENV) $(PYTHON)
	@touch $@

.PHONY: proto
proto: $(READY) ## Generate the gRPC stubs beside the .proto files
	rm -f proto/parley_proto/v1/*_pb2*.py proto/parley_proto/v1/*_pb2*.pyi
	$(call generate_stubs,proto)

define generate_stubs
python -m grpc_tools.protoc -Iproto --python_out=$(1) --mypy_out=quiet,readable_stubs:$(1) \
	--grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
endef

# build/lib is what an earlier build left. A module that has a new name since would go into the wheel with the old one.
.PHONY: dist
dist: $(READY) ## Build wheel and sdist in dist/ and try them in clean environments
	@rm -rf dist build/lib build/bdist.* *.egg-info/SOURCES.txt && mkdir -p build
	pyproject-build --no-isolation --sdist --wheel . >build/dist.log 2>&1 || { cat build/dist.log >&2; exit 1; }
	@python -m scripts.try_dist dist $(ARGS)

.PHONY: lock
lock: ## Pin every package with its hashes anew, from pyproject.toml (asks the registry)
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(call compile_lock,--extra server --extra gui --extra dev,requirements-dev.lock)
	$(call compile_lock,--constraint requirements-dev.lock --extra server --extra gui --extra dev --extra peers,requirements-peers.lock)
	$(call compile_lock,--constraint requirements-dev.lock --extra server,requirements.lock)
	$(call compile_lock,--constraint requirements-dev.lock,requirements-client.lock)

define compile_lock
build/lock/bin/uv pip compile --quiet $(LOCK_FLAGS) --group build $(1) pyproject.toml -o $(2)
endef

# One file for every platform and Python from 3.11 on; hashes so that an index cannot swap a file; no index address,
# so that the lock works behind a mirror. What is pinned already stays: LOCK_ARGS=--upgrade moves everything. The
# first lock has every package but the clients of other systems, which have a lock with them. The other two are parts of
# it with the same pins.
LOCK_FLAGS = --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $(LOCK_ARGS)

.PHONY: clean
clean: ## Remove what was generated, but neither the environment (.venv) nor the cluster's data (var)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find client server scripts tests proto -name __pycache__ -type d -prune -exec rm -rf {} +
