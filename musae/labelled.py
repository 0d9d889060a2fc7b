"""Training activations with what sounds in them: what supervised methods learn from.

Labels are the annotations of the clips' tracks, at every level of truth but `estimated`. A row's moment is the centre of the
newest frame that its step has read, as in ``tasks/chords.py``. Concepts:

- ``root``, ``majmin``, ``sevenths``: the chord, in the vocabularies of `musae.scores.mir`, N among them;
- ``key``: one of 24;
- ``tempo``: the class of the clip's tempo (`musae.tasks.tempo.CLASSES`);
- ``beat``, ``downbeat``: whether one falls within a row's period of the moment;
- ``instrument <family>``: whether it sounds in the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musae.activations.store import Store
from musae.corpora.track import Annotations, Clip, Corpus, Span, Split, Truth
from musae.errors import UserError
from musae.scores import mir
from musae.tasks import tempo

T = TypeVar("T")

READ = 64
"""Clips that are read at once."""


class LabelledStore(Store):
    """A store of training clips that hands out labels too (`musae.dictionary.LabelledSource`)."""

    def __init__(self, store: Store, corpora: Mapping[str, Corpus]) -> None:
        """`corpora`: those that the store's tokens name, which know the annotations."""
        super().__init__(store.folder, store.manifest, store.buffer_frames)
        self.corpora = corpora

    def labelled(self, n: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """At most n frames drawn without replacement, and concept -> their classes; see `musae.dictionary.LabelledSource`.

        Raises UserError for a clip whose track its corpus does not have.
        """
        rows = self.drawn(n, seed)
        clip, position = np.divmod(rows, self.manifest.frames_per_clip)
        x = torch.empty(len(rows), self.d)
        chosen = np.unique(clip)
        for start in range(0, len(chosen), READ):
            some = chosen[start : start + READ]
            (part,) = self.clips(some, batch=READ)
            at = np.flatnonzero((clip >= some[0]) & (clip <= some[-1]))
            x[at] = part[np.searchsorted(some, clip[at]), position[at]]
        return x, {concept: torch.from_numpy(classes[rows]) for concept, classes in self._labels.items()}

    def drawn(self, n: int, seed: int) -> NDArray[np.int64]:
        """Which rows `labelled` hands out, ascending."""
        n = min(n, self.frames)
        found: NDArray[np.int64] = np.sort(np.random.default_rng([seed, n]).choice(self.frames, n, replace=False))
        return found

    @cached_property
    def _labels(self) -> dict[str, NDArray[np.int64]]:
        """Concept -> class of every row."""
        annotations, moments = self._annotations(), self.times().numpy()
        period = float(moments[1] - moments[0]) if len(moments) > 1 else 0.0
        families = sorted({family for a in annotations for family in a.instruments})
        names = sorted({span.label for a in annotations for span in a.chords})
        chords = {v: dict(zip(names, mir.chord_classes(names, v).tolist(), strict=True)) for v in mir.VOCABULARIES}
        clips = [_labels(a, moments - period / 2, period, chords, families) for a in annotations]
        return {concept: np.concatenate([labels[concept] for labels in clips]) for concept in clips[0]}

    def _annotations(self) -> list[Annotations]:
        return self.of_clips(lambda clip: clip.annotations)

    def of_clips(self, what: Callable[[Clip], T]) -> list[T]:
        """Something of each clip. Corpora build tracks when they are asked for them: each is built once, and not kept.

        Raises UserError for a clip whose track its corpus does not have.
        """
        tokens, seconds, found = self.tokens, float(self.times()[-1]), dict[int, T]()
        clips: dict[tuple[str, str], list[int]] = {}
        for i, (corpus, track) in enumerate(zip(tokens.corpus, tokens.tracks, strict=True)):
            clips.setdefault((tokens.corpora[corpus], str(track)), []).append(i)
        for name, corpus in self.corpora.items():
            for track in corpus.tracks(Split.TRAIN):
                found |= {i: what(Clip(track, float(tokens.starts[i]), seconds)) for i in clips.get((name, track.id), ())}
        if len(found) < len(tokens):
            i = min(set(range(len(tokens))) - set(found))
            raise UserError(
                f"{self.folder}: clip {tokens.clips[i]} is of a track that is not in the training split of corpus "
                f"{tokens.corpora[tokens.corpus[i]]!r}; harvest again from the corpus that is installed."
            )
        return [found[i] for i in range(len(tokens))]


def _labels(
    a: Annotations,
    moments: NDArray[np.float64],
    period: float,
    classes: Mapping[str, Mapping[str, int]],
    families: Sequence[str],
) -> dict[str, NDArray[np.int64]]:
    """Classes of a clip's rows at some moments ``[T]``, every concept present, -1 where nothing is known.

    `classes`: vocabulary -> chord -> its class; `families`: all that occur.
    """
    rows, known = len(moments), {concept for concept, level in a.truth.items() if level != Truth.ESTIMATED}
    chords = _heard(a.chords if "chords" in known else (), moments)
    keys = _heard(a.keys if "key" in known else (), moments)
    out: dict[str, NDArray[np.int64]] = {}
    for vocabulary, index in classes.items():
        out[vocabulary] = np.array([index.get(name, -1) for name in chords], np.int64)
    indices = {name: mir.key_index(name) if name else -1 for name in set(keys)}
    out["key"] = np.array([indices[name] for name in keys], np.int64)
    bpm = a.tempo if "tempo" in known and a.tempo is not None else None
    out["tempo"] = np.full(rows, -1 if bpm is None else np.searchsorted(tempo.BOUNDS, bpm, "right"))
    downbeats = [t for t, p in zip(a.beats, a.beat_positions, strict=True) if p == 1] if a.beat_positions else []
    for concept, times, labelled in (("beat", a.beats, True), ("downbeat", downbeats, bool(a.beat_positions) or not a.beats)):
        near = np.abs(moments[:, None] - np.asarray(times, np.float64)[None]).min(1, initial=np.inf) <= period
        out[concept] = near.astype(np.int64) if "beats" in known and labelled else np.full(rows, -1)
    for family in families:
        observed = "instruments" in known and family not in a.unobserved
        out[f"instrument {family}"] = np.full(rows, int(family in a.instruments) if observed else -1)
    return out


def _heard(spans: Sequence[Span], moments: NDArray[np.float64]) -> list[str]:
    """The label of the span that holds at each moment; empty where none does."""
    if not spans:
        return [""] * len(moments)
    at = np.searchsorted([span.start for span in spans], moments, "right") - 1
    return [spans[i].label if i >= 0 and moment < spans[i].end else "" for i, moment in zip(at, moments, strict=True)]
