"""What a task sees: the held-out clips of one corpus through one generator, and a feature set's code of them.

Shapes: n clips of T frames, d stream width, F features, G pieces (groups), R bootstrap replicates. Row ``c * T + f`` of
a code of all rows is frame f of clip c. Frame probes read `HeldOut.probe_rows` only, so a dense code holds no others: 1,056
columns of all rows would be most of a gigabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from musae.corpora.track import Clip

if TYPE_CHECKING:  # scores are numpy; torch is loaded only by who makes a dictionary or a generator
    from musae.dictionary import Dictionary
    from musae.generators.generator import Generator

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out clips of a corpus with their residual stream at one layer. Compared by identity."""

    corpus: str
    corpus_revision: str
    clips: Sequence[Clip]
    x: NDArray[np.float32]
    """Residual stream ``[n, T, d]``, possibly memory-mapped."""
    codes: NDArray[np.int64]
    """Tokens ``[n, K, T]``, undelayed."""
    times: NDArray[np.float64]
    """Seconds from the clip's start of each row ``[T]``: the end of the newest frame that the step has read."""
    groups: NDArray[np.int64]
    """Piece of each clip ``[n]``, 0 .. G - 1."""
    folds: NDArray[np.int64]
    """Cross-fitting fold of each clip ``[n]``, 0 .. 4; a piece lies in one fold."""
    plan: NDArray[np.float32]
    """Resampling plan ``[R, G]``: how often each piece is drawn in each replicate; fixed by the corpus revision."""
    mean: NDArray[np.float32]
    """Mean of the stream over the training frames ``[d]``."""
    position_means: NDArray[np.float32]
    """Mean of the stream at each position of a clip over the training clips ``[T, d]``."""
    generator: Generator
    layer: int
    probe_frames: int = 50_000
    """At most so many frames are given to the probes of one task."""
    explainer: str = "statistical"
    """Who labels latents (`musae.explainers`)."""
    labelled: int = 200
    """At most so many latents are labelled."""
    _memo: dict[str, object] = field(default_factory=dict, init=False, repr=False)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """`make()`, kept for later callers: for what depends on the data alone and is shared by all feature sets."""
        if key not in self._memo:
            self._memo[key] = make()
        return cast(T, self._memo[key])

    @property
    def period(self) -> float:
        """Seconds from one row to the next."""
        return float(self.times[1] - self.times[0])

    @property
    def pieces(self) -> int:
        """Number of pieces G."""
        return int(self.plan.shape[1])

    @cached_property
    def probe_rows(self) -> NDArray[np.int64]:
        """Rows (into n * T) that frame probes use: every s-th frame of every clip, s the least stride within `probe_frames`."""
        n, frames = self.x.shape[:2]
        stride = max(1, -(-n * frames // self.probe_frames))
        while n * -(-frames // stride) > self.probe_frames:
            stride += 1
        columns = np.arange(frames - 1 - (frames - 1) // stride * stride, frames, stride)
        rows: NDArray[np.int64] = (np.arange(n)[:, None] * frames + columns[None, :]).ravel()
        return rows


@dataclass(frozen=True)
class Features:
    """A feature set's code of `HeldOut`."""

    name: str
    """``latents``, ``residual``, ``codec_step`` or ``codec_means``."""
    code: scipy.sparse.csr_array | NDArray[np.float32]
    """Sparse ``[n * T, F]`` for a sparse dictionary; dense ``[m, F]`` otherwise, the m rows of `rows`. Signed."""
    clip_means: NDArray[np.float32]
    """Mean over all frames of each clip's code ``[n, F]`` (the paper's aggregation)."""
    rows: NDArray[np.int64] | None = None
    """Which rows (into n * T, ascending) a dense code holds: `HeldOut.probe_rows`; None where it holds all."""
    dictionary: Dictionary | None = None
    """The frozen dictionary, where the features are its latents; tasks that read reconstructions need it."""

    @property
    def width(self) -> int:
        """Number of features F."""
        return int(self.code.shape[1])

    def at(self, rows: NDArray[np.int64]) -> scipy.sparse.csr_array | NDArray[np.float32]:
        """The code of some rows (into n * T), in their order ``[len(rows), F]``; the code itself where it holds just these.

        Raises ValueError for a row that a dense code does not hold.
        """
        if self.rows is None:
            return self.code[rows]
        if np.array_equal(rows, self.rows):
            return self.code
        place = np.searchsorted(self.rows, rows)
        held = np.append(self.rows, -1)[place] == rows
        if not held.all():
            raise ValueError(f"features {self.name!r} hold no row {rows[~held][0]}; a dense code holds HeldOut.probe_rows only")
        return self.code[place]

    def sparse_means(self, clips: NDArray[np.int64]) -> scipy.sparse.csr_array | NDArray[np.float32]:
        """`clip_means` of some clips, sparse where the code is: so that a clip on which a latent is silent is no detection."""
        means = self.clip_means[clips]
        return scipy.sparse.csr_array(means) if isinstance(self.code, scipy.sparse.csr_array) else means
