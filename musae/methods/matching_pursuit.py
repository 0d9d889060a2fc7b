"""Matching-pursuit sparse autoencoder, MP-SAE (Costa et al. 2025, "From Flat to Hierarchical: Extracting Sparse Representations
with Matching Pursuit", arXiv 2506.03093).

The encoder is k greedy steps over the atoms themselves (matching pursuit, Mallat and Zhang 1993): with ``r_0 = z - b_dec``,

    f_t = argmax_f a_f . r_t,    v_t = a_f_t . r_t,    r_(t+1) = r_t - v_t a_f_t,

until k steps are done, no atom correlates positively, or an atom has been chosen again: what it left over the first time is then
as large as anything else that is left. Values are never negative, as in the paper; a second value of an atom adds to its first.
Atoms start with norm 1 and are free afterwards; stopping and norms are those of SAELens' implementation, and on planted frames
they find truer atoms than norm 1 and k steps in each frame do. The loss is the mean square of the last residual. Its gradient
runs through the whole sequence of residuals, the choice of atoms held fixed. Each step removes as much as one atom can, whatever
it is made of, noise of superposition included: a good reconstruction says less about the atoms than it does elsewhere.

Correlations are updated by the atoms' Gram matrix instead of being computed anew in each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae.autoencoder import Autoencoder, fired
from musae.card import MethodCard
from musae.dictionary import FrameSource, SparseCode
from musae.errors import UserError
from musae.recipe import Recipe

CARD = MethodCard(
    name="matching_pursuit",
    summary="MP-SAE: the encoder is a matching pursuit over the atoms",
    paper="Costa et al. 2025, arXiv 2506.03093",
    configurations=52,
)

ROWS = 128
"""Frames at a time: their correlations stay in a core's cache, and memory is bounded."""

GRAM = 2**28
"""Largest Gram matrix that is kept, in elements (1 GiB: 16,384 latents); of a wider one, rows are computed when needed."""

BLOCK = 64
"""Latents among which a maximum is looked for by its value, before its place is: several times faster than `Tensor.max`."""


class MatchingPursuit(Autoencoder):
    """A matching-pursuit sparse autoencoder: parameters ``W_dec [F, d]`` and ``b_dec [d]`` alone.

    `learning_rate`, at d = 256, `warmup` and `decay` were chosen among 52 trainings of width 1,024 and k = 16, most of them on a
    quarter or the whole of a million planted frames (`musae bench planted`, a seed of its own). With a quarter the mean cosine
    with the true atoms was 0.85 at 2e-2, 0.94 at 4e-2, 0.95 at 5e-2, and fell beyond 6e-2; with norm 1 it was 0.89 at its best,
    at 8e-2. With the whole it was 0.954 where the rate falls over the last 0.7 of the run, 0.973 over 0.4. A longer decay makes
    up for noise elsewhere: on 262,144 of nano's frames FVU on pieces set aside was 0.335 with 0.3, 0.327 with 0.4, 0.307 with
    0.8, and 0.295 at 2e-2. Atoms that are true decide. All atoms were in use at the end, without resampling; their norms were
    between 0.88 and 1.02. A training takes five times as long as one of `topk`.
    """

    name = CARD.name
    defaults = Recipe(batch_size=1024, learning_rate=5e-2, warmup=0.02, decay=0.4)
    unit_norm = ()

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, **recipe: Any) -> None:
        """`width`, `k`, `seed`, `recipe`: see `GradientMethod`. `k` is the number of steps.

        There is no encoder that an auxiliary loss could reach, so `aux_weight` must stay 0; dead atoms start anew by `resample`.
        """
        super().__init__(width, k, seed, **recipe)
        if self.recipe.aux_weight:
            raise UserError(
                f"{self.name}: aux_weight = {self.recipe.aux_weight} has no encoder to act on; leave it at 0, or set resample."
            )

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        self.parameters = {name: self.parameters[name] for name in ("W_dec", "b_dec")}

    def rate(self, step: int, steps: int) -> float:
        """The recipe's rate is for d = 256: Adam steps by entry, and an atom's entries are as small as ``1 / sqrt(d)``."""
        return super().rate(step, steps) * math.sqrt(256 / self.parameters["W_dec"].shape[1])

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        atoms, wide = self.parameters["W_dec"], z.float()  # bfloat16 would lose what k residuals have to keep
        from_bias = wide - self.parameters["b_dec"]
        chosen = until_repeated(choose(from_bias.detach(), atoms.detach(), self.k))
        left, values = _Pursue.apply(from_bias, atoms, chosen)  # type: ignore[no-untyped-call]
        active = fired(*merged(values, chosen), self.width)
        return left.square().mean(), {"l0": active.sum() / len(z)}, wide - left, active

    def revived(self, z: Tensor, dead: Tensor, directions: Tensor) -> dict[str, Tensor]:
        return {"W_dec": directions}

    def folded(self) -> dict[str, Tensor]:
        p = {name: tensor.detach().double() for name, tensor in self.parameters.items()}
        return {"W_dec": p["W_dec"], "b_dec": p["b_dec"] / self.buffers["scale"].double() + self.buffers["centre"].double()}

    @torch.no_grad()
    def encode(self, x: Tensor) -> SparseCode:
        from_bias = self.checked(x) - self.bias
        return pursue(from_bias, self.atoms, until_repeated(choose(from_bias, self.atoms, self.k)))


def pursue(x: Tensor, atoms: Tensor, chosen: Tensor) -> SparseCode:
    """The code of frames ``x [n, d]`` over ``atoms [F, d]`` whose steps choose ``chosen [n, k]``, -1 for none."""
    _, values = _Pursue.apply(x, atoms, chosen)  # type: ignore[no-untyped-call]
    return SparseCode.from_topk(*merged(values, chosen), len(atoms))


def until_repeated(chosen: Tensor) -> Tensor:
    """Chosen atoms ``[n, k]`` up to the first that a frame chose before, that one included; -1 from there on."""
    before = torch.ones(chosen.shape[1], chosen.shape[1], dtype=torch.bool, device=chosen.device).tril(-1)
    parts = [((c.unsqueeze(2) == c.unsqueeze(1)) & before).any(2) for c in torch.split(chosen, ROWS)]
    again = torch.cat(parts) if parts else chosen > 0
    return chosen.masked_fill(again.cumsum(1) - again.long() > 0, -1)


def choose(x: Tensor, atoms: Tensor, k: int) -> Tensor:
    """The atoms that k steps choose for frames ``x [n, d]``, int64 ``[n, k]``; -1 once none correlates positively."""
    width = len(atoms)
    padded = functional.pad(atoms, (0, 0, 0, -width % BLOCK))  # an atom of 0 is never chosen
    gram = padded @ padded.T if len(padded) ** 2 <= GRAM else None
    chosen = torch.full((len(x), k), -1, dtype=torch.int64, device=x.device)
    for rows, out in zip(torch.split(x, ROWS), torch.split(chosen, ROWS), strict=True):
        correlation = rows @ padded.T
        blocks = correlation.view(-1, BLOCK)
        first = torch.arange(len(rows), device=x.device) * (len(padded) // BLOCK)
        update = torch.empty_like(correlation)
        for step in range(k):
            block = blocks.amax(1).view(len(rows), len(padded) // BLOCK).argmax(1)
            best, place = blocks[first + block].max(1)
            atom = block * BLOCK + place
            positive = best > 0
            if not bool(positive.any()):
                break
            out[:, step] = torch.where(positive, atom, -1)
            if gram is None:
                torch.mm(padded[atom], padded.T, out=update)
            else:
                torch.index_select(gram, 0, atom, out=update)
            correlation.addcmul_(update, best.clamp_min(0).unsqueeze(1), value=-1)
    return chosen


class _Pursue(torch.autograd.Function):
    """The residual ``[n, d]`` after subtracting chosen atoms one after the other, and their values ``[n, k]``.

    Differentiable in frames and atoms through the residual; the values are for the code alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, atoms: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        left = x.clone()
        values = x.new_zeros(chosen.shape)
        for r, v, f in zip(*(torch.split(t, ROWS) for t in (left, values, chosen)), strict=True):
            for step in range(chosen.shape[1]):
                a = atoms[f[:, step].clamp_min(0)]
                value = torch.linalg.vecdot(a, r) * (f[:, step] >= 0)
                v[:, step] = value
                r.addcmul_(a, value.unsqueeze(1), value=-1)
        ctx.save_for_backward(left, values, atoms, chosen)
        ctx.mark_non_differentiable(values)
        return left, values

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        """Back through ``r' = r - v a``, ``v = a . r``.

        With g' the gradient by r' and ``u = a . g'``, that by r is ``g' - u a``, and that by a is ``-(v g' + u r)``. Residuals
        are rebuilt from the last one, step by step.
        """
        left, values, atoms, chosen = ctx.saved_tensors
        by_x, by_atoms, residual = upstream[0].clone(), torch.zeros_like(atoms), left.clone()
        parts = (torch.split(t, ROWS) for t in (by_x, residual, values, chosen))
        for g, r, v, f in zip(*parts, strict=True):
            for step in reversed(range(chosen.shape[1])):
                taken, atom = v[:, step].unsqueeze(1), f[:, step].clamp_min(0)
                a = atoms[atom]
                u = torch.linalg.vecdot(a, g).mul_(f[:, step] >= 0).unsqueeze(1)
                r.addcmul_(a, taken)
                by_atoms.index_add_(0, atom, torch.addcmul(taken * g, u, r), alpha=-1)
                g.addcmul_(a, u, value=-1)
        return by_x, by_atoms, None


def merged(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices ``[n, k]`` in which no latent stands twice; empty slots are 0."""
    chosen, order = chosen.sort(dim=1)
    values = values.gather(1, order)
    new = functional.pad(chosen.diff(dim=1) != 0, (1, 0), value=True)
    slot = new.cumsum(1) - 1
    sums = torch.zeros_like(values).scatter_add_(1, slot, values)
    return sums, torch.zeros_like(chosen).scatter_(1, slot, chosen.clamp_min(0))


METHOD = MatchingPursuit
