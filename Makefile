# `make help` lists what there is. Everything is set up on first use; nothing but Python 3.11+ is needed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bulkdl needs Python 3.11 or newer; name one: make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(STAMP) ## .venv from the lock, and bulkdl in it

.PHONY: demo
demo: install ## the main job, end to end, against the built-in simulator
	$(BIN)/bulkdl demo -o demo

.PHONY: test
test: install ## all tests but the peer's
	$(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: check
check: install ## format, lint, types, import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/test_house.py

.PHONY: format
format: install ## put every file into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv-peer/.installed: tests/peer/requirements.lock
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: test-peer
test-peer: install .venv-peer/.installed ## the official client against the simulator, compared with bulkdl
	.venv-peer/bin/python -m pytest -q -c tests/peer/pytest.ini tests/peer

.PHONY: lock
lock: ## requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet -o requirements.lock

.PHONY: clean
clean: ## remove what make has made
	rm -rf $(VENV) .venv-peer demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
