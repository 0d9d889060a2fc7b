"""My task: the share of clips in which any feature is active.

Say here what is scored, on what, and how chance is measured. The unit is the piece: intervals come from resampling pieces.
"""

from __future__ import annotations

import numpy as np

from musae.card import TaskCard
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import Score

CARD = TaskCard(
    name="my_task",
    summary="share of clips in which any feature is active",
    version=1,
    main=("active_clips",),
    direction={"active_clips": "none"},
    reads=("codes",),
)
"""Read from the source, without importing it: every argument must be a literal. A score's meaning changes: raise `version`."""


def score(features: Features, data: HeldOut) -> list[Score]:
    """Scores of a feature set: sums over the clips of each piece, and what is made of their total."""
    active = (features.clip_means != 0).any(1)
    sums = spread.piece_sums(np.stack([active, np.ones(len(active))], 1), data.groups, data.pieces)
    return [spread.estimate("active_clips", sums, spread.mean, data.plan, keep=True, pieces=data.pieces)]
