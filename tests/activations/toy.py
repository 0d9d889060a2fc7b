"""A corpus and a generator small enough that every test takes milliseconds, and whose numbers can be told by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musae.activations.tokens import Tokens
from musae.card import CorpusCard, GeneratorCard
from musae.corpora.track import Annotations, Clip, Split, Track

RATE, HOP, CODEBOOKS, D = 1000, 40, 2, 8


class FakeCorpus:
    """Clip i of track i is the constant i / 1,000, half a second long."""

    card = CorpusCard(name="fake", summary="constants", licence="none", source="this test", truth={})
    revision = "c0ffee0001"

    def __init__(self) -> None:
        self.rendered: list[str] = []

    def tracks(self, split: Split) -> Sequence[Track]:
        return [Track(f"t{i:03d}", f"g{i // 2}", split, "none", 5.0, Annotations()) for i in range(300)]

    def clips(
        self, split: Split, *, seconds: float, per_track: int = 1, limit: int | None = None, seed: int = 0
    ) -> Sequence[Clip]:
        return [Clip(track, 0.25, seconds) for track in self.tracks(split)[:limit]]

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[NDArray[np.float32]]:
        for clip in clips:
            self.rendered.append(clip.id)
            yield np.full(round(clip.duration * rate), int(clip.track.id[1:]) / 1000, np.float32)


class FakeGenerator:
    """A frame's codes are 1,000 x its audio and the frame's number; x[f] = (code 0, code 1, layer, 1/3, ...)."""

    card = GeneratorCard(
        name="toy", summary="toy", licence="none", rate=RATE, frame_rate=RATE / HOP, codebooks=CODEBOOKS, width=D, layers=3
    )

    def __init__(self, revision: str = "abad1dea00") -> None:
        self.revision = revision
        self.codec_revision = "c0dec00000"
        self.calls: list[tuple[int, tuple[int, ...]]] = []
        self.fail_after: int | None = None

    def encode(self, audio: Tensor) -> Tensor:
        frames = audio.unfold(1, HOP, HOP).mean(2)
        value = (frames * 1000).round().long()
        return torch.stack([value, torch.arange(frames.shape[1]).expand_as(value)], 1)

    def times(self, frames: int) -> Tensor:
        return torch.arange(1, frames + 1) * HOP / RATE

    def stream(self, codes: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise RuntimeError("power cut")
        self.calls.append((len(codes), layers))
        x = torch.full((codes.shape[0], codes.shape[2], D), 1 / 3)
        x[..., :2] = codes.transpose(1, 2).float()
        return {layer: x.index_fill(2, torch.tensor([2]), float(layer)) for layer in layers}


def make_tokens(n: int, frames: int = 12) -> Tokens:
    """n clips whose codebook 0 is the clip's number and codebook 1 the frame's."""
    codes = np.empty((n, CODEBOOKS, frames), np.uint16)
    codes[:, 0], codes[:, 1] = np.arange(n)[:, None], np.arange(frames)
    return Tokens(
        codes=codes,
        clips=np.array([f"t{i:03d}@00000250" for i in range(n)]),
        tracks=np.array([f"t{i:03d}" for i in range(n)]),
        groups=np.array([f"g{i // 2}" for i in range(n)]),
        starts=np.full(n, 0.25),
        corpus=np.zeros(n, np.uint8),
        corpora=("fake",),
        revisions=("c0ffee0001",),
        generator="toy",
        codec="c0dec00000",
    )
