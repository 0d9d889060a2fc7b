"""What the tables are measured on: held-out clips of one corpus at every layer of a sweep, and a random twin of each dictionary.

A sweep stores no activations, so held-out clips are harvested here: all layers in one pass of the generator, kept under
``<root>/activations`` as those of a suite are. Of the training frames only the mean is needed (`Random` centres by it); it is
taken from `CENTRE` of the training clips, evenly spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch.nn import functional

from musae.activations import harvest, tokens
from musae.activations.store import Store
from musae.corpora.track import Clip, Split
from musae.dictionary import generator as seeded
from musae.errors import UserError
from musae.methods.random import Random
from musae.scores import spread
from musae.scores.heldout import HeldOut
from musae.sweep_training import SweepTraining
from musae.workspace import FOLDS

CENTRE = 128
"""Training clips whose mean stands for that of the training frames."""


@dataclass
class Streams:
    """The held-out clips of a corpus at the layers of a sweep. Every property computes what is missing and keeps it on disk."""

    training: SweepTraining
    corpus: str
    """A registered corpus; only its held-out pieces are read."""
    limit: int | None = None
    """Clips, at most; None for the suite's number."""

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The sweep's layers, ascending."""
        return tuple(sorted(set(self.training.sweep.layers)))

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips. Raises UserError where the corpus has no held-out piece."""
        workspace = self.training.workspace
        suite, corpus = workspace.suite, workspace.corpus(self.corpus)
        limit = self.limit or suite.clips.get(self.corpus, max(suite.clips.values()))
        found = corpus.clips(Split.HELDOUT, seconds=suite.clip_seconds, per_track=suite.clips_per_track, limit=limit)
        if not found:
            raise UserError(
                f"corpus {self.corpus!r} has no held-out clip of {suite.clip_seconds} s; take another with --clips-from."
            )
        return found

    @cached_property
    def stores(self) -> dict[int, Store]:
        """Layer -> activations of the held-out clips."""
        workspace = self.training.workspace
        corpus = workspace.corpus(self.corpus)
        if corpus.card.name in self.training.stream(self.layers).tokens.corpora:
            shared = set(self.training.stream(self.layers).tokens.groups) & {clip.group for clip in self.clips}
            if shared:
                raise UserError(
                    f"corpus {self.corpus!r}: {min(shared)!r} is a held-out piece and was trained on; make tokens anew."
                )
        show = partial(workspace.progress, f"tokens of {self.corpus}")
        return self._harvest(
            tokens.tokenize(workspace.generator, corpus, self.clips, progress=show), f"activations of {self.corpus}"
        )

    @cached_property
    def centres(self) -> dict[int, Store]:
        """Layer -> activations of some training clips."""
        found = self.training.stream(self.layers).tokens
        some = np.unique(np.linspace(0, len(found) - 1, min(CENTRE, len(found))).round().astype(int))
        return self._harvest(found.take(some), "activations of training clips")

    def _harvest(self, found: tokens.Tokens, what: str) -> dict[int, Store]:
        workspace = self.training.workspace
        folder, show = workspace.root / "activations", partial(workspace.progress, what)
        return harvest.harvest(workspace.generator, found, self.layers, folder, progress=show)

    def data(self, layer: int) -> HeldOut:
        """The clips at a layer, read into memory."""
        store, workspace = self.stores[layer], self.training.workspace
        revision = workspace.corpus(self.corpus).revision
        names, groups = np.unique([clip.group for clip in self.clips], return_inverse=True)
        return HeldOut(
            corpus=self.corpus,
            corpus_revision=revision,
            clips=self.clips,
            x=store.array().numpy(),
            codes=store.tokens.codes.astype(np.int64),
            times=store.times().numpy(),
            groups=groups,
            folds=spread.random(revision, "folds").permutation(np.arange(len(names)) % FOLDS)[groups],
            plan=spread.resampling_plan(revision, len(names)),
            mean=self.centres[layer].mean().numpy(),
            position_means=self.centres[layer].position_means().float().numpy(),
            generator=workspace.generator,
            layer=layer,
        )


def twin(data: HeldOut, width: int, k: int, seed: int = 0) -> Random:
    """The code of the control `random` of the same size at the same layer: its directions, TopK.

    No table reads a reconstruction, so the least-squares decoder, which costs more than all else, is not fitted: atoms are the
    directions themselves.
    """
    control = Random(width, k, seed)
    directions = functional.normalize(torch.randn(width, data.x.shape[2], generator=seeded("random", seed)), dim=1)
    mean = torch.from_numpy(data.mean)
    control.tensors = {"W_enc": directions, "b_enc": -(directions @ mean), "W_dec": directions, "b_dec": mean}
    return control
