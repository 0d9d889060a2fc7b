"""Where kernels can run in this process: which paths, on which devices."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch

from musae.kernels import dispatch


@dataclass(frozen=True)
class Place:
    path: str
    device: torch.device

    def __str__(self) -> str:
        return f"{self.path}-{self.device.type}"

    def computes(self, dtype: torch.dtype) -> bool:
        """Whether this path has code of its own for a dtype."""
        return {
            "portable": True,
            "extension": dtype == torch.float32,
            "triton": dtype != torch.float64,
        }[self.path]

    @contextmanager
    def taken(self) -> Iterator[None]:
        with dispatch.forced(self.path):
            yield


def _paths() -> list[Place]:
    cpu = torch.device("cpu")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return [Place("triton", cpu)]
    found = [Place("portable", cpu)]
    if dispatch._extension()[0]:
        found.append(Place("extension", cpu))
    if torch.cuda.is_available():
        found += [Place("triton", torch.device("cuda")), Place("portable", torch.device("cuda"))]
    return found


PATHS = _paths()


@pytest.fixture(params=PATHS, ids=str)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each path that can run here, taken for the length of the test."""
    with request.param.taken():
        yield request.param


@pytest.fixture
def seed() -> int:
    """A new one for each run; failures say which it was."""
    return secrets.randbelow(2**31)
