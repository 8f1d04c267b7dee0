# Every target does its own set-up in .venv; `make test` and `make demo` work on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.smir-installed
JOBS ?= 2
PIP = $(BIN)/python -m pip install --disable-pip-version-check -qq --constraint constraints.txt

# The tests need no GPU: the CPU build of torch spares gigabytes of CUDA libraries (and leaves the choice of Triton free).
# It is taken from pip's configured places when they have it, else from PyTorch's own index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ifeq ($(shell uname -s),Linux)
TORCH ?= torch==2.13.0+cpu
else
TORCH ?= torch==2.13.0
endif

# Chunks are small matrices: threads inside BLAS only wait for each other, above all when tests run side by side.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup demo train generate test test-all lint format check types bench clean

help:
	@echo "make demo      compile five mixers, verify them, let them predict real text"
	@echo "make train     the training examples: a language model with six mixers, digits by patches (minutes)"
	@echo "make generate  a language model generates behind texts of up to 100,000 bytes: speed and memory (minutes)"
	@echo "make test      lint, types and the test suite (under 10 minutes on 2 cores)"
	@echo "make test-all  the same with the exhaustive tests"
	@echo "make lint      ruff and mypy only;  make format  rewrites the layout"
	@echo "make bench     the benchmarks, results under benchmarks/results"

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SMIR needs Python 3.11 or newer")'
	@echo "setting up $(VENV) (once)"
	@$(PIP) setuptools wheel
	@$(PIP) '$(TORCH)' 2>/dev/null || $(PIP) --extra-index-url $(TORCH_INDEX) '$(TORCH)'
	@$(PIP) --no-build-isolation --editable '.[dev,demo,peers]'
	@touch $@

setup: $(STAMP)

demo: $(STAMP)
	@$(BIN)/python -m examples.associative_memory

train: $(STAMP)
	@$(BIN)/python -m examples.train_byte_lm
	@$(BIN)/python -m examples.train_digits_lion

generate: $(STAMP)
	@$(BIN)/python -m examples.generate

lint: check types

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -n $(JOBS) -m "not full"

test-all: lint
	$(BIN)/python -m pytest -n $(JOBS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.compile_time
	$(BIN)/python -m benchmarks.step_vs_chunked
	$(BIN)/python -m benchmarks.crossover
	$(BIN)/python -m benchmarks.cpu_peers

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
