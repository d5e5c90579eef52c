# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
#
#   make demo     install, train, evaluate, export, explain, report
#   make test     install, run the tests               (PYTEST_ARGS="-q tests/test_packaging.py" for some of them)
#   make check    lint and types
#   make clean    remove the environment, caches and build outputs (never runs/)
#
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch from PyTorch's CPU-only index (no CUDA download).

PYTHON ?= python3
TORCH_INDEX ?=
PYTEST_ARGS ?= -n auto --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint types check clean

setup: $(STAMP)

# torch goes in first and from its own index when one is named. --no-deps there: that index holds only some of torch's
# dependencies, at other versions than ours; the second install brings the pinned ones.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "glasspool needs Python 3.11 or newer; name one with make PYTHON=python3.11 setup" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) torch
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/glasspool demo

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/python -m ruff check .

types: setup
	scripts/typecheck.sh

check: lint types

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
