"""Pre-training data: tracks -> features on disk -> codec -> codes, in stages that resume; and the counts that a model must beat.

Features are stored as float16, in chunks of about half an hour of audio, under the corpus's revision and the codec's version of
its analysis: an interrupted rendering goes on at its last chunk, and a later run with more hours renders only what is new.
Memory: one chunk, or the sample that the codec is fitted on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from musae.corpora.track import Clip, Corpus, Split, Track
from musae.files import atomic_path
from musae.generators.nano import codec as codecs
from musae.generators.nano.codec import Codec

CHUNK_SECONDS = 1800.0


@dataclass(frozen=True)
class Tracks:
    """Codes of whole tracks, end to end: int16 ``[F, K]``; track i is rows ``bounds[i]`` to ``bounds[i + 1]``."""

    codes: Tensor
    bounds: Tensor
    ids: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def lengths(self) -> Tensor:
        """Frames of each track, int64 ``[N]``."""
        return self.bounds.diff()

    def crops(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows at which `count` crops of `frames` start, uniformly over all crops that lie in one track; and their tracks."""
        room = (self.lengths - frames + 1).clamp_min(0)
        ends = room.cumsum(0)
        drawn = torch.randint(int(ends[-1]), (count,), generator=generator)
        track = torch.searchsorted(ends, drawn, right=True)
        return self.bounds[track] + drawn - (ends - room)[track], track

    def windows(self, frames: int) -> Tensor:
        """First rows of the non-overlapping windows of `frames` in each track."""
        return torch.cat([torch.arange(int(a), int(b) - frames + 1, frames) for a, b in self.bounds.unfold(0, 2, 1)])

    def cut(self, rows: Tensor, frames: int) -> Tensor:
        """Codes int64 ``[n, K, frames]`` from the given first rows."""
        return self.codes[rows[:, None] + torch.arange(frames)].long().mT


def choose(tracks: Sequence[Track], hours: float | None, seed: int) -> list[Track]:
    """Tracks in a seeded order, as many as make up `hours` (all when None): fewer hours are a prefix of more."""
    order = list(tracks)
    random.Random(seed).shuffle(order)
    if hours is None:
        return order
    seconds = np.cumsum([track.duration for track in order])
    return order[: int(np.searchsorted(seconds, hours * 3600)) + 1]


def chunks(tracks: Sequence[Track]) -> Iterator[tuple[int, int]]:
    """Index ranges [first, last) of about `CHUNK_SECONDS` of audio each."""
    first, seconds = 0, 0.0
    for i, track in enumerate(tracks):
        seconds += track.duration
        if seconds >= CHUNK_SECONDS or i == len(tracks) - 1:
            yield first, i + 1
            first, seconds = i + 1, 0.0


def analyse(
    corpus: Corpus,
    split: Split,
    hours: float | None,
    folder: Path,
    *,
    seed: int,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> list[Path] | None:
    """Render tracks of a split and store their features; returns the chunks' files, or None when `stop` said so midway."""
    tracks = choose(corpus.tracks(split), hours, seed)
    home = folder / f"{corpus.card.name}-{corpus.revision}-{codecs.ANALYSIS}-{seed}"
    files = []
    for first, last in chunks(tracks):
        files.append(home / f"{split}-{first:05d}-{last:05d}.safetensors")
        if files[-1].is_file():
            continue
        part = tracks[first:last]
        if stop():
            return None
        audio = corpus.audio([Clip(track, 0.0, track.duration) for track in part], codecs.RATE)
        with one_thread():
            found = [codecs.features(torch.from_numpy(wave)).half() for wave in audio]
        tensors = {"features": torch.cat(found), "lengths": torch.tensor([len(f) for f in found])}
        header = {"ids": json.dumps([t.id for t in part]), "groups": json.dumps([t.group for t in part])}
        with atomic_path(files[-1]) as temporary:
            save_file(tensors, temporary, metadata=header)
        hours_done = sum(t.duration for t in tracks[:last]) / 3600
        say(f"rendered {corpus.card.name} {split}: {hours_done:.2f} h, {last} of {len(tracks)} tracks")
    return files


def sample(files: Sequence[Path], frames: int, seed: int) -> Tensor:
    """About `frames` rows drawn from all chunks alike, float16 ``[F, 88]``."""
    generator = torch.Generator().manual_seed(seed)
    rows = [int(_read(file)[1].sum()) for file in files]
    share = min(1.0, frames / sum(rows))
    return torch.cat(
        [
            _read(file)[0][torch.randperm(count, generator=generator)[: max(1, round(share * count))]]
            for file, count in zip(files, rows, strict=True)
        ]
    )


def encode(files: Sequence[Path], codec: Codec) -> Tracks:
    """Quantise all chunks."""
    codes, lengths, ids, groups = [], [], [], []
    for file in files:
        found, length, header = _read(file)
        codes.append(codec.quantise(found).to(torch.int16))
        lengths.append(length)
        ids += json.loads(header["ids"])
        groups += json.loads(header["groups"])
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(lengths).cumsum(0)])
    return Tracks(torch.cat(codes), bounds, tuple(ids), tuple(groups))


def join(parts: Sequence[Tracks]) -> Tracks:
    """Several corpora as one."""
    lengths = torch.cat([part.lengths for part in parts])
    return Tracks(
        torch.cat([part.codes for part in parts]),
        torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        tuple(i for part in parts for i in part.ids),
        tuple(g for part in parts for g in part.groups),
    )


def baselines(train: Tracks, heldout: Tracks, frames: int, codewords: int) -> dict[str, list[float]]:
    """Nats per codebook of unigrams and bigrams counted on `train`, on windows of `heldout` from their second frame on.

    The bigram predicts a codebook's next code from its last, backing off to the unigram by a Dirichlet prior whose strength is
    the best of four on the held-out codes themselves: the baseline is given its best chance.
    """
    scores: dict[str, list[float]] = {"unigram": [], "bigram": []}
    seen = heldout.cut(heldout.windows(frames), frames)
    inside = torch.ones(len(train.codes), dtype=torch.bool)
    inside[train.bounds[:-1]] = False
    after = inside.nonzero()[:, 0]
    for j in range(train.codes.shape[1]):
        codes = train.codes[:, j].long()
        unigram = torch.bincount(codes, minlength=codewords).double() + 1
        unigram /= unigram.sum()
        pairs = (
            torch.bincount(codes[after - 1] * codewords + codes[after], minlength=codewords**2)
            .double()
            .view(codewords, codewords)
        )
        last, following = seen[:, j, :-1].flatten(), seen[:, j, 1:].flatten()
        scores["unigram"].append(-unigram[following].log().mean().item())
        total = pairs.sum(1)
        scores["bigram"].append(
            min(
                -((pairs[last, following] + prior * unigram[following]) / (total[last] + prior)).log().mean().item()
                for prior in (3.0, 10.0, 30.0, 100.0)
            )
        )
    return scores


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: beside processes that render on every core, two threads wait for each other 10x longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _read(file: Path) -> tuple[Tensor, Tensor, dict[str, str]]:
    """Features, lengths and header of a chunk."""
    with safe_open(file, "pt") as reader:
        return reader.get_tensor("features"), reader.get_tensor("lengths"), reader.metadata()
