"""Planted data: frames that are sparse sums of known atoms, so that what a dictionary learns can be compared with the truth.

A frame is ``x = a @ atoms + noise``, float32 ``[n, d]``, with rows independent of each other:

- `atoms`: unit vectors drawn uniformly on the sphere, ``[atoms, d]``; more atoms than dimensions, so they interfere;
- which atoms fire: rates follow Zipf's law as Mandelbrot generalised it, ``p_i = c / (i + shift) ** exponent`` for rank i = 1,
  2, ..., with c such that `l0` atoms fire on average. Atoms are dealt at random into groups that fire together: each has a
  Gaussian variable that shares `correlation` of its variance with its group, and fires where that exceeds the quantile of its
  rate (a Gaussian copula);
- how strongly: a lognormal magnitude of mean 1 whose logarithm has standard deviation `spread`; never negative;
- noise: Gaussian, the same in all directions, with ``10 log10(variance of a @ atoms / variance of the noise) = snr_db``. So no
  dictionary can have an FVU below ``1 / (1 + 10 ** (snr_db / 10))`` but by fitting noise.

Rates, correlation and noise are those of SynthSAEBench (arXiv 2602.14687) in kind, not in size. Data of one seed are drawn from
streams that no method's seed can repeat: a stream's name is hashed together with its seed, as in `musae.dictionary.generator`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.special
from numpy.typing import NDArray

from musae.files import atomic_path

VERSION = 1
"""Raised when the same fields would give other numbers."""
CHUNK = 16_384
"""Rows drawn at a time."""


@dataclass(frozen=True)
class Planted:
    """What frames are made of, and how many."""

    atoms: int = 1024
    d: int = 256
    l0: float = 16.0
    """Atoms that fire in a frame, on average."""
    exponent: float = 1.0
    """Of Zipf's law: 1 is the classical one."""
    shift: float = 14.0
    """Mandelbrot's shift of ranks: keeps the most frequent atom's rate at a quarter, where Zipf's own law would put it above
    1."""
    group: int = 8
    """Atoms that fire together."""
    correlation: float = 0.3
    """Of the Gaussian variables of two atoms of a group."""
    spread: float = 0.4
    snr_db: float = 15.0
    frames: int = 2**20
    """For training."""
    heldout: int = 2**15
    """For scoring."""

    @property
    def k(self) -> int:
        """The sparsity that dictionaries are given: the mean number of atoms that fire, rounded."""
        return round(self.l0)

    def rates(self) -> NDArray[np.float64]:
        """How often each atom fires ``[atoms]``, most frequent first; they sum to `l0`."""
        weights = (np.arange(1, self.atoms + 1) + self.shift) ** -self.exponent
        rates: NDArray[np.float64] = self.l0 * weights / weights.sum()
        return rates

    def digest(self, seed: int) -> str:
        """Ten hex digits over all that the data of a seed depend on."""
        return hashlib.sha256(json.dumps([VERSION, asdict(self), seed], sort_keys=True).encode()).hexdigest()[:10]


class Source:
    """Draws of one seed: the same whoever asks, in whatever order of purposes."""

    def __init__(self, of: Planted, seed: int) -> None:
        self.of, self.seed = of, seed
        directions = stream("atoms", seed).standard_normal((of.atoms, of.d))
        self.atoms: NDArray[np.float32] = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        """Float32 ``[atoms, d]``, the most frequent first."""
        self.groups: NDArray[np.int64] = stream("groups", seed).permutation(np.arange(of.atoms) // of.group)
        """Group of each atom ``[atoms]``."""
        self.thresholds = scipy.special.ndtri(1 - of.rates()).astype(np.float32)
        signal = self.codes(CHUNK, stream("noise level", seed)) @ self.atoms
        power = float(signal.var(axis=0, dtype=np.float64).sum())
        self.noise = float(np.sqrt(power / of.d / 10 ** (of.snr_db / 10)))
        """Standard deviation of the noise in each coordinate."""

    def codes(self, rows: int, random: np.random.Generator) -> scipy.sparse.csr_array:
        """True codes, float32 CSR ``[rows, atoms]``."""
        shared = random.standard_normal((rows, int(self.groups.max()) + 1), dtype=np.float32)
        level = random.standard_normal((rows, self.of.atoms), dtype=np.float32)
        level *= np.float32(np.sqrt(1 - self.of.correlation))
        level += np.float32(np.sqrt(self.of.correlation)) * shared[:, self.groups]
        fires = scipy.sparse.csr_array(level > self.thresholds, dtype=np.float32)
        logarithms = self.of.spread * random.standard_normal(fires.nnz) - self.of.spread**2 / 2
        fires.data = np.exp(logarithms).astype(np.float32)
        return fires

    def chunks(self, rows: int, purpose: str) -> Iterator[tuple[NDArray[np.float32], scipy.sparse.csr_array]]:
        """Frames and their true codes, `CHUNK` rows at a time."""
        random = stream(purpose, self.seed)
        for start in range(0, rows, CHUNK):
            codes = self.codes(min(CHUNK, rows - start), random)
            noise = random.standard_normal((codes.shape[0], self.of.d), dtype=np.float32)
            yield codes @ self.atoms + np.float32(self.noise) * noise, codes


def stream(purpose: str, seed: int) -> np.random.Generator:
    """The random numbers for one purpose."""
    digest = hashlib.sha256(f"planted data: {purpose} {seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def write(root: Path, of: Planted, seed: int) -> Path:
    """Write one seed's files, unless they are there; returns their folder.

    ``train.npy [frames, d]`` and ``heldout.npy [heldout, d]``, float32; ``atoms.npy [atoms, d]``; ``codes.npz``, the held-out
    frames' true codes as `scipy.sparse.save_npz` writes them. The last one is written last.
    """
    folder = root / f"seed-{seed}-{of.digest(seed)}"
    if (folder / "codes.npz").exists():
        return folder
    source = Source(of, seed)
    with atomic_path(folder / "train.npy") as temporary:
        frames = np.lib.format.open_memmap(temporary, "w+", np.float32, (of.frames, of.d))
        for number, (x, _) in enumerate(source.chunks(of.frames, "train")):
            frames[number * CHUNK : number * CHUNK + len(x)] = x
        frames.flush()
    heldout = list(source.chunks(of.heldout, "heldout"))
    for name, array in (("atoms.npy", source.atoms), ("heldout.npy", np.concatenate([x for x, _ in heldout]))):
        with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    with atomic_path(folder / "codes.npz") as temporary, temporary.open("wb") as file:
        scipy.sparse.save_npz(file, scipy.sparse.vstack([codes for _, codes in heldout], "csr"))
    return folder
