"""A generator of two codebooks of which one direction of the stream controls the first, and nothing the second.

Frame f sounds as 80 samples at a level of its first code, then 80 at a level of its second. Row f is ``g(code 1 of frame f)`` in
dimension 0, noise that follows from the codes elsewhere; the next frame's first code is drawn from logits ``GAIN x[0] g(code)``,
the second uniformly. So the direction of dimension 0 is "loud first halves", by construction.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from musae.card import CorpusCard, GeneratorCard
from musae.corpora.track import Annotations, Clip, Note, Split, Track, Truth, Voice

CARD = GeneratorCard(
    name="steered_toy",
    summary="for tests",
    licence="CC0-1.0",
    rate=4000,
    frame_rate=25.0,
    codebooks=2,
    layers=1,
    width=8,
)
WORDS, HALF, GAIN = 16, 80, 3.0


def level(codes):
    """-1 to 1."""
    return (codes.float() - (WORDS - 1) / 2) / ((WORDS - 1) / 2)


class Toy:
    card = CARD
    revision = hashlib.sha256(b"toy").hexdigest()[:10]

    def encode(self, audio):
        halves = audio.reshape(len(audio), -1, 2, HALF).abs().amax(3)
        return (halves.mT * WORDS).long().clamp(0, WORDS - 1)

    def decode(self, codes):
        t = torch.arange(HALF) / CARD.rate
        tones = torch.stack([torch.sin(2 * torch.pi * 400 * t), torch.sin(2 * torch.pi * 1200 * t)])
        levels = (codes.mT.float() + 0.5) / WORDS
        return (levels[..., None] * tones).flatten(1)

    def times(self, frames):
        return (torch.arange(frames) + 1) / 25.0

    def stream(self, codes, layers):
        mix = torch.randn(WORDS, 7, generator=torch.Generator().manual_seed(0))
        row = torch.cat([level(codes[:, 0])[..., None], mix[codes[:, 1]]], dim=-1)
        return dict.fromkeys(layers, row)

    def visible(self, codes):
        return level(codes).mT

    def loss(self, codes, layer=None, splice=None):
        x = self.stream(codes, (1,))[1]
        logits = self._logits(x if splice is None else splice(x))[:, :-1]
        first = torch.nn.functional.cross_entropy(logits.mT, codes[:, 0, 1:], reduction="none").mean(1)
        return torch.stack([first, torch.full_like(first, np.log(WORDS))], dim=1)

    def generate(self, prompt, frames, *, seed, layer=None, splice=None):
        draw = torch.Generator().manual_seed(seed)
        codes = prompt.clone()
        for _ in range(frames):
            x = self.stream(codes[..., -1:], (1,))[1]
            p = self._logits(x if splice is None else splice(x))[:, 0].softmax(-1).double()
            uniform = torch.rand(len(codes), 2, generator=draw, dtype=torch.float64)
            first = torch.searchsorted(p.cumsum(-1), uniform[:, :1].contiguous())[:, 0].clamp_max(WORDS - 1)
            second = (uniform[:, 1] * WORDS).long()
            codes = torch.cat([codes, torch.stack([first, second], 1)[..., None]], dim=2)
        return codes

    def _logits(self, x):
        return GAIN * x[..., :1] * level(torch.arange(WORDS))


def load():
    return Toy()


class Levels:
    """A corpus of clips at random levels: tracks whose first halves (a tone near G4) are loud have an ``organ`` in them, and
    its G4 in their notes; the others have the D6 of the second halves alone."""

    card = CorpusCard(
        name="levels", summary="for tests", licence="CC0-1.0", source="made here", truth={"instruments": ("exact",)}
    )
    revision = "0123456789"
    SECONDS = 2.0

    def tracks(self, split: Split) -> Sequence[Track]:
        names = [f"{split}-{i}" for i in range(60)]
        return [
            Track(
                id=name,
                group=f"piece-{name}",
                split=split,
                licence="CC0-1.0",
                duration=self.SECONDS,
                annotations=Annotations(
                    instruments=frozenset({"organ", "piano"} if i % 2 else {"piano"}), truth={"instruments": Truth.EXACT}
                ),
                voices=(Voice(0, "piano"), Voice(16, "organ")),
                notes=(Note(0.0, self.SECONDS, 86, 90, 0), *((Note(0.0, self.SECONDS, 67, 90, 1),) if i % 2 else ())),
            )
            for i, name in enumerate(names)
        ]

    def clips(
        self, split: Split, *, seconds: float, per_track: int = 1, limit: int | None = None, seed: int = 0
    ) -> Sequence[Clip]:
        return [Clip(track, 0.0, seconds) for track in self.tracks(split)][:limit]

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[np.ndarray]:
        toy = Toy()
        for clip in clips:
            seed = int.from_bytes(hashlib.sha256(clip.track.id.encode()).digest()[:4], "big")
            frames = round(clip.duration * 25)
            codes = torch.randint(0, WORDS, (1, 2, frames), generator=torch.Generator().manual_seed(seed))
            codes[:, 0] = codes[:, 0] // 2 + (WORDS // 2) * ("organ" in clip.track.annotations.instruments)
            yield toy.decode(codes)[0].numpy()
