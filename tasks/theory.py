"""Music theory: can the classes by which a clip was made be read off the mean of its features?

SynTheory's question (Wei et al., ISMIR 2024, arXiv 2410.00872): interval, mode, triad quality, inversion, progression, time
signature, pitch class, octave and so on, each among the clips of its own concept (`Annotations.attributes`; the one that is
called ``concept`` says which). Features are clip means; the probe is linear and cross-fitted over groups.

- ``balanced_accuracy``: mean over an attribute's classes of the share of their clips that are told right, then mean over
  attributes; for the probe on all features there is a row for each attribute, ``intervals/play_style``. The paper gives accuracy:
  its classes are of equal size.

An attribute needs two classes or more, each in two groups or more, and clips in three folds; others are unscored, by name. (So
is ``bpm``, whose every value is a group: the task `tempo` reads it.) Chance is one class throughout: one over the number of
classes. A score may lie below it: classes and roots are crossed, so a probe that knows a clip's root from absolute pitch has
heard that root with every class but the right one, unless it knows the class from other roots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.corpora.track import Truth
from musae.scores import probe, spread, truth
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, PERMUTED, Score

CARD = TaskCard(
    name="theory",
    summary="SynTheory's classes (interval, mode, inversion, ...): balanced accuracy of linear probes on clip means.",
    version=1,
    main=("balanced_accuracy",),
    direction={"balanced_accuracy": "higher"},
    reads=("codes",),
    concept="attributes",
)

METRIC = CARD.main[0]


@dataclass(frozen=True, eq=False)
class Attribute:
    """A question about a concept's clips: their classes, truly and after permuting."""

    name: str
    classes: int
    real: NDArray[np.int64]
    mixed: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Concept:
    """The clips of a concept, and what is asked of them."""

    rows: NDArray[np.int64]
    attributes: tuple[Attribute, ...]
    unscored: tuple[Score, ...]


def score(features: Features, data: HeldOut) -> list[Score]:
    """Balanced accuracy of the probes at each k: its mean over attributes, and that of each attribute on all features."""
    concepts = data.once("theory", lambda: _concepts(data))
    out = [unscored for concept in concepts for unscored in concept.unscored]
    if not any(concept.attributes for concept in concepts):
        return [*out, Score(METRIC, None, f"no attribute of the clips of {data.corpus} can be probed")]
    found: dict[tuple[int | None, str], list[NDArray[np.float64]]] = {}
    names = []
    for concept in filter(lambda concept: concept.attributes, concepts):
        x, folds, groups = features.clip_means[concept.rows], data.folds[concept.rows], data.groups[concept.rows]
        targets = [probe.Classes(labels, a.classes) for a in concept.attributes for labels in (a.real, a.mixed)]
        fitted = probe.crossfit(x, folds, targets)
        for i, a in enumerate(concept.attributes):
            names.append(a.name)
            for labels, scores, control in ((a.real, fitted[2 * i], ""), (a.mixed, fitted[2 * i + 1], PERMUTED)):
                for k, s in scores.items():
                    found.setdefault((k, control), []).append(_balanced(labels, s.argmax(1), a.classes, groups, data.plan))
            found.setdefault((None, CHANCE), []).append(_balanced(a.real, np.zeros_like(a.real), a.classes, groups, data.plan))
    pieces = len(np.unique(np.concatenate([data.groups[concept.rows] for concept in concepts if concept.attributes])))
    for (k, control), figures in found.items():
        at: dict[str, Any] = {"k": k, "control": control, "truth": str(Truth.EXACT), "pieces": pieces}
        out.append(spread.summarise(METRIC, spread.nanmean(np.array(figures).T), keep=not control, **at))
        if k is None:
            out += [spread.summarise(METRIC, f, label=name, **at) for name, f in zip(names, figures, strict=True)]
    return out


def _concepts(data: HeldOut) -> Sequence[Concept]:
    """Concepts and their attributes, by name."""
    known = [a.attributes for a in truth.clip_annotations(data)]
    of = np.array([attributes.get("concept", "") for attributes in known])
    donors = truth.permuted(data, of)
    concepts = []
    for name in np.unique(of[of != ""]):
        rows, attributes, unscored = np.flatnonzero(of == name), [], []
        for attribute in sorted(set.intersection(*(set(known[row]) for row in rows)) - {"concept"}):
            values, real = np.unique([known[row][attribute] for row in rows], return_inverse=True)
            groups = np.bincount(np.unique(np.stack([real, data.groups[rows]]), axis=1)[0])
            label = f"{name}/{attribute}"
            if len(values) < 2 or groups.min() < 2:
                unscored.append(Score(METRIC, None, "it needs two classes, and each of them in two groups", label=label))
            elif len(np.unique(data.folds[rows])) < truth.FOLDS:
                unscored.append(Score(METRIC, None, f"its clips lie in fewer than {truth.FOLDS} folds", label=label))
            else:
                mixed = np.searchsorted(values, [known[row][attribute] for row in donors[rows]])
                attributes.append(Attribute(label, len(values), real, mixed))
        concepts.append(Concept(rows, tuple(attributes), tuple(unscored)))
    return concepts


def _balanced(
    labels: NDArray[np.int64], answer: NDArray[np.int64], classes: int, groups: NDArray[np.int64], plan: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean recall of the classes on the sample and in each replicate ``[1 + R]``."""
    counted = np.eye(classes)[labels]
    sums = spread.piece_sums(np.hstack([counted * (labels == answer)[:, None], counted]), groups, plan.shape[1])
    totals = spread.with_total(plan).astype(np.float64) @ sums
    return spread.nanmean(spread.ratio(totals[:, :classes], totals[:, classes:]))
