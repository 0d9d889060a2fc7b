"""Every method of this package passes the suite that third parties run, and the suite can fail."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Self

import pytest
import torch
from torch import Tensor

from musae import registry
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode, TensorFrames
from musae.methods import codec_step, pca
from musae.methods.codec_step import CodecStep
from musae.methods.pca import Pca
from musae.methods.random import Random
from musae.testing import check_card, check_feature_set, check_method, check_seed, method_checks, sample_frames

NAMES = [name for name in registry.entries("methods") if "/" not in name]
FITTED = [name for name in NAMES if registry.find("methods", name).card.fitted]
"""Without what is read from checkpoints: tests/formats tries that."""


@pytest.mark.parametrize("name", FITTED)
def test_method_conforms(name: str) -> None:
    check_method(registry.load("methods", name).METHOD)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_class_agree(name: str) -> None:
    check_card(registry.load("methods", name))
    check_seed(registry.load("methods", name))


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (SimpleNamespace(CARD=pca.CARD, METHOD=Random), "named 'random'"),
        (SimpleNamespace(CARD=pca.CARD, METHOD=Pca()), "must be a subclass"),
        (SimpleNamespace(CARD=pca.CARD.model_copy(update={"features": "residual"}), METHOD=Pca), "only for one"),
        (SimpleNamespace(CARD=pca.CARD.model_copy(update={"seeded": True}), METHOD=Pca), "seeded"),
        (SimpleNamespace(CARD=codec_step.CARD.model_copy(update={"role": "control"}), METHOD=CodecStep), "is a baseline"),
    ],
)
def test_a_card_that_does_not_agree_is_noticed(module: ModuleType, says: str) -> None:
    check = check_seed if says == "seeded" else check_card
    with pytest.raises(AssertionError, match=says):
        check(module)


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


def test_a_fitted_dictionary_is_tried_as_it_is() -> None:
    dictionary = Pca(width=6, k=2).fit(TensorFrames(sample_frames(columns=10)))
    before = dictionary.content_hash
    check_method(dictionary)
    assert dictionary.content_hash == before
    assert all("fit" not in check.name for check in method_checks(dictionary))
    dictionary.tensors["W_dec"][2, 3] = torch.nan
    with pytest.raises(AssertionError, match=r"W_dec.*finite"):
        check_method(dictionary)


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
