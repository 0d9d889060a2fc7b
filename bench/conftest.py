"""Settings that every bench shares: ``pytest bench --benchmark-only``, which is `make bench`."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one thread, as in every published figure

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def device() -> torch.device:
    """Where benches compute."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
