"""Sparse autoencoders whose frames share one budget: what BatchTopK and the methods built on it have in common.

Of a batch of n frames the n * k largest positive pre-activations are kept (Bussmann, Leask and Nanda 2024, "BatchTopK Sparse
Autoencoders", arXiv 2412.06410). A code must not depend on its neighbours once the dictionary is frozen, so the smallest value
kept is followed during training, and frozen as one threshold for all latents (section 3): a latent is then active where its
pre-activation exceeds it, on average k times a frame.

Under data parallelism the batch is that of all processes: they find one cut together (`BatchBudget.select`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from musae import parallel
from musae.autoencoder import Autoencoder
from musae.dictionary import FrameSource
from musae.kernels.batch_topk import batch_topk
from musae.kernels.sparse_decode import sparse_decode

MEMORY = 1 / 32
"""Share of the run's frames that the threshold is a mean over. Weights hardly move in the last 1/32 of a run, where the learning
rate is below a tenth of its peak, and 30 batches make the mean's error negligible."""


class BatchBudget(Autoencoder):
    """A sparse autoencoder whose batches have n * k active latents; frozen, a threshold holds k on average."""

    rule = "jumprelu"
    budget = "mean"

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        self.buffers |= {
            "threshold": torch.zeros(()),
            "seen": torch.zeros((), dtype=torch.int64),
            "memory": torch.tensor(int(MEMORY * self.recipe.epochs * frames.frames)),
        }

    def select(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The code of a batch: values and indices ``[b, s]`` (empty slots are 0), and the smallest value kept, a scalar.

        Among several processes ``z`` is this one's share, and its code what a single process would select for these rows: each
        takes more than it can need, and what lies below the cut of all values together is dropped, its gradient with it.
        """
        p = self.parameters
        if parallel.size() == 1:
            values, indices = batch_topk(z, p["W_enc"], p["b_enc"], self.k)
            kept = values.detach()
        else:
            rows = int(parallel.add(torch.tensor(len(z), device=z.device)))
            enough = min(self.width, -(-rows * self.k // len(z)))
            values, indices = batch_topk(z, p["W_enc"], p["b_enc"], enough)
            values = values * within(values.detach(), indices, rows * self.k, self.width, self.sequence)
            kept = values.detach()
        smallest = kept.masked_fill(kept <= 0, torch.inf).amin()
        if parallel.size() > 1:
            smallest = parallel.gather(smallest.view(1)).amin()
        return values, indices, torch.where(smallest.isfinite(), smallest, 0)

    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss, figures = super().loss(x)
        self.follow(figures["threshold"], len(x))
        return loss, figures

    @torch.no_grad()
    def follow(self, smallest: Tensor, rows: int) -> None:
        """Take the smallest value kept of a batch into the running mean; `rows` of it are this process's."""
        rows = int(parallel.add(torch.tensor(rows, device=smallest.device)))
        seen = torch.minimum(self.buffers["seen"] + rows, self.buffers["memory"].clamp_min(rows))
        self.buffers["seen"].copy_(seen)
        self.buffers["threshold"].lerp_(smallest.float(), float(rows / seen))

    def nested(self, z: Tensor, values: Tensor, indices: Tensor, ends: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The reconstruction ``[b, d]`` by all latents, and squared errors of those by the first ``ends[0]``, ``ends[1]``, ...

        Each group of latents is decoded once; the reconstructions are running sums. Errors are means over entries, ``[groups]``.
        """
        p, target = self.parameters, z.float()
        z_hat, errors, bias = torch.zeros_like(target), [], p["b_dec"]
        for part, latents in by_group(values, indices, ends):
            z_hat = z_hat + sparse_decode(part, latents, p["W_dec"], bias)
            errors.append(functional.mse_loss(z_hat, target))
            bias = torch.zeros_like(bias)
        return z_hat, torch.stack(errors)

    def folded(self) -> dict[str, Tensor]:
        threshold = self.buffers["threshold"].double() / self.buffers["scale"].double()
        return super().folded() | {"threshold": threshold.expand(self.width)}


def within(values: Tensor, indices: Tensor, budget: int, width: int, sequence: int = 1) -> Tensor:
    """Which entries of this process's code ``[b, s]`` are among the `budget` largest positive ones of all processes together.

    Of equal values at the cut the first by position in the whole batch stay; `musae.parallel.share` deals its rows in turn, each
    of `sequence` frames.
    """
    positive = parallel.gather(values[values > 0])
    if len(positive) <= budget:
        return values > 0
    cut = positive.topk(budget, sorted=False).values.amin()
    above, equal = values > cut, values == cut
    frame = torch.arange(len(values), device=values.device)
    row = (frame // sequence * parallel.size() + parallel.rank()) * sequence + frame % sequence
    place = row.unsqueeze(1) * width + indices
    left = budget - int((positive > cut).sum())
    last = parallel.gather(place[equal]).sort().values[left - 1]
    return above | (equal & (place <= last))


def by_group(values: Tensor, indices: Tensor, ends: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """The code ``[n, s]`` cut at latents `ends`: values and indices ``[n, s_g]`` of each group, as few slots as it needs."""
    group = torch.bucketize(indices, torch.tensor(ends, device=indices.device), right=True)
    group = group.masked_fill(values.detach() <= 0, len(ends))
    for number in range(len(ends)):
        frame, slot = (group == number).nonzero(as_tuple=True)
        counts = torch.bincount(frame, minlength=len(values))
        place = torch.arange(len(frame), device=frame.device) - (counts.cumsum(0) - counts)[frame]
        slots = indices.new_zeros(len(values), max(1, int(counts.max())))
        taken = torch.zeros_like(slots, dtype=torch.bool)
        slots[frame, place], taken[frame, place] = slot, True
        yield values.gather(1, slots) * taken, indices.gather(1, slots).masked_fill(~taken, 0)
