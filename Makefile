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
test: install ## the tests that fit into two minutes: all but those below
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

.PHONY: test-slow
test-slow: install ## kills, crash points, signals in every stage, shards: many processes each
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

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

LOCK := uv pip compile --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet

.PHONY: lock
lock: ## every lock anew from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements.lock
	$(LOCK) pyproject.toml --extra simulator -c requirements.lock -o requirements-runtime.lock
	echo 'hatchling>=1.27' | $(LOCK) - -c requirements.lock -o requirements-build.lock
	$(LOCK) tests/image/requirements.in -o tests/image/requirements.lock
	$(LOCK) tests/browser/requirements.in -o tests/browser/requirements.lock
	$(LOCK) tests/peer/requirements.in -o tests/peer/requirements.lock
	$(LOCK) tests/robustness/requirements.in -o tests/robustness/requirements.lock

.PHONY: clean
clean: ## remove what make has made
	rm -rf $(VENV) .venv-peer .venv-image .venv-browser .venv-robustness demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ENGINE=podman takes that one; BUILD_FLAGS go to its build, such as --build-arg BASE=….
ENGINE ?= docker podman buildah
IMAGE  ?= localhost/bulkdl:latest

.PHONY: image
image: ## the container image, with docker, podman or buildah, whichever works
	@for engine in $(ENGINE); do \
	  if $$engine info >/dev/null 2>&1; then \
	    exec $$engine build $(BUILD_FLAGS) --tag $(IMAGE) \
	      --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	      --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" . ; \
	  fi; \
	done; echo "none of these works here: $(ENGINE)" >&2; exit 1

.venv-image/.installed: tests/image/requirements.lock
	$(PYTHON) -m venv .venv-image
	.venv-image/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: test-image
test-image: install .venv-image/.installed ## the image and the manifests, with the real tools (installs them when root)
	tests/image/run

.venv-browser/.installed: tests/browser/requirements.lock
	$(PYTHON) -m venv .venv-browser
	.venv-browser/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: test-browser
test-browser: install .venv-browser/.installed ## the live page in a real Chromium (installs it when root)
	@command -v chromium >/dev/null || [ "$$(id -u)" -ne 0 ] || \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; }
	.venv-browser/bin/python -m pytest -q -c tests/browser/pytest.ini tests/browser

.PHONY: docs
docs: install ## generate the documentation pages that are derived from code
	$(BIN)/python docs/generate.py

.venv-robustness/.installed: tests/robustness/requirements.lock
	$(PYTHON) -m venv .venv-robustness
	.venv-robustness/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: robustness
robustness: install .venv-peer/.installed .venv-robustness/.installed ## bulkdl and its peers on one hostile origin, into docs/robustness.md
	-@missing=; for tool in curl wget aria2c; do command -v $$tool >/dev/null || missing=yes; done; \
	  [ -z "$$missing" ] || [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends curl wget aria2 >/dev/null; }
	PATH="$(CURDIR)/.venv-robustness/bin:$$PATH" $(BIN)/python tests/robustness/matrix.py docs/robustness.md

.PHONY: bench
bench: install ## bulkdl beside its peers on one origin, into docs/performance.md (ROWS="tls plan", BENCH="--pairs 3")
	-$(BIN)/python -m bench $(BENCH) $(ROWS)
