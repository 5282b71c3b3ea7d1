# Parley: `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export PATH := $(CURDIR)/$(BIN):$(PATH)

PROTOS := $(wildcard proto/parley/v1/*.proto)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.ready ## Make the virtual environment with all pinned packages

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	bash scripts/bootstrap.sh $(VENV) $(PYTHON)
	touch $@

.PHONY: proto
proto: $(VENV)/.ready ## Generate the gRPC stubs beside the .proto files
	rm -f proto/parley/v1/*_pb2*.py proto/parley/v1/*_pb2*.pyi
	python -m grpc_tools.protoc -I. --python_out=. --mypy_out=quiet,readable_stubs:. \
		--grpc_python_out=. --mypy_grpc_out=quiet:. $(PROTOS)
