"""Methods with a state of their own resume bit for bit, sequences included."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from musae.dictionary import TensorFrames
from musae.methods.batch_topk import BatchTopk
from musae.methods.matching_pursuit import MatchingPursuit
from musae.methods.matryoshka import Matryoshka
from musae.methods.temporal import Temporal
from musae.testing import sample_frames
from musae.training import GradientMethod

SMALL = {"width": 32, "k": 3, "batch_size": 50, "epochs": 2, "dead_after": 0.05}


class Cut(TensorFrames):
    """A power cut in the 28th batch."""

    def batches(self, *a: int, start_step: int = 0, **b: int) -> Iterator[Tensor]:
        return self._until(super().batches(*a, start_step=start_step, **b))

    def sequences(self, *a: int, start_step: int = 0, **b: int) -> Iterator[Tensor]:
        return self._until(super().sequences(*a, start_step=start_step, **b))

    def _until(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        for step, x in enumerate(batches):
            if step == 27:
                raise RuntimeError("power cut")
            yield x


@pytest.mark.parametrize("method", [BatchTopk, Matryoshka, MatchingPursuit, Temporal])
def test_a_resumed_training_equals_an_uninterrupted_one(method: type[GradientMethod], tmp_path: Path) -> None:
    x = sample_frames(1000)
    whole = method(**SMALL).fit(TensorFrames(x, "sample", 8))
    with pytest.raises(RuntimeError, match="power cut"):
        method(**SMALL).fit(Cut(x, "sample", 8), folder=tmp_path)
    resumed = method(**SMALL).fit(TensorFrames(x, "sample", 8), folder=tmp_path)
    assert resumed.content_hash == whole.content_hash
    assert all(torch.equal(resumed.buffers[name], buffer) for name, buffer in whole.buffers.items())
