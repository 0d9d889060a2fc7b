"""Every method of this package passes the suite that third parties run, and the suite can fail."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest
import torch
from torch import Tensor

from musae import registry
from musae.dictionary import Dictionary, FeatureSet, FrameSource, Report, SparseCode, TensorFrames
from musae.methods.codec_step import CodecStep
from musae.methods.pca import Pca
from musae.methods.random import Random
from musae.testing import check_feature_set, check_method, sample_frames

NAMES = [name for name in registry.entries("methods") if "/" not in name]
FITTED = [name for name in NAMES if registry.find("methods", name).card.fitted]
"""Without what is read from checkpoints: tests/formats tries that."""


@pytest.mark.parametrize("name", FITTED)
def test_method_conforms(name: str) -> None:
    check_method(registry.load("methods", name).METHOD)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_class_agree(name: str) -> None:
    module = registry.load("methods", name)
    assert issubclass(module.METHOD, FeatureSet)
    assert module.METHOD.name == module.CARD.name == name
    assert (module.CARD.features == "latents") == issubclass(module.METHOD, Dictionary)


@pytest.mark.parametrize("name", [n for n in FITTED if issubclass(registry.load("methods", n).METHOD, Dictionary)])
def test_seeds_matter_exactly_where_the_card_says(name: str) -> None:
    module = registry.load("methods", name)
    x = sample_frames()
    atoms = [module.METHOD(width=24, k=3, seed=seed).fit(TensorFrames(x)).atoms for seed in (1, 2)]
    assert torch.allclose(*atoms, atol=1e-4) != module.CARD.seeded


def test_an_instance_is_tried_with_its_own_hyper_parameters() -> None:
    check_method(Random(width=30, k=5, seed=9, frames=300))


class Restless(Pca):
    """Depends on the batch."""

    def encode(self, x: Tensor) -> SparseCode:
        code = super().encode(x)
        return SparseCode(code.values * len(x), code.indices, code.offsets, code.width)


class Unsorted(Pca):
    def encode(self, x: Tensor) -> SparseCode:
        code = super().encode(x)
        return SparseCode(code.values.flip(0), code.indices.flip(0), code.offsets, code.width)


class Drifting(Random):
    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        super().fit(frames)
        self.tensors["b_dec"] += 1e-3 * torch.rand(frames.d)
        return self


class Forgetful(Pca):
    def __init__(self, width: int = 8, k: int = 2, seed: int = 0) -> None:
        super().__init__(width, k + 1, seed)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Restless, "neighbours"),
        (Unsorted, "ascend"),
        (Drifting, "two fits with one seed differ"),
        (Forgetful, "unchanged"),
    ],
)
def test_the_suite_can_fail(broken: type[Dictionary], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_method(broken)


class LookAhead(CodecStep):
    def encode(self, x: Tensor) -> Tensor:
        return self.checked(x).roll(-1, 0)


def test_looking_ahead_is_noticed() -> None:
    with pytest.raises(AssertionError, match="later rows"):
        check_feature_set(LookAhead(6))
