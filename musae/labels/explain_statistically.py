"""The statistical explainer: for each latent the claim that best tells where it fires, if any is significant.

It is the ceiling among explainers, not a rival: it chooses by the very figure that the truth judge measures (the Youden index),
on other pieces. Frames of a piece are not independent, so significance is Fisher's exact test, one-sided, on one firing and one
silent place of each explaining piece, with Holm's correction over the claims tried on a latent. Where no claim is significant
it abstains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from musae.corpora.instruments import FAMILIES
from musae.labels import evidence
from musae.labels.claims import (
    ABSTENTION,
    DYNAMICS,
    REGISTERS,
    BeatClaim,
    ChordClaim,
    Claim,
    DrumsClaim,
    DynamicsClaim,
    FamilyClaim,
    KeyClaim,
    Label,
    MeterClaim,
    ModeClaim,
    QualityClaim,
    RegisterClaim,
    RootClaim,
    TempoClaim,
)
from musae.labels.evidence import Firing
from musae.labels.facts import Unit, facts, unit
from musae.scores import spread
from musae.scores.heldout import HeldOut
from musae.scores.mir import KEYS, TONICS, VOCABULARIES

ALPHA = 0.05
"""Family-wise error over the claims tried on a latent."""

TEMPI = (20.0, 80.0, 105.0, 140.0, 400.0)
"""Bounds of the tempo ranges that are tried, in beats per minute: about quarters of log-uniform tempi from 60 to 180."""

CANDIDATES: tuple[Claim, ...] = (
    *(RootClaim(root=r) for r in TONICS),
    *(ChordClaim(chord=c) for c in VOCABULARIES["majmin"]),
    *(QualityClaim(quality=q) for q in ("maj", "min", "dim", "aug")),
    *(BeatClaim(position=p) for p in range(1, 7)),
    *(RegisterClaim.model_validate({"register": r}) for r in REGISTERS),
    *(DynamicsClaim.model_validate({"dynamics": d}) for d in DYNAMICS),
    *(KeyClaim(key=k) for k in KEYS),
    *(ModeClaim.model_validate({"mode": m}) for m in ("major", "minor")),
    *(TempoClaim(low=low, high=high) for low, high in pairwise(TEMPI)),
    *(MeterClaim(beats=b) for b in range(2, 8)),
    *(FamilyClaim(family=f) for f in FAMILIES),
    *(DrumsClaim(drums=d) for d in (True, False)),
)
"""The claims that are tried. Programs are not: too many for the clips that play them."""


@dataclass(frozen=True)
class Explanation:
    """A label with the evidence for it."""

    label: Label
    p: float
    """Holm-adjusted p-value of its claim; of the best claim where it abstains; 1 where none could be tried."""


def explain(firing: Firing, data: HeldOut, level: str, permuted: bool = False) -> list[Explanation]:
    """An explanation of each chosen latent, from the explaining pieces; `permuted`: of annotations permuted between pieces."""
    lift = np.full((len(firing.latents), len(CANDIDATES)), -np.inf)
    p = np.full(lift.shape, np.nan)
    half = evidence.explaining(data)
    units: tuple[Unit, ...] = ("frames", "clips")
    for where in units:
        columns = [c for c, claim in enumerate(CANDIDATES) if unit(claim) == where]
        pieces, table = evidence.groups(data, where), facts(data, where, level, permuted)
        answers = [table.holds(CANDIDATES[c]) for c in columns]
        true, known = (np.stack([a[i] for a in answers], 1) for i in (0, 1))
        rows = np.flatnonzero(half[pieces])
        rows = rows[spread.random(data.corpus_revision, f"places of {where}").permutation(len(rows))]
        fires = firing.at[where][rows]
        a, b, c, d = counts(fires, true[rows], known[rows])
        lift[:, columns] = np.where((b > 0) & (d > 0), spread.ratio(a, b) - spread.ratio(c, d), -np.inf)
        for j, fired in enumerate(fires.T):
            one, none = (_one_each(rows[state], pieces) for state in (fired, ~fired))
            a, b = true[one].sum(0), known[one].sum(0)
            c, d = true[none].sum(0), known[none].sum(0)
            tried = (b > 0) & (d > 0) & (a + c > 0) & (a + c < b + d)
            p[j, columns] = np.where(tried, scipy.stats.hypergeom.sf(a - 1, b + d, a + c, b), np.nan)
    return [_best(*row) for row in zip(lift, holm(p), strict=True)]


def counts(
    fires: NDArray[np.bool_], true: NDArray[np.bool_], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows where a latent fires and a claim holds, where it fires and that is known, and the same where silent ``[L, C]``."""
    fired, holds, said = (part.astype(np.float32) for part in (fires, true & known, known))  # exact below 2 ** 24
    a, b = (np.asarray(fired.T @ part, np.float64) for part in (holds, said))
    return a, b, holds.sum(0, dtype=np.float64) - a, said.sum(0, dtype=np.float64) - b


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's adjusted p-values within each row (Holm 1979); NaN was not tried, and stays."""
    order = np.argsort(p, axis=1)  # NaN last
    tried = np.isfinite(p).sum(1, keepdims=True)
    steps = np.take_along_axis(p, order, 1) * np.maximum(tried - np.arange(p.shape[1]), 1)
    adjusted = np.minimum(np.maximum.accumulate(steps, axis=1), 1)
    out = np.empty_like(p)
    np.put_along_axis(out, order, adjusted, 1)
    return out


def _one_each(rows: NDArray[np.int64], pieces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each piece."""
    return rows[np.unique(pieces[rows], return_index=True)[1]]


def _best(lift: NDArray[np.float64], p: NDArray[np.float64]) -> Explanation:
    significant = np.flatnonzero((p < ALPHA) & (lift > 0))
    if not len(significant):
        return Explanation(ABSTENTION, float(np.nanmin(p)) if np.isfinite(p).any() else 1.0)
    best = int(significant[lift[significant].argmax()])
    return Explanation(describe([CANDIDATES[best]], confidence=1 - float(p[best])), float(p[best]))


def describe(claims: Sequence[Claim], confidence: float) -> Label:
    """A label that says its claims: ``root C``, ``tempo 80-105``."""
    words = [
        f"{claim.model_dump()['kind']} " + "-".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
        for claim in claims
        if (values := [v for name, v in claim.model_dump().items() if name != "kind"])
    ]
    return Label.model_validate(
        {"name": ", ".join(words)[:80], "confidence": confidence, "claims": tuple(claims)},
    )
