# Everything a developer or CI runs. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(BIN)/ottla-dev-ready: pyproject.toml
	@deploy/make-venv $(PYTHON) $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

.PHONY: proto
proto: $(BIN)/ottla-dev-ready ## Generate ottla/v1 and ottla/internal/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	    --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	    --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. \
	    $$(cd proto && find ottla -name '*.proto' | sort)
	@touch ottla/v1/__init__.py ottla/internal/__init__.py ottla/internal/v1/__init__.py
