"""The CLAP judge: does a label's text lie near the audio of the clips on which its latent is strongest?

The paper's score (Singh et al., arXiv 2505.18186): the cosine of the text's vector with those of the latent's top clips, and its
mean. Whole clips are heard, ranked by the latent's mean over the clip, as there; but clips of the judging half, on which the
label was not found. The same cosine of silent clips is shown beside it, since a text may be near all music; and labels are dealt
out at random among the labelled latents, since one may be near to what latents have in common. A similarity says something of a
label only beyond these two. The paper also chose its latents by CLAP; here nothing is chosen by it.

A label that abstains has no text, and a latent that fires on no judging clip no audio: they are unscored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae import registry
from musae.clap import Clap
from musae.corpora.track import Clip
from musae.files import atomic_path, cache_root
from musae.labels import evidence, judge_truth
from musae.labels.claims import Label
from musae.labels.evidence import Firing
from musae.scores import spread
from musae.scores.heldout import HeldOut
from musae.scores.score import Score

COUNT = 10
"""Top clips of a latent: the paper's ten."""

SHUFFLED = "shuffled_labels"

Audio = Callable[[Sequence[Clip], int], Iterator[NDArray[np.float32]]]
"""Mono audio of clips at a rate, in order: `musae.corpora.track.Corpus.audio`."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """Mean cosines of the labels of L latents; figures are of the sample, then of each bootstrap replicate over pieces."""

    top: NDArray[np.float64]
    """With each latent's top clips ``[1 + R, L]``; NaN where it is unscored or no such piece was drawn."""
    silent: NDArray[np.float64]
    """With the clips on which it does not fire ``[1 + R, L]``."""
    dealt_top: NDArray[np.float64]
    """With each latent's top clips, of labels dealt out at random; mean over deals ``[1 + R, L]``."""
    dealt_silent: NDArray[np.float64]
    """The same with its silent clips."""
    unscored: Mapping[str, int]
    """Reason -> how many latents."""
    pieces: int
    """Judging pieces."""

    @property
    def per_latent(self) -> NDArray[np.float64]:
        """What the judge says of each latent's label ``[L]``: the similarity of its top clips beyond that of silent ones."""
        return np.asarray(self.top[0] - self.silent[0], np.float64)

    def rows(self, **where: Any) -> list[Score]:
        """``clap_similarity`` (the paper's) and ``clap_contrast`` (beyond silent clips), means over latents, with their null."""
        figures = {"clap_similarity": (self.top, self.dealt_top)}
        figures["clap_contrast"] = self.top - self.silent, self.dealt_top - self.dealt_silent
        where = {"pieces": self.pieces, **where}
        return [
            spread.summarise(metric, spread.nanmean(values), control=control, **where)
            for metric, both in figures.items()
            for control, values in zip(("", SHUFFLED), both, strict=True)
        ]


def judge(
    labels: Sequence[Label], firing: Firing, data: HeldOut, clap: Clap, audio: Audio | None = None, count: int = COUNT
) -> Similarity:
    """Judge the label of each chosen latent (column) on the judging pieces. `audio`: by default the corpus's own.

    Raises UserError where the corpus has no audio here.
    """
    clips = np.flatnonzero(~evidence.explaining(data)[data.groups])
    values, fires = firing.values["clips"][clips], firing.at["clips"][clips]
    texts = [text(label) for label in labels]
    scored = [j for j, said in enumerate(texts) if said and fires[:, j].any()]
    shape = (1 + len(data.plan), len(labels))
    parts = {name: np.full(shape, np.nan) for name in ("top", "silent", "dealt_top", "dealt_silent")}
    if scored:
        cosines = (embeddings(clap, data, clips, audio) @ clap.text([texts[j] for j in scored]).T).astype(np.float64)
        drawn = spread.with_total(data.plan)[:, data.groups[clips]].astype(np.float64)
        places = {"top": _top(values[:, scored], fires[:, scored], count), "silent": ~fires[:, scored]}
        deals = judge_truth.shuffled(range(len(scored)), data.corpus_revision)
        for name, at in places.items():
            parts[name][:, scored] = _mean(drawn, at, cosines)
            parts[f"dealt_{name}"][:, scored] = np.mean([_mean(drawn, at, cosines[:, deal]) for deal in deals], axis=0)
    left = [said for j, said in enumerate(texts) if j not in scored]
    unscored = Counter("fires on no judging clip" if said else "the label abstains" for said in left)
    return Similarity(**parts, unscored=unscored, pieces=len(np.unique(data.groups[clips])))


def text(label: Label) -> str:
    """What is compared of a label: its name and description; nothing of an abstention."""
    return ". ".join(part for part in (label.name, label.description) if part) if label.claims else ""


def embeddings(
    clap: Clap, data: HeldOut, clips: NDArray[np.int64], audio: Audio | None = None, folder: Path | None = None
) -> NDArray[np.float32]:
    """CLAP's vectors of some clips ``[len(clips), d]``, kept on disk one file a clip, by default in ``clap`` of musae's cache."""
    folder = (folder or cache_root() / "clap") / f"{data.corpus.replace('/', '~')}@{data.corpus_revision}" / clap.revision
    paths = {int(c): folder / f"{data.clips[c].id}-{data.clips[c].duration:g}.npy" for c in clips}
    found = {c: _kept(path) for c, path in paths.items()}
    missing = [c for c, vector in found.items() if vector is None]
    if missing:
        audio = audio or registry.make("corpora", data.corpus).audio
        for c, wave in zip(missing, audio([data.clips[c] for c in missing], clap.rate), strict=True):
            found[c] = vector = clap.audio([wave], clap.rate)[0]
            with atomic_path(paths[c]) as path, path.open("wb") as file:
                np.save(file, vector)
    return np.array([found[int(c)] for c in clips], np.float32)


def _kept(path: Path) -> NDArray[np.float32] | None:
    """A vector that was kept; None where there is none, or where its file is damaged: it is made again."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError, EOFError):
        return None


def _top(values: NDArray[np.float32], fires: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The strongest clips of each latent among those on which it fires ``[n, L]``, at most `count`."""
    rank = np.argsort(np.argsort(-values, axis=0, kind="stable"), axis=0)
    return np.asarray(fires & (rank < count), np.bool_)


def _mean(drawn: NDArray[np.float64], at: NDArray[np.bool_], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine over the clips of each latent, in each replicate ``[1 + R, L]``."""
    return spread.ratio(drawn @ (cosines * at), drawn @ at)
