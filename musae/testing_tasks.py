"""Conformance suite of a task, for third parties too: ``musae.testing_tasks.check_task(my_module)``.

It runs the task on a small synthetic corpus: once on features that hold every label (planted), once on features that
know which piece they come from and nothing else, once on the raw stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import cast

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from musae.card import TaskCard
from musae.conformance import Check, run
from musae.corpora.track import Annotations, Clip, Span, Split, Track, Truth
from musae.dictionary import Dictionary, SparseCode
from musae.generators.generator import Generator, Splice
from musae.scores.heldout import Features, HeldOut
from musae.scores.mir import TONICS
from musae.scores.score import CHANCE, PERMUTED, Score
from musae.scores.spread import resampling_plan

FRAMES = 32
"""Frames of a clip."""

PERIOD = 0.1
"""Seconds of a frame."""

KEYS = ("C major", "G major", "F# major", "A minor", "D minor")
FAMILIES = ("organ", "piano", "strings")


def synthetic_heldout(pieces: int = 60, clips: int = 2, noise: float = 0.2, seed: int = 0) -> HeldOut:
    """A corpus of `pieces` with `clips` clips each, whose labels are drawn at random: four chords, a key, a tempo, families.

    Columns of the stream: one for each major and minor chord (24), key (5), the log-tempo, one for each family (3), four of
    nothing; 1 where the label holds, under Gaussian noise. Every third piece is annotated, the others exact; every ninth clip has
    two keys, and every eighth chord is none. The first key is an attribute too.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(pieces), clips)
    times = (np.arange(FRAMES) + 1) * PERIOD
    made, x = [], np.zeros((len(groups), FRAMES, 37), np.float32)
    for i, group in enumerate(groups):
        roots, minor = rng.integers(0, 12, 4), rng.integers(0, 2, 4)
        tempo, keys = float(rng.uniform(60, 180)), rng.permutation(len(KEYS))[: 1 + (i % 9 == 0)]
        families = rng.random(len(FAMILIES)) < 0.5
        names = [f"{TONICS[r]}:{('maj', 'min')[m]}" for r, m in zip(roots, minor, strict=True)]
        if i % 2:
            names[i % 4] = "N"
        third = np.arange(FRAMES) * 4 // FRAMES
        x[i, np.arange(FRAMES), (roots + 12 * minor)[third]] = np.array([n != "N" for n in names])[third]
        x[i, :, 24 + keys] = 1
        x[i, :, 29] = np.log2(tempo) - 6
        x[i, :, 30:33] = families
        level = Truth.EXACT if group % 3 else Truth.ANNOTATED
        seconds = FRAMES * PERIOD
        labels = Annotations(
            chords=_spans(names, seconds),
            keys=_spans([KEYS[k] for k in keys], seconds),
            tempo=tempo,
            instruments=frozenset(f for f, on in zip(FAMILIES, families, strict=True) if on),
            truth=dict.fromkeys(("chords", "key", "tempo", "instruments"), level),
            attributes={"concept": "keys", "first": KEYS[keys[0]], "chords": "four"},
        )
        track = Track(f"track{i}", f"piece{group}", Split.HELDOUT, "CC0-1.0", seconds, labels)
        made.append(Clip(track, 0.0, seconds))
    x += rng.normal(0, noise, x.shape).astype(np.float32)
    codes = rng.integers(0, 1000, (len(groups), 2, FRAMES))
    return HeldOut(
        corpus="synthetic",
        corpus_revision=f"synthetic{seed}",
        clips=made,
        x=x,
        codes=codes,
        times=times.astype(np.float64),
        groups=groups,
        folds=groups % 5,
        plan=resampling_plan(f"synthetic{seed}", pieces, 200),
        mean=x.mean((0, 1)),
        position_means=x.mean(0),
        generator=cast(Generator, DistanceGenerator(codes, x)),
        layer=1,
    )


def planted_features(data: HeldOut) -> Features:
    """The stream's positive part as a sparse code, with the dictionary that makes it."""
    dictionary = Rectifier(data.x.shape[2])
    code = dictionary.encode(torch.from_numpy(data.x).flatten(0, 1)).to_scipy()
    return Features("latents", code, _clip_means(code, data), dictionary=dictionary)


def stream_features(data: HeldOut) -> Features:
    """The raw stream, a dense baseline without a dictionary, on the rows that frame probes use."""
    return Features("residual", data.x.reshape(-1, data.x.shape[2])[data.probe_rows], data.x.mean(1), data.probe_rows)


def piece_features(data: HeldOut, seed: int = 1) -> Features:
    """A sparse code that knows which piece it comes from and nothing else: one latent a piece, and 40 of noise."""
    piece = np.eye(data.pieces, dtype=np.float32)[np.repeat(data.groups, data.x.shape[1])]
    noise = np.maximum(np.random.default_rng(seed).normal(-1, 1, (len(piece), 40)), 0).astype(np.float32)
    code = scipy.sparse.csr_array(np.hstack([piece, noise]))
    return Features("latents", code, _clip_means(code, data))


def check_task(module: ModuleType) -> None:
    """Raise AssertionError, naming what is wrong, unless a task keeps its contract.

    For the dictionary and for the baseline, every main metric has a score with its interval and replicates, or is unscored with
    a reason; rows are told apart by their fields; a second call gives the same. Where there are labels, planted features beat
    chance on every main metric, and neither permuted labels nor features that only know the piece come near them.
    """
    run(task_checks(module))


def task_checks(module: ModuleType) -> list[Check]:
    """The checks of `check_task`, by name."""
    card = cast(TaskCard, module.CARD)
    data = cache(synthetic_heldout)

    @cache
    def scores(features: Callable[[HeldOut], Features]) -> Sequence[Score]:
        return cast(Sequence[Score], module.score(features(data()), data()))

    def rows(features: Callable[[HeldOut], Features]) -> Callable[[], None]:
        return lambda: _check_rows(card, scores(features), data())

    def repeats(features: Callable[[HeldOut], Features]) -> None:
        first, again = scores(features), module.score(features(data()), synthetic_heldout())
        same = [(s.metric, s.value, s.low, s.high) for s in first] == [(s.metric, s.value, s.low, s.high) for s in again]
        assert same, f"{card.name}: a second call on the same data gives other scores"

    checks = [
        Check("the card names each main metric's direction", lambda: _check_card(card)),
        Check("rows of a dictionary", rows(planted_features)),
        Check("the same again for a dictionary", lambda: repeats(planted_features)),
        Check("rows of a dense baseline", rows(stream_features)),
        Check("the same again for a dense baseline", lambda: repeats(stream_features)),
    ]
    if card.concept:
        controls = Check(
            "labels are found, permuted ones are not",
            lambda: _check_controls(card, scores(planted_features), scores(piece_features)),
        )
        checks.append(controls)
    return checks


def _check_card(card: TaskCard) -> None:
    assert set(card.direction) == set(card.main), f"{card.name}: direction must name each main metric, and nothing else"


def _check_rows(card: TaskCard, scores: Sequence[Score], data: HeldOut) -> None:
    keys = [(s.metric, s.k, s.control, s.truth, s.label) for s in scores]
    double = {key for key in keys if keys.count(key) > 1}
    assert not double, f"{card.name}: several rows for {sorted(double, key=str)[0]}"
    for metric in card.main:
        mine = [s for s in scores if s.metric == metric and not s.control and not s.label]
        assert mine, f"{card.name}: no row for its main metric {metric}"
        for s in mine:
            kept = s.replicates is not None and s.replicates.shape == (len(data.plan),)
            assert s.value is None or kept, f"{card.name}: {metric} has no bootstrap replicates"
    for s in scores:
        assert (s.value is None) == bool(s.reason), f"{card.name}: {s.metric} must have a value or a reason, not both or neither"
        if s.value is not None:
            assert np.isfinite(s.value), f"{card.name}: {s.metric} is {s.value}"
            ordered = s.low is not None and s.high is not None and s.low <= s.high
            assert ordered, f"{card.name}: {s.metric} has no interval"
            assert s.pieces > 0, f"{card.name}: {s.metric} does not say on how many pieces it was measured"
        if s.value is not None and card.concept:
            assert s.truth, f"{card.name}: {s.metric} does not say how its labels are known"


def _check_controls(card: TaskCard, planted: Sequence[Score], blind: Sequence[Score]) -> None:
    for metric in card.main:
        for truth in sorted({s.truth for s in planted if s.metric == metric and s.value is not None}):
            best = _best(card, planted, metric, truth, "")
            chance, permuted = (_best(card, planted, metric, truth, control) for control in (CHANCE, PERMUTED))
            piece = _best(card, blind, metric, truth, "")
            half = chance + (best - chance) / 2
            for what, value in (("permuted labels", permuted), ("features that know the piece only", piece)):
                near = value < half if card.direction[metric] == "higher" else value > half
                assert near, f"{card.name}: {metric} ({truth}) is {value:.3f} for {what}, chance {chance:.3f}, planted {best:.3f}"


def _best(card: TaskCard, scores: Sequence[Score], metric: str, truth: str, control: str) -> float:
    rows = [s for s in scores if (s.metric, s.truth, s.control, s.label) == (metric, truth, control, "")]
    values = [s.value for s in rows if s.value is not None]
    assert values, f"{card.name}: no {control or 'score'} row for {metric} ({truth})"
    return max(values) if card.direction[metric] == "higher" else min(values)


class Rectifier(Dictionary):
    """A dictionary whose atoms are the unit vectors and whose code is the stream's positive part."""

    name = "rectifier"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tensors = {"W_dec": torch.eye(width), "b_dec": torch.zeros(width)}

    def fit(self, frames: object, **_: object) -> Rectifier:
        """There is nothing to learn."""
        return self

    def encode(self, x: Tensor) -> SparseCode:
        return SparseCode.from_dense(self.checked(x).clamp_min(0))


@dataclass(frozen=True, eq=False)
class DistanceGenerator:
    """The part of a generator that tasks call: a loss of 1 nat (2 for codebook 2) plus the splice's mean square error."""

    codes: NDArray[np.int64]
    x: NDArray[np.float32]

    def loss(self, codes: Tensor, layer: int | None = None, splice: Splice | None = None) -> Tensor:
        """See `Generator.loss`; a clip is known by its codes."""
        clips = [int(np.flatnonzero((self.codes == code).all((1, 2)))[0]) for code in codes.numpy()]
        x = torch.from_numpy(self.x[clips])
        error = ((x - splice(x)) ** 2).mean((1, 2)) if splice else torch.zeros(len(x))
        return torch.stack([error + 1, error + 2], 1)


def _spans(labels: Sequence[str], seconds: float) -> tuple[Span, ...]:
    step = seconds / len(labels)
    return tuple(Span(i * step, (i + 1) * step, label) for i, label in enumerate(labels))


def _clip_means(code: scipy.sparse.csr_array, data: HeldOut) -> NDArray[np.float32]:
    means: NDArray[np.float32] = code.toarray().reshape(len(data.clips), -1, code.shape[1]).mean(1)
    return means
