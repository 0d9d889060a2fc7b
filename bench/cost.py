"""The cost model held against small runs: seconds and bytes that `musae.cost` predicts, and what the runs then took.

Runs are the embedded generator's harvest, blocks of musicgen-small's size with random weights, and a training of `topk`. The
machine's peak is measured before each round, as a dry run measures it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from musae import cost
from musae.activations.harvest import estimate, harvest
from musae.bench.harvest import CLIPS as MUSICGEN_CLIPS
from musae.bench.harvest import FRAMES, LAYERS, Contest
from musae.bench.rounds import Estimate, median, ratio
from musae.bench.rows import BenchRow, estimated
from musae.dictionary import TensorFrames
from musae.generators import nano
from musae.methods.topk import Topk

CLIPS = 64
"""Clips of nano that are harvested in a round."""
TRAINED = 128
"""Clips of nano that the dictionary is trained on."""
LAYER, WIDTH, K = 5, 2048, 32


class Runs:
    """Predictions and measurements of each subject, a pair a round."""

    def __init__(self, root: Path) -> None:
        """`root`: of `musae bench harvest`, whose checkpoint is used."""
        self.root = root
        self.nano = nano.load()
        self.musicgen = Contest(root)
        self.subjects: dict[str, Callable[[int], cost.Work]] = {
            "nano": self._nano,
            "musicgen-small": self._musicgen,
            "topk": self._topk,
        }
        self.seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in self.subjects}
        """Measured and predicted."""
        self.bytes = 0, 0
        """Found on disk and predicted, of nano's harvest."""

    def run(self, rounds: int, told: Callable[[int, int], None]) -> None:
        """`told` of (rounds done, rounds in all); one more warms up."""
        for number in range(-1, rounds):
            device = cost.this_machine()
            for name, do in self.subjects.items():
                begun = time.perf_counter()
                work = do(number + 1)
                taken = time.perf_counter() - begun
                if number >= 0:
                    self.seconds[name][0].append(taken)
                    self.seconds[name][1].append(device.hours(work) * 3600)
            if number >= 0:
                told(number + 1, rounds)

    def _nano(self, number: int) -> cost.Work:
        tokens = nano.training_tokens().take(slice(CLIPS))
        folder = self.root / "nano"
        shutil.rmtree(folder, ignore_errors=True)
        harvest(self.nano, tokens, (LAYER,), folder)
        found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self.bytes = found, estimate(CLIPS, tokens.frames, self.nano.card.width, 1)
        return cost.forward(self.nano.card, LAYER, CLIPS, tokens.frames)

    def _musicgen(self, number: int) -> cost.Work:
        self.musicgen.once(number)
        return cost.forward(self.musicgen.generator.card, max(LAYERS), MUSICGEN_CLIPS, FRAMES)

    def _topk(self, number: int) -> cost.Work:
        method = Topk(WIDTH, K)
        method.fit(self._frames)
        return cost.training(self._frames.d, WIDTH, K, self._frames.frames, method.recipe.batch_size)

    @cached_property
    def _frames(self) -> TensorFrames:
        tokens = nano.training_tokens().take(slice(TRAINED))
        with torch.inference_mode():
            x = self.nano.stream(tokens.tensor(), (LAYER,))[LAYER]
        return TensorFrames(x.flatten(0, 1).clone())


def rows(found: Runs, threads: int) -> list[BenchRow]:
    """Rows of what runs took over what was predicted, and of both."""
    case: dict[str, int | str] = {"threads": threads, "efficiency": f"{cost.EFFICIENCY}"}
    made = []
    for name, (measured, predicted) in found.seconds.items():
        made.append(estimated(name, case, "time_ratio", "", ratio(measured, predicted), "derived"))
        made.append(estimated(name, case, "seconds", "s", median(measured), "measured"))
        made.append(estimated(name, case, "predicted_s", "s", median(predicted), "derived"))
    on_disk, estimated_size = found.bytes
    bytes_ratio = Estimate(on_disk / estimated_size, None, None, 1)
    return [*made, estimated("nano", case, "bytes_ratio", "", bytes_ratio, "derived")]
