"""Who takes part: musae's methods and controls, and for each method the other libraries that have the same architecture.

All get the same frames once, in batches of the same size, the same number of latents (that of the planted atoms: with more, an
atom could be found twice, with fewer not all could be) and the same k. For the rest a peer has its library's settings (see the
files of the libraries), of which two are chosen on other planted data (`musae.bench.planted.tuning`), since libraries give them
for runs a hundred times as long and for other scales of activations: the learning rate, and the coefficient of a penalty on
sparsity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OWN = "musae"


@dataclass(frozen=True)
class Contestant:
    """A method as a library implements it."""

    library: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Options for the constructor in the library's file."""
    rates: tuple[float, ...] = ()
    """Learning rates that are tried: the library's own default first. Empty: nothing is tried."""
    penalty: str = ""
    """The option that holds the coefficient of the penalty on sparsity; empty where k is given instead."""
    start: float = 0.0
    """The coefficient that its search starts from."""

    @property
    def name(self) -> str:
        return f"{self.library}/{self.method}"

    @property
    def own(self) -> bool:
        return self.library == OWN

    @property
    def file(self) -> Path:
        """The file that runs it."""
        return HERE / f"{self.library}_sae.py"


_RATES = (5e-3, 1e-2)
"""Most of musae's methods learn at these rates in runs of this length. A library's own is for runs a hundred times as long: where
it was tried, it was far behind."""
_DL = "dictionary_learning"

PEERS = (
    Contestant(_DL, "topk", rates=(8e-4, *_RATES)),
    Contestant(_DL, "batch_topk", rates=_RATES),
    Contestant(_DL, "matryoshka", rates=_RATES),
    Contestant(_DL, "relu", rates=(1e-3, *_RATES), penalty="l1_penalty", start=0.3),
    Contestant(_DL, "gated", rates=_RATES, penalty="l1_penalty", start=0.1),
    Contestant(_DL, "p_anneal", rates=_RATES, penalty="initial_sparsity_penalty", start=0.1),
    Contestant(_DL, "jumprelu", rates=_RATES, penalty="sparsity_penalty", start=1.0),
    Contestant("saelens", "matching_pursuit", rates=(1e-2, 2e-2, 4e-2, 5e-2)),
    Contestant("sparsify", "topk", {"optimizer": "adam", "auxk_alpha": 1 / 32}, rates=_RATES),
    Contestant("saelens", "topk", rates=_RATES),
    Contestant("overcomplete", "topk", rates=_RATES),
)
"""In the order in which they run: one of each method first."""

METHODS = ("topk", "batch_topk", "matryoshka", "relu", "gated", "p_anneal", "jumprelu", "matching_pursuit")
CONTROLS = ("random", "permuted_decoder", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder")
CLASSICAL = ("pca", "ica", "kmeans")
NAMES = (*METHODS, *CLASSICAL, *CONTROLS)
"""What of musae takes part. `temporal` does not: rows of planted data are independent, so there is nothing for it to see."""
