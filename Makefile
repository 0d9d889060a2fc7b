# Every target makes its own virtual environment in .venv; nothing else needs to be installed but Python 3.11, 3.12 or 3.13.
#   make leaderboard   the main job: train, score and rank dictionaries of the embedded generator
#   make test          lint, types and tests
#   make test-slow     longer checks of what the embedded generator knows, and of the benches
#   make test-triton   the kernels' tests on Triton kernels, interpreted where there is no GPU (part of make test)
PYTHON ?= python3
VENV ?= .venv
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install leaderboard test test-triton test-slow bench bench-compile peers bench-peers ci-proof lint format clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "musae needs Python 3.11 to 3.13, and '$(PYTHON)' is another: run make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

leaderboard: $(INSTALLED)
	$(VENV)/bin/musae run --suite quick

# mypy does not follow setuptools' package-dir: build/types shows it the package as it is installed.
lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@rm -rf build/types && mkdir -p build/types/musae
	@ln -s $(CURDIR)/musae/* $(CURDIR)/tasks $(CURDIR)/leaderboard $(CURDIR)/bench build/types/musae/
	$(VENV)/bin/mypy

test: lint test-triton
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile

# Triton decides whether to interpret when it is imported: a run of its own.
test-triton: $(INSTALLED)
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 tests/kernels

test-slow: $(INSTALLED)
	$(VENV)/bin/pytest -m slow -s

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
