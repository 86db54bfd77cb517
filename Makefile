# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROJECT := pyproject.toml client/pyproject.toml
# One pytest worker a core; `make test PYTEST_ARGS=-x` runs in one process and stops at the first failure.
PYTEST_ARGS ?= -n auto

.PHONY: demo test lint proto proto-check bench bench-quick clean

demo: $(VENV)/.demo
	$(BIN)/vectordb demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The generated code is committed; this makes it again, and proto-check fails when it differs.
proto: $(VENV)/.dev
	PYTHON=$(BIN)/python sh tools/proto.sh

proto-check: $(VENV)/.dev
	PYTHON=$(BIN)/python sh tools/proto.sh --check

# Ratios against peers in one run; needs qdrant-edge-py, which is not a dependency.
bench: $(VENV)/.dev
	$(BIN)/python -m pip install -q qdrant-edge-py==0.9.0
	$(BIN)/python -m bench.foundation

# The harness on small data: ours and every peer that is installed; under five minutes. Full suites: vectordb bench list.
bench-quick: $(VENV)/.dev
	rm -rf bench-quick
	$(BIN)/vectordb bench run --quick --out bench-quick

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(PROJECT) | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(PROJECT) | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist client/build client/dist bench-quick
	find . -name __pycache__ -prune -exec rm -rf {} +
