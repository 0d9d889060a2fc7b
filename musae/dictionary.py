"""The contract of a dictionary: sparse codes, feature sets, sources of training frames; saving and loading.

Shapes: n frames (rows), d width of the residual stream, F = `width` features, k active latents a frame. Frames are float32
``[n, d]``, one decoding step of the generator a row. A dictionary writes a frame as ``x ~ bias + sum_f code_f * atom_f``.

Hyper-parameters enter the constructor and are stored verbatim under their own names; data enters in `fit` (scikit-learn's
habit). What `fit` learns is a dict of float32 tensors, `Dictionary.tensors`, in the frame of raw inputs: scaling is folded in by
`freeze`, and so are rules that depend on a batch. Encoding, saving and hashing read these frozen tensors only.

A saved dictionary is one safetensors file whose header carries its JSON metadata; it is written under a temporary name and
renamed, and its content hash is checked when it is loaded.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, cast, runtime_checkable

import scipy.sparse
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from musae import registry
from musae.activations.shuffle import sequences_per_clip
from musae.errors import UserError
from musae.files import atomic_path
from musae.kernels.portable import select

FORMAT = 1
"""Version of the file format and of the content hash."""

Context = Literal["frame", "causal"]
"""``frame``: a row's features depend on that row alone; ``causal``: on it and on earlier rows of its clip."""

Budget = Literal["frame", "mean"]
"""What a dictionary's k holds: at most k latents in every frame (TopK), or k on average over frames (BatchTopK, penalties)."""

Source = Literal["stream", "tokens"]
"""What a feature set is given: the residual stream, or the codewords of the tokens visible at each step."""

Report = Callable[[Mapping[str, float]], None]
"""Receives figures of a fit as it goes: ``step``, ``steps``, ``loss``, ``fvu``, ``l0``, ... (whatever the method measures)."""


@dataclass(frozen=True)
class SparseCode:
    """A sparse code in CSR form: row i holds ``indices[offsets[i]:offsets[i + 1]]``, ascending, with their signed values.

    No zero is stored. Build one with `from_topk` or `from_dense`.
    """

    values: Tensor
    """Non-zero values, float ``[nnz]``."""
    indices: Tensor
    """Latents, int64 ``[nnz]``, ascending within a row."""
    offsets: Tensor
    """Where each row starts, and the end: int64 ``[rows + 1]``."""
    width: int
    """Number of latents F."""

    @classmethod
    def from_topk(cls, values: Tensor, indices: Tensor, width: int) -> Self:
        """From ``[n, k]`` values and indices in any order; slots whose value is 0 are dropped, whatever their index."""
        kept = values != 0
        order = indices.masked_fill(~kept, width).argsort(dim=1)
        kept = kept.gather(1, order)
        offsets = functional.pad(kept.sum(1).cumsum(0), (1, 0))
        return cls(values.gather(1, order)[kept], indices.gather(1, order)[kept].long(), offsets, width)

    @classmethod
    def from_dense(cls, dense: Tensor) -> Self:
        """From a dense code ``[n, F]``."""
        rows, indices = dense.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=dense.shape[0])
        return cls(dense[rows, indices], indices, functional.pad(counts.cumsum(0), (1, 0)), dense.shape[1])

    @classmethod
    def from_scores(cls, scores: Tensor, k: int) -> Self:
        """From signed scores ``[n, F]``: of each row the k of largest magnitude (all of them where F is less)."""
        magnitudes, indices = select(scores.abs(), min(k, scores.shape[1]))
        return cls.from_topk(magnitudes * scores.gather(1, indices).sign(), indices, scores.shape[1])

    @classmethod
    def concat(cls, codes: Sequence[SparseCode]) -> Self:
        """Rows of several codes of one width, one after the other."""
        counts = torch.cat([code.offsets.diff() for code in codes])
        offsets = functional.pad(counts.cumsum(0), (1, 0))
        values, indices = torch.cat([code.values for code in codes]), torch.cat([code.indices for code in codes])
        return cls(values, indices, offsets, codes[0].width)

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return self.offsets.shape[0] - 1

    def fixed_k(self) -> tuple[Tensor, Tensor]:
        """Values and indices viewed as ``[n, k]``. Raises ValueError unless every row has the same number of latents."""
        counts = self.offsets.diff()
        if self.rows and bool((counts != counts[0]).any()):
            raise ValueError(f"rows have between {int(counts.min())} and {int(counts.max())} latents: no [n, k] view exists")
        k = int(counts[0]) if self.rows else 0
        return self.values.view(self.rows, k), self.indices.view(self.rows, k)

    def dense(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows ``start`` to ``stop`` as a dense tensor ``[stop - start, F]``; ask for a chunk at a time."""
        stop = self.rows if stop is None else min(stop, self.rows)
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        dense = self.values.new_zeros(stop - start, self.width)
        rows = torch.arange(stop - start, device=dense.device).repeat_interleave(self.offsets[start : stop + 1].diff())
        dense[rows, self.indices[low:high]] = self.values[low:high]
        return dense

    def to_scipy(self) -> scipy.sparse.csr_array:
        """The same as a float32 `scipy.sparse.csr_array` ``[n, F]`` with sorted indices."""
        parts = tuple(t.detach().cpu().numpy() for t in (self.values.float(), self.indices, self.offsets))
        return scipy.sparse.csr_array(parts, shape=(self.rows, self.width))


class FrameSource(Protocol):
    """Where training frames come from: an activation store on disk, or `TensorFrames`.

    A source may also offer ``locate_nonfinite() -> str``, which names the shard and row of its first NaN or infinity.
    """

    @property
    def d(self) -> int:
        """Width of a frame."""

    @property
    def frames(self) -> int:
        """Number of frames."""

    @property
    def identity(self) -> str:
        """What the frames are, for a dictionary's metadata: a hash of the store's contents."""

    def mean(self) -> Tensor:
        """Mean over all frames, float32 ``[d]``."""

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        """Shuffled batches, float32 ``[b, d]``: every frame once an epoch; only the last batch of an epoch may be smaller.

        The same arguments give the same batches; `start_step` skips the first batches, so that a training resumes exactly.
        """

    def sample(self, n: int, seed: int) -> Tensor:
        """At most n frames drawn without replacement, float32 ``[min(n, frames), d]``; the same for the same seed."""


@runtime_checkable
class SequenceSource(FrameSource, Protocol):
    """A `FrameSource` that knows which frames follow each other: what methods learn from that look at more than one frame."""

    @property
    def frames_per_clip(self) -> int:
        """Frames T of each clip."""

    def sequences(self, batch_size: int, length: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        """Shuffled batches of sequences, float32 ``[b, length, d]``: frames that follow each other in one clip.

        A clip is cut into ``T // length`` sequences from its start on, and what is left over is not used; every sequence comes
        once an epoch. Otherwise as `batches`, with `batch_size` counted in sequences. Raises UserError for a length that no clip
        has.
        """


@runtime_checkable
class LabelledSource(FrameSource, Protocol):
    """A `FrameSource` that knows what sounds in its frames: what methods of role ``supervised`` learn from."""

    def labelled(self, n: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """At most n frames drawn without replacement, float32 ``[m, d]``, and concept -> their classes, int64 ``[m]``.

        Classes count from 0; -1 is a frame that is not labelled. A concept of two classes is a question: 1 is yes.
        """


class TensorFrames:
    """A `FrameSource` over one tensor in memory."""

    def __init__(self, x: Tensor, identity: str = "memory", frames_per_clip: int | None = None) -> None:
        """`x`: finite or not, any float dtype, ``[n, d]`` with n > 0; `identity`: what to call it in metadata.

        `frames_per_clip`: where the rows are clips of so many frames, one after the other: it is then a `SequenceSource`, too.
        """
        if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
            raise UserError(f"TensorFrames wants frames of shape [n, d] with n > 0 and d > 0, not {list(x.shape)}; reshape x.")
        self._x = x.detach().float()
        self.d = x.shape[1]
        self.frames = x.shape[0]
        self.identity = identity
        if frames_per_clip is not None and (frames_per_clip < 1 or self.frames % frames_per_clip):
            raise UserError(
                f"TensorFrames: {self.frames} frames are no whole number of clips of {frames_per_clip}; give another."
            )
        self._frames_per_clip = frames_per_clip

    @property
    def frames_per_clip(self) -> int:
        if self._frames_per_clip is None:
            raise UserError(f"frames {self.identity!r} do not say how they follow each other; give TensorFrames frames_per_clip.")
        return self._frames_per_clip

    def mean(self) -> Tensor:
        return self._x.mean(0, dtype=torch.float64).float()

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        return _shuffled(self._x, batch_size, seed, epochs, start_step)

    def sequences(self, batch_size: int, length: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        count = sequences_per_clip(self.frames_per_clip, length)
        x = self._x.view(-1, self.frames_per_clip, self.d)[:, : count * length]
        return _shuffled(x.reshape(-1, length, self.d), batch_size, seed, epochs, start_step)

    def sample(self, n: int, seed: int) -> Tensor:
        return self._x[torch.randperm(self.frames, generator=generator("sample", seed))[:n]]

    def locate_nonfinite(self) -> str:
        bad = (~self._x.isfinite()).any(1).nonzero()
        return f"row {int(bad[0])} of {self.identity}" if len(bad) else ""


def _shuffled(x: Tensor, batch_size: int, seed: int, epochs: int, start_step: int) -> Iterator[Tensor]:
    """The rows of a tensor in batches, in another order each epoch; see `FrameSource.batches`."""
    per_epoch = -(-len(x) // batch_size)
    for epoch in range(start_step // per_epoch, epochs):
        order = torch.randperm(len(x), generator=generator(f"epoch {epoch}", seed))
        first = max(0, start_step - epoch * per_epoch)
        for start in range(first * batch_size, len(x), batch_size):
            yield x[order[start : start + batch_size]]


class LabelledTensorFrames(TensorFrames):
    """A `LabelledSource` over tensors in memory."""

    def __init__(
        self, x: Tensor, labels: Mapping[str, Tensor], identity: str = "memory", frames_per_clip: int | None = None
    ) -> None:
        """`labels`: concept -> class of each frame, int ``[n]``, -1 where it has none; the rest as `TensorFrames`."""
        super().__init__(x, identity, frames_per_clip)
        for concept, classes in labels.items():
            if classes.shape != (self.frames,):
                raise UserError(
                    f"labels of {concept!r} have shape {list(classes.shape)}; give one class a frame, [{self.frames}]."
                )
        self._labels = {concept: classes.long() for concept, classes in labels.items()}

    def labelled(self, n: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rows = torch.randperm(self.frames, generator=generator("sample", seed))[:n]
        return self._x[rows], {concept: classes[rows] for concept, classes in self._labels.items()}


class FeatureSet(ABC):
    """Features of frames: a dictionary's latents, or a baseline such as the raw residual."""

    name: ClassVar[str]
    """The name in the registry (`musae list methods`); `load` finds the class by it."""
    context: ClassVar[Context] = "frame"
    source: ClassVar[Source] = "stream"

    width: int
    """Number of features F."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Number of columns d that `encode` expects."""

    @abstractmethod
    def encode(self, x: Tensor) -> SparseCode | Tensor:
        """Features of frames: a `SparseCode` or a dense tensor ``[rows, F]``.

        `x` is ``[n, d]`` for context ``frame``, and ``[clips, T, d]`` for ``causal``, whose rows come out as ``[clips * T, F]``.
        Raises UserError for another shape, and for NaN or infinite values.
        """

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as they were given; a subclass adds those that it takes as ``**options``."""
        arguments = inspect.signature(type(self)).parameters.items()
        return {name: getattr(self, name) for name, argument in arguments if argument.kind is not argument.VAR_KEYWORD}

    @property
    def content_hash(self) -> str:
        """Twelve hex digits over method, hyper-parameters and (of a dictionary) tensors: the identity on the board."""
        return _hash(self.name, self.config(), {})

    def checked(self, x: Tensor) -> Tensor:
        """`x` as contiguous float32, once it has the right shape and is finite. For the first line of `encode`."""
        shape = f"[n, {self.inputs}]" if self.context == "frame" else f"[clips, T, {self.inputs}]"
        if x.ndim != shape.count(",") + 1 or x.shape[-1] != self.inputs:
            raise UserError(f"{self.name}.encode wants {self.source} rows of shape {shape}, not {list(x.shape)}; reshape x.")
        x = x.detach().to(torch.float32).contiguous()
        if not bool(x.isfinite().all()):
            row = int((~x.isfinite()).flatten(0, -2).any(1).nonzero()[0])
            raise UserError(f"{self.name}.encode: row {row} of x holds NaN or an infinity; harvest these frames again.")
        return x


class Dictionary(FeatureSet):
    """A feature set with atoms: ``x ~ code @ atoms + bias``. A method subclasses it with a constructor, `fit` and `encode`.

    The constructor takes at least `width`, `k` and `seed`, and calls ``super().__init__()``. `fit` ends with `freeze`, which
    must leave ``W_dec [F, d]`` and ``b_dec [d]`` (and whatever `encode` needs) in `tensors`.
    """

    budget: Budget = "frame"
    """What `k` holds; an L0 that is only held on average is measured, and stands on the board beside k."""
    k: int
    """Active latents of a frame: at most so many in each, or so many on average; see `budget`."""
    seed: int

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        """Frozen parameters, float32, in the frame of raw inputs; empty before `fit`."""
        self.trained: dict[str, Any] = {}
        """What it was fitted on: ``frames`` (seen, over all epochs) and ``store`` (the source's identity)."""

    @property
    def width(self) -> int:
        """Number of latents F. Once fitted, the number of atoms, which may be less than was asked for (PCA makes at most d)."""
        return len(self.tensors["W_dec"]) if "W_dec" in self.tensors else self._width

    @width.setter
    def width(self, width: int) -> None:
        self._width = width

    def config(self) -> dict[str, Any]:
        return super().config() | {"width": self._width}

    @abstractmethod
    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        """Learn from frames, freeze, return self.

        `folder`: where a method that trains in steps keeps its log and its checkpoints, and resumes from them; closed forms write
        nothing. `reports` receive figures as the fit goes. Raises UserError for frames that it cannot learn from.
        """

    @abstractmethod
    def encode(self, x: Tensor) -> SparseCode:
        """Sparse code of frames; see `FeatureSet.encode`. At most k latents a row where `budget` is ``frame``."""

    def freeze(self) -> Self:
        """Turn the present state of learning into `tensors`. The default only checks that there are some."""
        self._tensor("W_dec")
        return self

    @property
    def inputs(self) -> int:
        return self._tensor("W_dec").shape[1]

    @property
    def atoms(self) -> Tensor:
        """Directions that the latents write, float32 ``[F, d]``."""
        return self._tensor("W_dec")

    @property
    def bias(self) -> Tensor:
        """What an empty code decodes to, float32 ``[d]``."""
        return self._tensor("b_dec")

    def decode(self, code: SparseCode) -> Tensor:
        """Reconstruction ``[n, d]`` of a code of this width."""
        if code.width != len(self.atoms):
            raise UserError(
                f"{self.name}.decode: the code has {code.width} latents, the dictionary {len(self.atoms)}; encode with it first."
            )
        weights = code.values.to(self.atoms.dtype)
        bags = functional.embedding_bag(
            code.indices, self.atoms, code.offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
        return bags.add_(self.bias)

    @property
    def content_hash(self) -> str:
        return _hash(self.name, self.config(), self.tensors)

    def save(self, path: Path | str) -> Path:
        """Freeze and write one safetensors file, atomically. Raises UserError when the disk is full."""
        path = Path(path)
        if not self.tensors:
            self.freeze()
        metadata = {
            "format": FORMAT,
            "method": self.name,
            "config": self.config(),
            "inputs": self.inputs,
            "width": len(self.atoms),
            "trained": self.trained,
            "hash": self.content_hash,
        }
        with atomic_path(path) as temporary:
            save_file(self.tensors, temporary, metadata={"musae": json.dumps(metadata)})
        return path

    def check_sizes(self) -> None:
        """Raise UserError unless 0 < k <= width. For the first line of `fit`."""
        if not 0 < self.k <= self.width:
            raise UserError(f"{self.name}: k = {self.k} must lie between 1 and the width, {self.width}; choose another k.")

    def check_finite(self, x: Tensor, frames: FrameSource) -> None:
        """Raise UserError, naming the bad frame where the source can, unless a batch of training frames is finite."""
        if not bool(x.isfinite().all()):
            where = getattr(frames, "locate_nonfinite", str)()
            raise UserError(f"{self.name}: the frames hold NaN or an infinity ({where or frames.identity}); harvest them again.")

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise UserError(f"this {self.name} dictionary has no {name} yet; call fit, or load a fitted one, first.")
        return self.tensors[name]


def load(path: Path | str) -> Dictionary:
    """A saved dictionary of any method, found by its name in the registry.

    Raises UserError for a file that is missing, damaged, no dictionary, or of an unknown method or format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the file that a dictionary was saved to.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata(json.loads((file.metadata() or {})["musae"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a saved dictionary, or damaged ({error}); delete it and train it again.") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: format {metadata.get('format')} is unknown to this musae, which reads {FORMAT}; upgrade musae.")
    cls = registry.load("methods", metadata["method"]).METHOD
    try:
        dictionary = cast(Dictionary, cls(**metadata["config"]))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: {metadata['method']} takes other hyper-parameters here ({error}); use the musae that saved it."
        ) from error
    dictionary.tensors, dictionary.trained = tensors, metadata["trained"]
    if _hash(metadata["method"], metadata["config"], tensors) != metadata["hash"]:
        raise UserError(f"{path}: its tensors do not match their checksum {metadata['hash']}; delete it and train it again.")
    return dictionary


def _metadata(found: Any) -> dict[str, Any]:
    """A saved dictionary's metadata. Raises ValueError where it has another shape."""
    wanted = {"method": str, "config": dict, "trained": dict, "hash": str}
    if not isinstance(found, dict) or "format" not in found:
        raise ValueError("its metadata name no format")
    if found["format"] == FORMAT:
        for name, kind in wanted.items():
            if not isinstance(found.get(name), kind):
                raise ValueError(f"its metadata have no {name}, or one of another type")
    return found


def generator(purpose: str, seed: int) -> torch.Generator:
    """A random generator for a purpose: purposes of one seed draw independently, so that no start can equal planted data."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _hash(method: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, method, config], sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
