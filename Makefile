# Everything a newcomer types. Needs Python 3.11 or newer with pip and venv, and make; the rest goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/.installed
# An interpreter of one's own choice: make PYTHON=/path/to/python3.12 venv
PYTHON ?=

.PHONY: help venv test test-runners test-slurm check docs guards fuzz soak oldest browser newcomer demo bench bench-compare clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make .venv with everything that development needs.

$(STAMP): pyproject.toml constraints.txt
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  if "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then echo "make: no Python 3.11 or newer with venv was found; set PYTHON=" >&2; exit 1; fi; \
	if ! $(BIN)/python -c '' 2>/dev/null; then echo "$$python -m venv .venv"; "$$python" -m venv --clear .venv; fi
	@echo "Installing into .venv: a minute or two, the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[workflows]' || \
	  echo "make: workflows/counts is not tested here: one of its tools needs a C compiler and zlib's headers" >&2
	@touch $@

test: venv ## Install, then lint, types, all tests, coverage (core: every branch).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n 2 --cov=hydraflow.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 \
	  tests/core tests/simulation
	$(BIN)/pytest -q -n 3 --dist loadgroup --ignore=tests/core --ignore=tests/simulation --ignore=tests/soak \
	  --ignore=tests/runners --ignore=tests/slurm --ignore=tests/browser --ignore=tests/newcomer

test-runners: venv ## The Prefect flows on Dask and Ray, which it installs: another 300 MB.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[runners]'
	$(BIN)/pytest -q -s tests/runners

test-slurm: venv ## Snakemake's jobs on a real Slurm of one node, which has to be installed (apt-get install slurm-wlm munge).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[slurm]'
	$(BIN)/pytest -q -s tests/slurm

check: venv ## The fast gates only: lint and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: venv ## Build the documentation into site/, reference included; a link that leads nowhere is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

# Which guards: make guards ONLY=tls-cut,busy
ONLY ?=

guards: venv ## Take each guard of docs/failure-modes.md away, and see its tests fail (ONLY=NAME,…).
	$(BIN)/python -m tests.guards '$(ONLY)'

# How long, and what: make fuzz MINUTES=1 TARGETS="headers sidecars"
MINUTES ?= 10
TARGETS ?=

fuzz: venv ## Spoilt samples for each parser of strangers' bytes (MINUTES=10 each, two at a time, TARGETS=).
	$(BIN)/python -m tests.fuzz '$(MINUTES)' $(TARGETS)

soak: venv ## The long runs, half an hour: outages as in real life, fifty kills, 1,000 power cuts, 300 links; prints figures.
	$(BIN)/pytest -q -s tests/soak
	HYDRAFLOW_TEST_RUNS=1000 $(BIN)/pytest -q -s tests/crash/test_power_cut.py
	LINKS=300 $(BIN)/pytest -q -s tests/simulation/test_links.py

browser: venv ## What only a browser can tell of the report's page, in a headless Chromium that pip brings (250 MB).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/pytest -q tests/browser

newcomer: venv ## README's first steps, word for word: in a clone, a new environment and an empty home.
	$(BIN)/pytest -q tests/newcomer

oldest: venv ## Run the Snakemake tests on the oldest Snakemake that is supported, in .venv-oldest.
	$(BIN)/python -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' \
	  'snakemake==9.19.0' 'snakemake-interface-storage-plugins==4.4.1'
	.venv-oldest/bin/python -m pytest -q tests/integrations/snakemake

demo: venv ## Fetch, verify and stream 200 MB from a real nginx, in the shell, Snakemake and Prefect.
	@$(BIN)/python -m workflows.demo

# What to measure: make bench ROUNDS=9 SIZE=4GiB SUITES=file-plain,file-tls CLIENTS=curl,aria2,hydraflow
ROUNDS ?= 5
SIZE ?= 2GiB
SUITES ?=
CLIENTS ?=
OLD ?=

bench: venv ## Measure hydraflow against its peers, some 20 minutes (ROUNDS=5 SIZE=2GiB SUITES= CLIENTS=).
	$(BIN)/python -m benchmarks --rounds '$(ROUNDS)' --size '$(SIZE)' --suites '$(SUITES)' --clients '$(CLIENTS)'

bench-compare: venv ## Measure this tree against another revision (OLD=REV, and ROUNDS, SIZE, SUITES).
	@if [ -z '$(OLD)' ]; then echo "make: set OLD= to a revision, say: make bench-compare OLD=HEAD~1" >&2; exit 1; fi
	$(BIN)/python -m benchmarks --compare '$(OLD)' --rounds '$(ROUNDS)' --size '$(SIZE)' --suites '$(SUITES)'

clean: ## Remove .venv, the data of demo and benchmarks, caches and build results.
	rm -rf .venv .venv-oldest .demo site benchmarks/work .mypy_cache .pytest_cache .ruff_cache .hypothesis .snakemake .coverage .coverage.* htmlcov dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
