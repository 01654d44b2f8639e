PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format bench clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .[dev]
	@touch $@

install: $(VENV)/.installed  ## install into .venv

demo: $(VENV)/.installed  ## render a small corpus, label it on a local Ray, query the labels
	@$(BIN)/python -m jobs.demo

test: $(VENV)/.installed-dev  ## run the tests
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-dev  ## run the tests that take minutes, too
	$(BIN)/python -m pytest -m ''

lint: $(VENV)/.installed-dev  ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## print the ratios this project claims
	@for file in tests/benchmarks/[a-z]*.py; do $(BIN)/python -m tests.benchmarks.$$(basename $$file .py) || exit 1; done

clean:  ## remove what make demo and the tests made
	rm -rf demo .import_linter_cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
