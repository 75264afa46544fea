# One way to do each thing. `make help` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
# Where it is set, each of the hundreds of processes that tests start would compile all of trueup anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup docs demo picture pictures browser test fuzz check lint format types floors quick bench deb simulate mutants chaos lock clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
# On few cores two testers each: many tests wait for processes, databases, a browser.
TESTERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); test $$n -gt 4 && echo $$n || echo $$((2 * n)))

# Python 3.11 or newer: `python3` if it is, else the newest that can be found. Override with PYTHON=...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv from the lock file and install trueup into it

$(STAMP): requirements.lock pyproject.toml
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "trueup needs Python 3.11 or newer: install python3 and python3-venv, or give PYTHON=..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		echo "making $(VENV) with $(PYTHON)"; \
		$(PYTHON) -m venv --clear $(VENV) || { echo "cannot make $(VENV): install python3-venv" >&2; exit 1; }; }
	@echo "installing from requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## watch trueup survive its own death, against a simulated cluster; ARGS=--json for a summary
	@$(BIN)/trueup demo $(ARGS)

picture: setup ## make the README's picture anew, from a run of the demo
	@$(BIN)/trueup demo --picture docs/pictures/demo.svg

browser: ## install Debian's chromium for the tests of the page, where one may; they are skipped without it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && timeout 120 apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq install -y --no-install-recommends chromium >/dev/null; } || \
		echo "no browser, and none can be installed here: the tests of the page in a browser are skipped"

token: ## install Debian's softhsm2 for the tests of PKCS#11 keys, where one may; they are skipped without it
	@command -v softhsm2-util >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && timeout 120 apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq install -y --no-install-recommends softhsm2 >/dev/null; } || \
		echo "no SoftHSM, and none can be installed here: the tests of keys on a PKCS#11 token are skipped"

pictures: setup ## make the documents' pictures of the page anew, from a run of its tests
	@TRUEUP_PICTURES=docs/pictures $(BIN)/python -m pytest -q tests/web/test_browser.py tests/web/test_security_keys.py

test: setup ## all tests; ARGS= goes to pytest
	@$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal $(ARGS)

fuzz: setup ## 100,000 mutated envelopes at the gate: none may be taken for signed that nobody signed
	@TRUEUP_MUTATIONS=$(or $(COUNT),100000) $(BIN)/python -m pytest -q --timeout 3600 -p no:cacheprovider tests/gate/test_mutations.py

check: lint types floors quick ## lint, types, floors and the quick tests

lint: setup ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: setup ## basedpyright, as Python 3.11, 3.12 and 3.13
	@for v in 3.11 3.12 3.13; do echo "types as Python $$v"; $(BIN)/basedpyright --pythonversion $$v || exit 1; done

floors: setup ## who may import whom, and no file above 500 lines
	@$(BIN)/lint-imports --no-logo
	@find src -name '*.py' -exec awk 'END { if (NR > 500) { print FILENAME ": " NR " lines; split it at 500"; exit 1 } }' {} \; \
		| { ! grep .; }

quick: setup ## the tests of the pure floors only
	@dirs=$$(ls -d tests/model tests/core 2>/dev/null); test -z "$$dirs" || $(BIN)/python -m pytest -q -n $(WORKERS) $$dirs

docs: setup ## the documents as a site in build/site; a broken link fails
	@$(BIN)/python docs/generate.py --check
	@cmp -s docs/requirements.txt .cache/docs-venv/.installed || { $(PYTHON) -m venv --clear .cache/docs-venv && \
		.cache/docs-venv/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt && \
		cp docs/requirements.txt .cache/docs-venv/.installed; }
	@$(BIN)/python docs/site.py build/docs
	@cd build/docs && ../../.cache/docs-venv/bin/zensical build --strict
	@rm -rf build/site && mv build/docs/site build/site

bench: setup bench-peers ## the benchmarks, quick; FULL=1 for all of them, ROWS= for some (see benchmarks/README.md)
	@$(BIN)/python -m benchmarks.run $(if $(FULL),--full) $(ROWS)

bench-peers: build/bench-venv/.installed

# Other people's tools, apart from ours. What cannot be had is missing from the table, visibly, and stops nothing.
build/bench-venv/.installed: benchmarks/peers/requirements.txt
	@echo "installing what trueup is measured against into build/bench-venv"
	@{ $(BIN)/python -m venv build/bench-venv && \
		build/bench-venv/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@; } || \
		echo "it could not be installed: rows with these peers will say so" >&2

deb: ## build the Debian package into dist/, for the Python of this host's Debian or Ubuntu
	@PYTHON=$(or $(wildcard /usr/bin/python3),$(PYTHON)) deploy/debian/build.sh

simulate: setup ## the crash simulation for SECONDS= from SEED=; JOURNAL=postgres, KINDS=1 for every kind at every point
	@$(BIN)/python -m tests.simulation.run $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(STORIES),--stories $(STORIES)) $(if $(JOURNAL),--journal $(JOURNAL)) $(if $(KINDS),--kinds)

chaos: setup ## agents on PostgreSQL, whose leaders are killed and paused, for SECONDS= with GUESTS= from SEED=
	@$(BIN)/python -m tests.postgres.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(GUESTS),--guests $(GUESTS)) $(if $(SEED),--seed $(SEED))

mutants: setup ## plant small mistakes in the core, one by one: a test must fail for each; MODULES= SAMPLE=
	@$(BIN)/python -m tests.mutants.run $(MODULES) $(if $(SAMPLE),--sample $(SAMPLE)) --workers $(WORKERS)

lock: ## resolve requirements.lock anew from pyproject.toml; ARGS=--upgrade takes newer versions
	@test -x .cache/lock/bin/uv || { $(PYTHON) -m venv .cache/lock && .cache/lock/bin/python -m pip install --quiet uv; }
	@.cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS) \
		--output-file requirements.lock pyproject.toml

clean: ## remove everything that was made here
	@rm -rf $(VENV) .cache .hypothesis .import_linter_cache .pytest_cache .ruff_cache build dist
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
