"""Which instrument families are heard: logistic regression on spectral statistics of audio, never on activations.

One classifier a family, on `spectra.statistics` of clips of a corpus's training pieces, each heard twice: as it was rendered
and as the generator's codec plays it back, which sounds otherwise. Truth is the families that sound in the clip. Everything is
deterministic, and kept in the cache under all that it depends on. How often it is right is measured on held-out pieces, on both
kinds of audio.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musae.activations.tokens import codec_revision
from musae.corpora.track import Clip, Corpus, Split, Truth
from musae.errors import UserError
from musae.files import cache_root
from musae.generators.generator import Generator
from musae.steering import arrays, spectra

VERSION = 1
"""Raised when features or fit change: kept classifiers are then made anew."""

LEAST = 10
"""Training clips that a family must sound in, and be silent in, to be learnt."""

PENALTY = 0.03
"""scikit-learn's C: 160 statistics that are strongly correlated want a strong penalty."""

BATCH = 32

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Timbre:
    """A fitted classifier of instrument families."""

    families: tuple[str, ...]
    mean: NDArray[np.float64]
    """Of the statistics ``[s]``; `scale` is their deviation."""
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    """``[families, s]``"""
    bias: NDArray[np.float64]
    revision: str
    """Ten hex digits of what it depends on."""
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    """Kind of audio (``rendered``, ``codec``) -> family -> AUROC on held-out clips; ``mean`` is over families."""

    def log_odds(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        """Log-odds of each family in audio ``[samples]`` -> ``[families]``."""
        found: NDArray[np.float64] = self.weights @ ((spectra.statistics(audio, rate) - self.mean) / self.scale) + self.bias
        return found

    def probabilities(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        """Probability of each family in audio ``[samples]`` -> ``[families]``."""
        return 1 / (1 + np.exp(-self.log_odds(audio, rate)))


def learn(
    corpus: Corpus,
    generator: Generator,
    *,
    seconds: float,
    clips: int = 400,
    heldout: int = 160,
    progress: Progress = lambda what, done, total: None,
) -> Timbre:
    """The classifier of a corpus's families as this generator's codec plays them; from the cache where it was made before.

    `seconds`: length of the clips. `clips`, `heldout`: how many to learn from and to measure on. Raises UserError for a corpus
    whose clips have no instrument labels that are known better than by estimate, or too few of any family.
    """
    what = [VERSION, corpus.card.name, corpus.revision, codec_revision(generator), seconds, clips, heldout, LEAST, PENALTY]
    revision = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]
    path = cache_root() / "timbre" / f"{corpus.card.name.replace('/', '~')}-{revision}.npz"
    if path.is_file():
        return _read(path, revision)
    x, y, families = _examples(corpus, generator, Split.TRAIN, seconds, clips, progress)
    fitted = _fit(x, y, families, revision)
    held, truth, _ = _examples(corpus, generator, Split.HELDOUT, seconds, heldout, progress, fitted.families)
    odds = ((held - fitted.mean) / fitted.scale) @ fitted.weights.T + fitted.bias
    half = len(held) // 2
    for kind, rows in (("rendered", slice(None, half)), ("codec", slice(half, None))):
        fitted.accuracy[kind] = _aurocs(odds[rows], truth[rows], fitted.families)
    _write(path, fitted)
    return fitted


def _examples(
    corpus: Corpus,
    generator: Generator,
    split: Split,
    seconds: float,
    limit: int,
    progress: Progress,
    families: Sequence[str] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], tuple[str, ...]]:
    """Statistics of clips as rendered, then as the codec plays them ``[2n, s]``; which families sound ``[2n, f]``."""
    found = corpus.clips(split, seconds=seconds, per_track=1, limit=limit)
    labels = [(clip, clip.annotations) for clip in found]
    kept = [(clip, a) for clip, a in labels if a.truth.get("instruments", Truth.ESTIMATED) != Truth.ESTIMATED]
    if not kept:
        raise UserError(f"{corpus.card.name}: no {split} clip has instrument labels that are not estimates; name another corpus.")
    names = tuple(families or sorted({family for _, a in kept for family in a.instruments}))
    y = np.array([[family in a.instruments for family in names] for _, a in kept])
    plain, coded = [], []
    for start in range(0, len(kept), BATCH):
        some: Sequence[Clip] = [clip for clip, _ in kept[start : start + BATCH]]
        audio = np.stack(list(corpus.audio(some, generator.card.rate)))
        again = generator.decode(generator.encode(torch.from_numpy(audio))).numpy()
        plain += [spectra.statistics(wave, generator.card.rate) for wave in audio]
        coded += [spectra.statistics(wave, generator.card.rate) for wave in again]
        progress(f"instruments: {split} clips of {corpus.card.name}", start + len(some), len(kept))
    return np.array(plain + coded), np.concatenate([y, y]), names


def _fit(x: NDArray[np.float64], y: NDArray[np.bool_], names: Sequence[str], revision: str) -> Timbre:
    from sklearn.linear_model import LogisticRegression

    counts = y.sum(0) // 2
    learnt = [i for i in range(len(names)) if LEAST <= counts[i] <= len(y) // 2 - LEAST]
    if not learnt:
        raise UserError(f"no instrument family sounds in, and is missing from, {LEAST} clips; give more of them.")
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    weights, bias = [], []
    for i in learnt:
        fit: Any = LogisticRegression(C=PENALTY, max_iter=1000).fit((x - mean) / scale, y[:, i])
        weights.append(fit.coef_[0])
        bias.append(float(fit.intercept_[0]))
    return Timbre(tuple(names[i] for i in learnt), mean, scale, np.array(weights), np.array(bias), revision)


def _aurocs(odds: NDArray[np.float64], truth: NDArray[np.bool_], families: Sequence[str]) -> dict[str, float]:
    """AUROC of each family that sounds in some of the clips and not in others, and their mean."""
    from sklearn.metrics import roc_auc_score

    found = {
        family: float(roc_auc_score(truth[:, i], odds[:, i]))
        for i, family in enumerate(families)
        if 0 < truth[:, i].sum() < len(truth)
    }
    return found | ({"mean": float(np.mean(list(found.values())))} if found else {})


def _write(path: Path, fitted: Timbre) -> None:
    kept = {name: getattr(fitted, name) for name in ("mean", "scale", "weights", "bias")}
    texts = {"families": np.array(fitted.families), "accuracy": np.array(json.dumps(fitted.accuracy))}
    arrays.save(path, kept | texts)


def _read(path: Path, revision: str) -> Timbre:
    kept = arrays.load(path)
    families, accuracy = tuple(kept.pop("families").tolist()), json.loads(str(kept.pop("accuracy")))
    return Timbre(families, **kept, revision=revision, accuracy=accuracy)
