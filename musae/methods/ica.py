"""Independent components (FastICA: Hyvärinen & Oja 2000) as a dictionary: of each frame's sources the k of largest magnitude.

Frames are whitened on their principal components, and FastICA (scikit-learn; symmetric, contrast log cosh) rotates the white
scores until their sources are as far from Gaussian as they get. Whitening and rotation are folded into one linear read-out, and
atoms are scaled to norm 1: a source's value is the length that it writes, so that sources are selected by what they contribute
(at unit variance, the faintest directions of the stream would be selected as often as the strongest). Values are signed; an
atom's sign makes its largest entry positive, and atoms stand in falling order of variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode

CARD = MethodCard(
    name="ica",
    summary="independent components (FastICA); the k sources of largest magnitude of each frame, signed",
    paper="Hyvärinen & Oja 2000, doi 10.1016/S0893-6080(00)00026-5",
)

FLAT = 1e-7
"""Components whose variance is below this share of the largest are left out: whitening would blow up their rounding."""


class Ica(Dictionary):
    """min(width, d) independent components about the mean of the frames."""

    name = CARD.name

    def __init__(
        self, width: int = 2048, k: int = 32, seed: int = 0, frames: int = 65_536, iterations: int = 200, tolerance: float = 1e-3
    ) -> None:
        """`width`: at most so many components (there are d); `k`: sources kept a frame; `seed`: of the frames drawn and of the
        rotation that the search starts from.

        `frames`: it learns from at most so many: FastICA holds all of them in memory and reads them in every iteration, and a
        rotation of d dimensions has d (d - 1) / 2 numbers, half as many as these frames have for d = 256. `iterations`,
        `tolerance`: it stops after so many, or when no row of the rotation turns by more than about sqrt(2 tolerance) any more.
        """
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.frames = frames
        self.iterations = iterations
        self.tolerance = tolerance

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        from sklearn.decomposition import FastICA
        from sklearn.exceptions import ConvergenceWarning

        self.tensors = {}  # the width asked for counts, not how many components an earlier fit found
        self.check_sizes()
        mean, sample = frames.mean(), frames.sample(self.frames, self.seed)
        self.check_finite(sample, frames)
        x = sample - mean
        variances, axes = torch.linalg.eigh((x.T @ x).double() / len(x))
        kept = variances > FLAT * variances[-1]
        kept[: -self.width] = False
        whitening = (axes[:, kept] / variances[kept].sqrt()).T
        white = (x.double() @ whitening.T).numpy()  # in single precision the symmetric orthogonalisation diverges
        search = FastICA(whiten=False, random_state=self.seed, max_iter=self.iterations, tol=self.tolerance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # how far it came is noted in `trained`
            search.fit(white)
        unmixing = torch.from_numpy(search.components_).double()
        atoms = (axes[:, kept] * variances[kept].sqrt() @ torch.linalg.inv(unmixing)).T
        lengths = torch.linalg.vector_norm(atoms, dim=1, keepdim=True)
        scale = lengths * atoms.gather(1, atoms.abs().argmax(1, keepdim=True)).sign()
        order = lengths.flatten().argsort(descending=True)
        self.tensors = {
            "W_enc": (scale * (unmixing @ whitening))[order].float().contiguous(),
            "W_dec": (atoms / scale)[order].float().contiguous(),
            "b_dec": mean,
        }
        for report in reports:
            report({"step": search.n_iter_, "steps": search.n_iter_})
        self.trained = {"frames": len(x), "store": frames.identity, "iterations": int(search.n_iter_)}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        return SparseCode.from_scores((self.checked(x) - self.bias) @ self._tensor("W_enc").T, self.k)


METHOD = Ica
