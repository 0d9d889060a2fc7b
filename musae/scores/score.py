"""What a task returns: a value with its interval, its replicates, and what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

CHANCE = "chance"
"""Control: the best answer that reads no feature, measured on the same clips with the same metric."""

PERMUTED = "permuted_labels"
"""Control: the same probe, fitted and scored on whole label tracks permuted between pieces."""


@dataclass(frozen=True)
class Score:
    """One number of a task, or the reason why there is none."""

    metric: str
    """The metric's name in the field's terms, with its variant: ``wcsr_root``, ``fvu``, ``f1_root``."""
    value: float | None
    """The score over all scored pieces; None when it is unscored."""
    reason: str = ""
    """Why it is unscored; empty otherwise."""
    low: float | None = None
    """Lower end of the 95 % percentile interval of the piece bootstrap."""
    high: float | None = None
    """Upper end of the same interval."""
    replicates: NDArray[np.float32] | None = None
    """Bootstrap replicates ``[R]`` from the corpus's resampling plan; kept for main scores."""
    k: int | None = None
    """Latents per class that the probe may read; None where no probe is limited."""
    control: str = ""
    """Which null or ablation this row is: ``chance``, ``permuted_labels``, ...; empty for the score itself."""
    truth: str = ""
    """Level of truth of the labels (`musae.corpora.track.Truth`); empty where no label is read."""
    label: str = ""
    """The class, codebook or bin that the number is about; empty for the whole."""
    pieces: int = 0
    """How many pieces (groups) it was measured on: the n of the interval."""

    def on(self, **changes: object) -> Score:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
