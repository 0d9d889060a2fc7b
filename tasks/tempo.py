"""Tempo: can the tempo of a clip be read off the mean of its features?

Cross-fitted ridge probes (`musae.scores.probe`) predict the logarithm of the annotated tempo from clip means, the
paper's aggregation: a latent tells the tempo as far as how often and how strongly it fires does.

- ``r2_log_tempo``: 1 - squared error / squared deviation from the scored clips' own mean.
- ``acc1``, ``acc2``, ``p_score``: of the predicted beats per minute (`musae.scores.mir`).
- ``f1_tempo``: the best single latent of each class of tempi (`CLASSES`; `musae.scores.latents`), mean over classes.

Chance answers one tempo throughout: the training folds' mean logarithm for R2, their best-scoring tempo for the others; for
F1, it is a detector that always fires.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.scores import latents, mir, probe, spread, truth
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, PERMUTED, Score

CARD = TaskCard(
    name="tempo",
    summary="Tempo of a clip: R2 of the log-tempo of ridge probes on clip means, Acc1, Acc2, P-score, F1 of the best latent.",
    version=1,
    main=("r2_log_tempo",),
    direction={"r2_log_tempo": "higher"},
    reads=("codes",),
    concept="tempo",
)

BOUNDS = (80.0, 105.0, 140.0)
"""Bounds of the classes in bpm: the range 60 to 180 in four, equal in logarithm, to the nearest 5 bpm."""

CLASSES = ("below 80 bpm", "80 to 105 bpm", "105 to 140 bpm", "140 bpm and above")
"""The concept values of `f1_tempo`; a class holds its lower bound, not its upper one."""

METRICS = {"acc1": mir.acc1, "acc2": mir.acc2, "p_score": mir.p_score}
"""Score of each pair of reference and estimated tempo in bpm."""


def score(features: Features, data: HeldOut) -> list[Score]:
    """R2 of the log-tempo, Acc1, Acc2 and P-score of the probes at each k, and F1 of the best latent per class of tempi."""
    if unscored := truth.unscorable("tempo", data, CARD.main):
        return unscored
    level = truth.levels(data, "tempo")
    clip = np.flatnonzero(level != "")
    bpm = np.array([a.tempo or np.nan for a in truth.clip_annotations(data)])
    real, mixed = bpm[clip], bpm[truth.donors(data, "tempo")[clip]]
    x, folds, groups, level = features.clip_means[clip], data.folds[clip], data.groups[clip], level[clip]
    fitted = probe.crossfit(x, folds, [probe.Values(np.log2(real)), probe.Values(np.log2(mixed))])
    middle = _mean(np.log2(real), folds)
    constants = data.once("tempo constants", lambda: {m: _constant(m, real, folds) for m in METRICS})

    out = []
    for name in np.unique(level):
        rows = np.flatnonzero(level == name)
        piece = groups[rows]
        at: dict[str, Any] = {"truth": str(name), "pieces": len(np.unique(piece))}
        for k in probe.KS:
            for labels, scores, control in ((real[rows], fitted[0], ""), (mixed[rows], fitted[1], PERMUTED)):
                estimate, case = scores[k][rows, 0].astype(np.float64), {"k": k, "control": control} | at
                out.append(_r2(np.log2(labels), estimate, piece, data.plan, **case))
                out += [_share(m, labels, 2**estimate, piece, data.plan, **case) for m in METRICS]
        out.append(_r2(np.log2(real[rows]), middle[rows], piece, data.plan, control=CHANCE, **at))
        out += [_share(m, real[rows], constants[m][rows], piece, data.plan, control=CHANCE, **at) for m in METRICS]
    is_real, is_mixed = (np.eye(len(CLASSES), dtype=bool)[np.searchsorted(BOUNDS, tempi, "right")] for tempi in (real, mixed))
    means = features.sparse_means(clip)
    return out + latents.latent_scores("tempo", CLASSES, means, is_real, is_mixed, level, folds, groups, data.plan)


def _r2(
    reference: NDArray[np.float64],
    estimate: NDArray[np.float64],
    groups: NDArray[np.int64],
    plan: NDArray[np.float32],
    **where: Any,
) -> Score:
    columns = [(reference - estimate) ** 2, reference**2, reference, np.ones_like(reference)]
    sums = spread.piece_sums(np.stack(columns, 1), groups, plan.shape[1])
    return spread.estimate("r2_log_tempo", sums, r2, plan, keep=not where.get("control"), **where)


def r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficient of determination from sums of squared errors, squares, values and ones ``[..., 4]``."""
    error, square, total, count = np.moveaxis(sums, -1, 0)
    return 1 - spread.ratio(error, square - spread.ratio(total**2, count))


def _share(
    metric: str,
    reference: NDArray[np.float64],
    estimate: NDArray[np.float64],
    groups: NDArray[np.int64],
    plan: NDArray[np.float32],
    **where: Any,
) -> Score:
    right = METRICS[metric](reference, estimate)
    sums = spread.piece_sums(np.stack([right, np.ones_like(right)], 1), groups, plan.shape[1])
    return spread.estimate(metric, sums, spread.mean, plan, **where)


def _mean(values: NDArray[np.float64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each clip the mean over the other folds."""
    return np.array([values[folds != fold].mean() for fold in range(folds.max() + 1)])[folds]


def _constant(metric: str, reference: NDArray[np.float64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each clip the tempo, among those of the other folds, that scores best on them when answered throughout."""
    best = np.empty(len(folds))
    for fold in np.unique(folds):
        training = reference[folds != fold]
        tempi = np.unique(training)
        pairs = np.repeat(training, len(tempi)), np.tile(tempi, len(training))
        right = mir.near(*pairs, mir.P_TOLERANCE) if metric == "p_score" else METRICS[metric](*pairs)
        best[folds == fold] = tempi[right.reshape(len(training), -1).sum(0).argmax()]
    return best
