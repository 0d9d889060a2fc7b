"""Sparsity: how many latents fire, how often each does, and how many the paper's filter keeps.

A latent fires in a frame where its code is not zero. All figures are over the held-out clips; intervals are over
pieces.

- ``l0``: latents that fire in a frame, on average.
- ``dead_fraction``: share of latents that never fire.
- ``density``: share of latents whose rate (share of frames in which it fires) lies in each decade; one row per decade.
- ``filter_survivors``, ``filter_share``: latents with 0.01 <= r <= 0.25, r the share of *clips* on which the latent
  fires at all, and their share of all latents (Singh, Cherep, Maes, arXiv 2505.18186: the latents that the paper goes
  on to label).

A latent that fires in one piece only is dead in a third of the bootstrap's replicates: those of counts are centred on
the count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import Score

CARD = TaskCard(
    name="sparsity",
    summary="L0, dead fraction, density histogram, and how many latents the paper's filter keeps.",
    version=1,
    main=("l0", "dead_fraction", "filter_survivors"),
    direction={"l0": "none", "dead_fraction": "lower", "filter_survivors": "none"},
    reads=("codes",),
)

FILTER = (0.01, 0.25)
"""Lowest and highest share of clips of a latent that the paper keeps."""

DECADES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Upper ends of the bins of `density`; latents that never fire are in `dead_fraction`."""


def score(features: Features, data: HeldOut) -> list[Score]:
    """Counts of firing latents; unscored for dense features, where everything always fires."""
    if not isinstance(features.code, scipy.sparse.csr_array):
        return [Score(m, None, "dense: all of it is always active") for m in CARD.main]
    n, frames = data.x.shape[:2]
    width, pieces = features.width, data.pieces
    at: dict[str, Any] = {"pieces": len(np.unique(data.groups))}
    clip = np.repeat(np.arange(n), np.diff(features.code.indptr[::frames]))
    fires = np.bincount(clip * width + features.code.indices, minlength=n * width).reshape(n, width)
    member = scipy.sparse.csr_array((np.ones(n), (data.groups, np.arange(n))), (pieces, n))
    clips, in_frames, in_clips = member.sum(1), (member @ fires).astype(np.float32), (member @ (fires > 0)).astype(np.float32)

    plan = spread.with_total(data.plan)
    drawn = plan @ clips
    rate, clip_rate = spread.ratio(plan @ in_frames, drawn[:, None] * frames), spread.ratio(plan @ in_clips, drawn[:, None])
    kept = ((clip_rate >= FILTER[0]) & (clip_rate <= FILTER[1])).sum(1).astype(np.float64)
    return [
        spread.summarise("l0", rate.sum(1), keep=True, **at),
        spread.summarise("dead_fraction", (rate == 0).mean(1), keep=True, centre=True, **at),
        spread.summarise("filter_survivors", kept, keep=True, centre=True, **at),
        spread.summarise("filter_share", kept / width, centre=True, **at),
        *(spread.summarise("density", share, label=label, centre=True, **at) for label, share in _density(rate)),
    ]


def _density(rate: NDArray[np.float64]) -> list[tuple[str, NDArray[np.float64]]]:
    """Share of latents in each decade of rates ``[1 + R, F]``, under the decade's name."""
    lows = (0.0, *DECADES[:-1])
    return [
        (f"{low:.0e} < rate <= {high:.0e}", ((rate > low) & (rate <= high)).mean(1))
        for low, high in zip(lows, DECADES, strict=True)
    ]
