"""The share of clips in which more than one feature is active."""

import numpy as np

from musae.card import TaskCard
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import Score

CARD = TaskCard(
    name="busy_clips",
    summary="share of clips in which more than one feature is active",
    version=1,
    main=("busy",),
    direction={"busy": "higher"},
    reads=("codes",),
)


def score(features: Features, data: HeldOut) -> list[Score]:
    busy = (features.clip_means != 0).sum(1) > 1
    sums = spread.piece_sums(np.stack([busy, np.ones(len(busy))], 1), data.groups, data.pieces)
    return [spread.estimate("busy", sums, spread.mean, data.plan, keep=True, pieces=data.pieces)]
