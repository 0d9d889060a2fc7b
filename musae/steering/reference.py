"""Frames of training clips with what sounds in them: from these come candidates, beta, inactive latents and probe directions.

Annotated concepts take their labels from the corpus (`musae.labelled`), register from the exact notes that sound at each frame:
the upper third of the frames against the lower third. Where a corpus has neither, labels come from an ear on the codec's audio of
whole clips, again the outer thirds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from musae.dictionary import Dictionary, LabelledTensorFrames, SparseCode
from musae.generators.generator import Generator
from musae.labelled import LabelledStore
from musae.methods.probe_directions import ProbeDirections
from musae.steering import arrays, lessons
from musae.steering.concepts import Concept, extremes, labels_of
from musae.steering.ears import Ear

FRAMES = 32_768
"""Frames drawn from the annotated training clips: a hundred for each dimension of a stream of 256."""

HEARD = 128
"""Training clips that are listened to for concepts without annotation."""

CHUNK = 4096
"""Frames encoded at once."""

LEAST = 20
"""Frames in which a candidate must be active."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Frames ``x [n, d]`` and, by the name of each concept, 1 (holds), 0 or -1 (not known) ``[n]``."""

    x: Tensor
    labels: Mapping[str, Tensor]

    @property
    def spread(self) -> float:
        """Root mean square distance of frames from their mean: the unit of steering strengths."""
        return float((self.x - self.x.mean(0)).square().sum(1).mean().sqrt())


def gather(
    store: LabelledStore, generator: Generator, concepts: Sequence[Concept], ears: Mapping[str, Ear], folder: Path
) -> Reference:
    """The reference frames of a store of training clips; concepts of which nothing is known get no labels.

    The annotated frames are kept in `folder`: to make the tracks of all clips takes a minute or more.
    """
    x, classes, pitch = _annotated(store, folder / f"reference-{store.identity}.npz")
    labels = {c.name: found for c in concepts if (found := labels_of(c, classes)) is not None}
    if np.isfinite(pitch).any():
        labels |= {c.name: extremes(pitch.tolist(), c.sign) for c in concepts if c.kind == "register"}
    rest = [c for c in concepts if c.name not in labels and c.kind in ears]
    if not rest:
        return Reference(x, labels)
    chosen = np.sort(np.random.default_rng(0).choice(len(store.tokens), min(HEARD, len(store.tokens)), replace=False))
    clips = torch.cat(list(store.clips(chosen)))
    audio = [generator.decode(store.tokens.tensor([i]))[0].numpy() for i in chosen]
    heard = {kind: np.array([ears[kind].hear(wave, generator.card.rate) for wave in audio]) for kind in {c.kind for c in rest}}
    frames = clips.shape[1]
    unknown = torch.full((clips.shape[0] * frames,), -1)
    labels = {name: torch.cat([found, unknown]) for name, found in labels.items()}
    for c in rest:
        found = extremes(heard[c.kind][:, c.column].tolist(), c.sign).repeat_interleave(frames)
        labels[c.name] = torch.cat([torch.full((len(x),), -1), found])
    return Reference(torch.cat([x, clips.flatten(0, 1)]), labels)


def _annotated(store: LabelledStore, path: Path) -> tuple[Tensor, dict[str, Tensor], NDArray[np.float64]]:
    """Frames, their classes, and the mean pitch that sounds in each (NaN where none does)."""
    if not path.is_file():
        x, classes = store.labelled(FRAMES, 0)
        moments = store.times().numpy()
        newest = moments - (float(moments[1] - moments[0]) / 2 if len(moments) > 1 else 0.0)
        pitch = np.concatenate(store.of_clips(lambda clip: lessons.pitches_at(clip, newest)))[store.drawn(FRAMES, 0)]
        named = {f"class {name}": found.numpy() for name, found in classes.items()}
        arrays.save(path, {"x": x.numpy(), "pitch": pitch} | named)
    kept = arrays.load(path)
    found = {n.removeprefix("class "): torch.from_numpy(v) for n, v in kept.items() if n.startswith("class ")}
    return torch.from_numpy(kept["x"]), found, kept["pitch"]


@dataclass(frozen=True, eq=False)
class Latents:
    """What the latents of a dictionary do on the reference frames."""

    largest: NDArray[np.float64]
    """Beta: largest activation of each ``[F]``; 0 where it never fires."""
    active: NDArray[np.int64]
    """Frames in which each fires ``[F]``."""
    correlation: Mapping[str, NDArray[np.float64]]
    """Concept -> correlation of each latent's activation with the label, over the frames that are labelled ``[F]``."""

    def candidates(self, concept: Concept, count: int) -> list[int]:
        """The latents that go best with a concept, best first; none where nothing is known of it."""
        if concept.name not in self.correlation:
            return []
        found = np.where((self.active >= LEAST) & (self.largest > 0), self.correlation[concept.name], -np.inf)
        return [int(j) for j in np.argsort(-found, kind="stable")[:count] if found[j] > 0]

    def inactive(self, count: int) -> list[int]:
        """Latents that never fire; where there are too few, those that fire in the fewest frames."""
        return [int(j) for j in np.argsort(self.active, kind="stable")[:count]]


def latents(dictionary: Dictionary, reference: Reference) -> Latents:
    """Encode the reference frames. A dictionary that reads earlier frames is given each frame as a clip of its own."""
    width = len(dictionary.atoms)
    code = SparseCode.concat([_encode(dictionary, part) for part in torch.split(reference.x, CHUNK)]).to_scipy().tocsc()
    largest = np.maximum(code.max(axis=0).toarray().ravel(), 0.0).astype(np.float64)
    active = np.diff(code.indptr).astype(np.int64)
    rows, found = code.tocsr(), dict[str, NDArray[np.float64]]()
    for name, label in reference.labels.items():
        known = np.flatnonzero((label >= 0).numpy())
        y = label.numpy()[known].astype(np.float64)
        if len(known) == 0 or y.min() == y.max():
            continue
        part, m = rows[known].astype(np.float64), len(known)
        mean = np.asarray(part.sum(0)).ravel() / m
        square = np.asarray(part.multiply(part).sum(0)).ravel() / m
        covariance = part.T @ y / m - mean * y.mean()
        spread = np.sqrt(np.maximum(square - mean**2, 0)) * y.std()
        found[name] = np.divide(covariance, spread, out=np.zeros(width), where=spread > 1e-12)
    return Latents(largest, active, found)


def _encode(dictionary: Dictionary, x: Tensor) -> SparseCode:
    return dictionary.encode(x if dictionary.context == "frame" else x[:, None])


def probe_directions(reference: Reference) -> dict[str, Tensor]:
    """Concept -> the atom of its supervised probe (`musae.methods.probe_directions`), of unit norm."""
    known = {name: y for name, y in reference.labels.items() if bool((y == 1).any()) and bool((y == 0).any())}
    if not known:
        return {}
    method = ProbeDirections(width=len(known), k=min(32, len(known))).fit(LabelledTensorFrames(reference.x, known))
    names = [name.removesuffix(" 1") for name in method.trained["classes"]]
    return dict(zip(names, functional.normalize(method.atoms, dim=1), strict=True))
