"""Chords: can the chord that sounds now be read off the features of a frame?

A row's label is the chord at the centre of the newest frame that its step has read (row times are that frame's end). A
codec whose frames look ahead sees a little beyond it, for every feature set alike. Two readings:

- ``wcsr_*``: cross-fitted probes (`musae.scores.probe`) answer a root (12 and N), a major or minor chord (24 and N) or
  one of five qualities (60 and N): joint labels, since no linear reading of absolute pitch gives the quality apart from
  the root. An answer is a segment as long as the rows are apart, about the centre of the row's frame; segments are
  merged with the reference's chords and scored by mir_eval's weighted chord recall: `root` from the first probe,
  `sevenths` from the third, the rest from the second. Chords outside a vocabulary are trained on as one more class,
  which is never answered.
- ``f1_root``: the best single latent of each root (`musae.scores.latents`), mean over the 12 roots.

Chance is the chord that, answered throughout, scores best on the training folds; for F1, a detector that always fires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.scores import latents, mir, probe, spread, truth
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, PERMUTED, Score

CARD = TaskCard(
    name="chords",
    summary="Chord of a frame: weighted chord recall of linear probes, F1 of the best single latent per root.",
    version=1,
    main=("wcsr_majmin", "f1_root"),
    direction={"wcsr_majmin": "higher", "f1_root": "higher"},
    reads=("codes",),
    concept="chords",
)

VOCABULARY = {"root": "root", "sevenths": "sevenths"}
"""mir_eval's comparison -> the probe that answers it, where that is not the one of 24 chords and N."""

MAIN = "majmin"


@dataclass(frozen=True, eq=False)
class Frames:
    """Chord truth of the probe rows; row i of m is row ``rows[i]`` of a code."""

    rows: NDArray[np.int64]
    clip: NDArray[np.int64]
    classes: dict[str, NDArray[np.int64]]
    """Vocabulary -> class of each row ``[m]``, -1 outside it."""
    row: NDArray[np.int64]
    """The row, reference chord and seconds of each stretch of time in which neither answer nor reference changes."""
    reference: NDArray[np.int64]
    seconds: NDArray[np.float64]
    tables: dict[str, NDArray[np.float64]]
    """Comparison -> its value for each reference chord and answer."""


def score(features: Features, data: HeldOut) -> list[Score]:
    """Weighted chord recall of the probes at each k, and F1 and average precision of the best latent per root."""
    if unscored := truth.unscorable("chords", data, CARD.main):
        return unscored
    level, donors = truth.levels(data, "chords"), truth.donors(data, "chords")
    real = data.once("chords", lambda: _frames(data, np.arange(len(donors))))
    mixed = data.once("chords permuted", lambda: _frames(data, donors))
    folds, groups, level = data.folds[real.clip], data.groups[real.clip], level[real.clip]
    x = features.at(real.rows)

    cases = {"": real, PERMUTED: mixed}
    targets = [(control, name, len(chords)) for control in cases for name, chords in mir.VOCABULARIES.items()]
    fitted = probe.crossfit(x, folds, [probe.Classes(cases[control].classes[name], count) for control, name, count in targets])
    answers = {
        (control, name): {k: s.argmax(1) for k, s in scores.items()}
        for (control, name, _), scores in zip(targets, fitted, strict=True)
    }
    del fitted  # the largest array of a task
    roots = [np.eye(14, dtype=bool)[f.classes["root"], :12] for f in (real, mixed)]

    out = []
    for name in np.unique(level):
        rows = level == name
        for metric in mir.CHORD_METRICS:
            for control, frames in cases.items():
                for k, answer in answers[control, VOCABULARY.get(metric, MAIN)].items():
                    out.append(_recall(metric, frames, answer, rows, groups, data.plan, k=k, truth=str(name), control=control))
            constant = _constant(metric, real, folds)
            out.append(_recall(metric, real, constant, rows, groups, data.plan, truth=str(name), control=CHANCE))
    out += latents.latent_scores("root", mir.TONICS, x, roots[0], roots[1], level, folds, groups, data.plan)
    return out


def _frames(data: HeldOut, labels_of: NDArray[np.int64]) -> Frames:
    """Truth of the probe rows of annotated clips, each clip with the chords of clip ``labels_of``."""
    known, frames = truth.levels(data, "chords") != "", data.x.shape[1]
    rows = data.probe_rows[known[data.probe_rows // frames]]
    clip, centres = rows // frames, data.times[rows % frames] - data.period / 2
    width = data.period * (np.diff(rows[clip == clip[0]]).min(initial=frames) if (clip == clip[0]).sum() > 1 else 1)
    chords = [truth.clip_annotations(data)[c].chords for c in labels_of]
    names = sorted({s.label for c in np.unique(clip) for s in chords[c]})
    index = {name: i for i, name in enumerate(names)}
    parts, heard = [], np.full(len(rows), -1)
    for c in np.unique(clip):
        at, ids = np.flatnonzero(clip == c), np.array([index[s.label] for s in chords[c]], np.int64)
        row, span, seconds = mir.overlaps(chords[c], centres[at] - width / 2, width)
        parts.append((at[row], ids[span], seconds))
        row, span, _ = mir.overlaps(chords[c], centres[at] - data.period / 1000, data.period / 500)
        heard[at[row]] = ids[span]
    row, reference, seconds = (np.concatenate(p) for p in zip(*parts, strict=True))
    classes = {v: np.append(mir.chord_classes(names, v), -1)[heard] for v in mir.VOCABULARIES}
    tables = {m: mir.chord_table(m, names, mir.VOCABULARIES[VOCABULARY.get(m, MAIN)]) for m in mir.CHORD_METRICS}
    return Frames(rows, clip, classes, row, reference, seconds, tables)


def _recall(
    metric: str,
    frames: Frames,
    answer: NDArray[np.int64],
    rows: NDArray[np.bool_],
    groups: NDArray[np.int64],
    plan: NDArray,
    **where: Any,
) -> Score:
    """Weighted chord recall of an answer per row, over some rows."""
    comparison = frames.tables[metric][frames.reference, answer[frames.row]]
    counted = (comparison >= 0) & rows[frames.row]
    seconds = frames.seconds * counted
    sums = spread.piece_sums(np.stack([comparison * seconds, seconds], 1), groups[frames.row], plan.shape[1])
    keep = f"wcsr_{metric}" in CARD.main and not where.get("control")
    return spread.estimate(f"wcsr_{metric}", sums, spread.mean, plan, keep=keep, pieces=int((sums[:, 1] > 0).sum()), **where)


def _constant(metric: str, frames: Frames, folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row the answer that, given throughout, has the best recall on the other folds."""
    table = frames.tables[metric]
    best = np.zeros(len(folds), np.int64)
    for fold in np.unique(folds):
        training = folds[frames.row] != fold
        heard = np.bincount(frames.reference[training], weights=frames.seconds[training], minlength=len(table))
        best[folds == fold] = (heard @ np.maximum(table, 0)).argmax()
    return best
