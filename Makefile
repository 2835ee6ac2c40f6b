# Everything that the project does from a fresh clone. Needs python3 (>= 3.11) and a package index; the rest goes to .venv/.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup test demo lint types bench peers clean

help:            ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with abmail and all that its tests need

$(STAMP): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "abmail needs Python 3.11 or newer; run: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python3 lacks its venv module (on Debian: apt-get install python3-venv)"; rm -rf .venv; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt --editable '.[all]'
	@touch $@

test: setup      ## lint, types, tests, docs examples, the example definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal
	$(BIN)/abmail check experiments/

demo: setup      ## a whole experiment in about a minute
	$(BIN)/abmail demo --output demo

lint: setup      ## style only
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup     ## types only
	$(BIN)/mypy

bench: setup     ## every benchmark; takes a while
	for name in assign check regret segments factorial contextual chain sending ledger kill; do $(BIN)/python -m benchmarks.$$name || exit 1; done

peers:           ## speed and agreement beside other packages, in .venv-peers
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements-peers.txt --editable .
	.venv-peers/bin/python -m benchmarks.peers
	OPENBLAS_NUM_THREADS=1 .venv-peers/bin/python -m benchmarks.compare
	.venv-peers/bin/python -m benchmarks.assign
	.venv-peers/bin/python -m benchmarks.regret --replications 20

clean:           ## remove what the other targets made
	rm -rf .venv .venv-peers demo .mypy_cache .pytest_cache .ruff_cache
