PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 1

# Index that torch is taken from first. TORCH_INDEX=https://download.pytorch.org/whl/cpu has wheels without CUDA.
TORCH_INDEX ?=
TORCH := $(shell grep -E '^torch(vision)?==' constraints.txt)

# The ends of the range of transformers that is supported, and the version that is tested every day.
TRANSFORMERS ?= pin
FLOOR := $(shell sed -nE 's/.*"transformers>=([0-9.]+),.*/\1/p' pyproject.toml)
SPEC_floor  := transformers~=$(FLOOR).0
SPEC_pin    := $(shell grep '^transformers==' constraints.txt)
SPEC_newest := transformers<6

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-all test-transformers test-airflow check-wheel lint format bench gpu-check clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python $(PIP) --index-url $(TORCH_INDEX) $(TORCH))
	$(BIN)/python $(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python $(PIP) --constraint constraints.txt --editable .[dev]
	@touch $@

install: $(VENV)/.installed  ## install into .venv

install-dev: $(VENV)/.installed-dev  ## install into .venv, with what tests and lint need

demo: $(VENV)/.installed  ## render a small corpus, label it on a local Ray, query the labels
	@$(BIN)/python -m jobs.demo

# Processes that run tests. Each starts its own Ray and its own S3 server, and runs whole files.
PROCESSES ?= 2

test: $(VENV)/.installed-dev  ## run the tests
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

test-all: $(VENV)/.installed-dev  ## run all tests, also those that take minutes
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile -m ''

test-transformers:  ## run the parity tests with TRANSFORMERS=floor, pin or newest (default: pin)
	$(PYTHON) -m venv build/transformers-$(TRANSFORMERS)
	grep -vE '^(transformers|tokenizers|huggingface_hub)==' constraints.txt > build/constraints.txt
	build/transformers-$(TRANSFORMERS)/bin/python $(PIP) --constraint build/constraints.txt --editable .[dev] "$(SPEC_$(TRANSFORMERS))"
	build/transformers-$(TRANSFORMERS)/bin/python -c "import transformers; print('transformers', transformers.__version__)"
	build/transformers-$(TRANSFORMERS)/bin/python -m pytest tests/tracking tests/runs/test_exactness.py

AIRFLOW ?= 3.3.2

test-airflow: $(VENV)/.installed-dev  ## load the Airflow DAG with Airflow itself, in an environment of its own (300 MB)
	$(PYTHON) -m venv build/airflow
	build/airflow/bin/python $(PIP) "apache-airflow==$(AIRFLOW)"
	AIRFLOW_PYTHON=$(CURDIR)/build/airflow/bin/python $(BIN)/python -m pytest tests/infra/test_airflow.py

check-wheel:  ## build the wheel, install it into an empty environment and run it there
	rm -rf build/wheel dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	build/wheel/bin/python $(PIP) --constraint constraints.txt dist/*.whl
	cd build/wheel && bin/sam2-corpus --version && bin/sam2-corpus demo --help > /dev/null && bin/python -m jobs.demo

lint: $(VENV)/.installed-dev  ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## print the ratios that this project claims
	@for file in tests/benchmarks/[a-z]*.py; do $(BIN)/python -m tests.benchmarks.$$(basename $$file .py) || exit 1; done

gpu-check: $(VENV)/.installed-dev  ## check a machine with a GPU in eight minutes; prints one table
	@$(BIN)/python -m tests.gpu.check

clean:  ## remove what make demo, the tests and builds made
	rm -rf demo build dist .import_linter_cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
