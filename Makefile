# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROJECT := pyproject.toml client/pyproject.toml bench/pyproject.toml
# One pytest worker a core, each with a stretch of the tests, so that fixtures of a file are seldom made twice.
# `make test PYTEST_ARGS=-x` runs in one process and stops at the first failure.
PYTEST_ARGS ?= -n auto --dist worksteal

.PHONY: demo test docs nightly lint types proto proto-check bench bench-quick clean

demo: $(VENV)/.demo
	$(BIN)/vectordb demo

# Where each core has a worker, threads of libraries that wait by spinning only take time from the others.
test: $(VENV)/.dev
	OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

# The documentation as a site, in site/. mkdocs stops at a warning. Pages made from the code are committed: python tools/docs.py.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "wrote site/index.html"

# The attacks at full length, half an hour and more; what they count goes to $(NIGHTLY), and from there to docs/RELIABILITY.md.
NIGHTLY ?= nightly
nightly: $(VENV)/.dev
	VECTORDB_NIGHTLY=$(abspath $(NIGHTLY)) $(BIN)/python -m pytest $(PYTEST_ARGS) \
	  tests/resilience tests/kernels tests/congruence/test_model.py tests/congruence/test_filters.py tests/engine/test_moved_files.py \
	  tests/engine/test_change_log.py tests/engine/test_index_files.py tests/engine/test_compaction.py \
	  tests/engine/test_maintenance_model.py tests/engine/test_bm25_scores.py tests/engine/test_filters.py tests/engine/test_junk.py \
	  tests/engine/test_linear.py tests/engine/test_payload_filters.py tests/unit/test_filter_language.py \
	  tests/unit/test_filter_canonical.py tests/unit/test_words.py tests/client/test_wire.py tests/client/test_wire_refusals.py \
	  tests/server/test_half_open.py tests/server/test_turns.py tests/server/test_bounds.py tests/server/test_ending.py \
	  tests/bench/test_bench_probes.py
	VECTORDB_NIGHTLY=$(abspath $(NIGHTLY)) $(BIN)/python -m tests.support.soak --seconds 900 --workers 2
	$(BIN)/python tools/reliability.py $(NIGHTLY)

# Style, and that the generated asyncio client is up to date; python tools/generate_aio.py makes it again.
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/generate_aio.py --check

# The number of type errors of each package; it can only fall. tools/check_types.py says how to lower it.
types: $(VENV)/.types
	$(BIN)/python tools/check_types.py

# The generated code is committed; this makes it again, and proto-check fails when it differs.
proto: $(VENV)/.dev
	PYTHON=$(BIN)/python sh tools/proto.sh

proto-check: $(VENV)/.dev
	PYTHON=$(BIN)/python sh tools/proto.sh --check

# The figures of a release, with their bounds, beside a few peers; one of them is qdrant-edge-py, which is not a dependency.
bench: $(VENV)/.dev
	$(BIN)/python -m pip install -q qdrant-edge-py==0.9.0
	rm -rf bench-release
	$(BIN)/vectordb bench run --suite release --out bench-release

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
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]' -e ./bench
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: $(PROJECT) | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[docs]'
	@touch $@

$(VENV)/.types: $(VENV)/.dev
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[types]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site client/build client/dist bench/build bench/dist bench-quick bench-release nightly
	find . -name __pycache__ -prune -exec rm -rf {} +
