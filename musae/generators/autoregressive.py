"""The generator's contract over any decoder of delayed codebooks (MusicGen, arXiv:2306.05284), whoever builds its blocks.

Delay. Codes are ``[n, K, T]``, and codebook j (from 0) is delayed by ``delays[j]`` positions: by j, or by j // 2 where left and
right are interleaved. The model's input has T + 1 positions: at p, codebook j reads ``codes[:, j, p - 1 - delays[j]]``, or the
padding token (= the vocabulary's size) where that lies before the clip. Position p predicts ``codes[:, j, p - delays[j]]``. So
position f + 1 has just read codebook 0 of frame f and codebook j of frame f - delays[j]: it is row f of the stream. Position 0,
which has read nothing but padding, has no row: it is never handed out nor replaced, and its prediction counts in no loss.

Conditions. A text reaches the blocks by cross-attention, or stands before the clip (MusicGen-Melody).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from musae.errors import UserError
from musae.generators import checks
from musae.generators.generator import Splice

IGNORE = -100
"""Target where a position predicts a frame outside the clip."""

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Condition:
    """What a clip is conditioned on besides its codes, the same for all clips."""

    text: Tensor | None = None
    """States that blocks attend to ``[1, L, d]``."""
    prefix: Tensor | None = None
    """Embeddings that stand before the clip ``[1, P, d]``."""


NOTHING = Condition()


class Autoregressive(ABC):
    """The generator's contract but for the codec. Runs without gradients; what it hands out is float32 in the host's memory.

    A subclass says how its network embeds codes and runs a block. `name`: for messages. `delays`: of each codebook. `words`: the
    vocabulary's size. `depth`: number of blocks. `condition`, `unconditional`, `guidance`: with a guidance of g above 1,
    `generate` samples from ``u + g (c - u)``, c the logits under `condition`, u those under `unconditional` (classifier-free
    guidance); a splice replaces the streams of both. Streams and losses are those under `condition`.
    """

    condition = NOTHING
    unconditional = NOTHING
    guidance = 1.0

    def __init__(self, name: str, *, delays: Sequence[int], words: int, depth: int) -> None:
        self.name = name
        self.delays = tuple(delays)
        self.words, self.depth = words, depth

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network is."""

    @property
    @abstractmethod
    def heads(self) -> Iterable[Head]:
        """For each codebook, what maps the final hidden states ``[n, P, d]`` to logits ``[n, P, V]``."""

    @abstractmethod
    def embed(self, inputs: Tensor, past: int, prefix: Tensor | None) -> Tensor:
        """Layer 0 ``[n, P, d]`` of delayed inputs ``[n, K, P]`` that follow `past` positions, or ``prefix [n, P', d]``."""

    @abstractmethod
    def block(self, index: int, stream: Tensor, text: Tensor | None, cache: Any) -> Tensor:
        """Stream ``[n, P, d]`` after block `index` (from 0), which attends to ``text [n, L, d]`` and to what `cache` holds."""

    @abstractmethod
    def cache(self) -> Any:
        """What keeps the keys and values of the positions so far; empty."""

    @abstractmethod
    def hidden(self, stream: Tensor) -> Tensor:
        """What the heads read ``[n, P, d]``: the last block's stream after the final norm."""

    @torch.inference_mode()
    def stream(self, codes: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
        """Residual stream ``[n, T, d]`` at each of `layers`; blocks above the highest are not run."""
        for layer in layers:
            checks.check_layer(layer, self.depth, self.name)
        found = {}
        stream, text, first = self._begin(self._delayed(codes), self.condition, 0)
        for layer in range(max(layers, default=0) + 1):
            if layer:
                stream = self.block(layer - 1, stream, text, None)
            if layer in layers:
                found[layer] = stream[:, first:].float().cpu()
        return found

    @torch.inference_mode()
    def loss(self, codes: Tensor, layer: int | None = None, splice: Splice | None = None) -> Tensor:
        """Nats per clip and codebook ``[n, K]``, mean over the predictions that the rows make of frames within the clip.

        Row f predicts codebook j of frame f + 1 - delays[j]. With `splice`, the rows at `layer` are replaced before they go on.
        Raises UserError when only one of `layer` and `splice` is given, or clips have less than two frames.
        """
        if codes.shape[-1] < 2:
            raise UserError(f"clips of {codes.shape[-1]} frames have no next token; give at least 2.")
        stream = self._run(self._delayed(codes), 0, self.condition, None, layer, splice)
        wanted = targets(codes, self.delays)[..., 1:].to(stream.device)
        return nats(self.heads, self.hidden(stream), wanted).cpu()

    @torch.inference_mode()
    def generate(
        self, prompt: Tensor, frames: int, *, seed: int, layer: int | None = None, splice: Splice | None = None
    ) -> Tensor:
        """Continue codes ``[n, K, T0]`` -> ``[n, K, T0 + frames]``, beginning with the prompt (which may have no frames).

        `splice` is given the prompt's rows at once, then one row at a time. Samples by inverting the cumulated probabilities at
        uniform numbers that depend on the seed alone, so that runs with and without a splice differ by its doing, not by luck.
        Positions beyond those that the model was trained on are new to it.
        """
        n, codebooks, given = prompt.shape
        total, last = given + frames, max(self.delays)
        codes = torch.zeros(n, codebooks, total + last, dtype=torch.int64)
        codes[..., :given] = self.checked(prompt)
        draw = torch.Generator().manual_seed(seed)
        guided = self.guidance > 1
        conditions = [self.condition, self.unconditional] if guided else [self.condition]
        caches = [self.cache() for _ in conditions]
        inputs = self._delayed(prompt)
        for position in range(given, total + last):  # the last codebook comes last: the first runs ahead, and is cut
            past = position + 1 - inputs.shape[-1]
            logits = [
                logits_of(self.heads, self.hidden(self._run(inputs, past, condition, cache, layer, splice, first=0)[:, -1:]))
                for condition, cache in zip(conditions, caches, strict=True)
            ]
            scores = logits[-1] + self.guidance * (logits[0] - logits[-1]) if guided else logits[0]
            uniform = torch.rand(n, codebooks, generator=draw, dtype=torch.float64)
            drawn = inverted(scores[:, :, 0].cpu().double().softmax(-1), uniform)
            for j, late in enumerate(self.delays):
                if position - late >= given:
                    codes[:, j, position - late] = drawn[:, j]
            inputs = self._delayed(codes[..., max(0, position - last) : position + 1])[..., -1:]
        return codes[..., :total]

    def checked(self, codes: Tensor) -> Tensor:
        """Codes as int64; raises UserError unless they are ``[n, K, T]`` and within the vocabulary."""
        return checks.checked(codes, len(self.delays), self.words, self.name)

    def _delayed(self, codes: Tensor) -> Tensor:
        return delay(self.checked(codes), self.words, self.delays).to(self.device)

    def _begin(self, inputs: Tensor, condition: Condition, past: int) -> tuple[Tensor, Tensor | None, int]:
        """Layer 0 of inputs ``[n, K, P]`` after `past` positions, what blocks attend to, and the place of the first row."""
        n = len(inputs)
        prefix = condition.prefix.expand(n, -1, -1) if condition.prefix is not None else None
        text = condition.text.expand(n, -1, -1) if condition.text is not None else None
        before = 0 if prefix is None else prefix.shape[1]
        if past:
            return self.embed(inputs, before + past, None), text, 0
        return self.embed(inputs, 0, prefix), text, before + 1

    def _run(
        self,
        inputs: Tensor,
        past: int,
        condition: Condition,
        cache: Any,
        layer: int | None,
        splice: Splice | None,
        first: int | None = None,
    ) -> Tensor:
        """The rows after all blocks, over delayed inputs after `past` positions; they pass through `splice` at `layer`.

        From the position `first` on instead, where it is given.
        """
        checks.check_splice(layer, splice, self.depth, self.name)
        stream, text, row = self._begin(inputs, condition, past)
        for index in range(self.depth + 1):
            if index:
                stream = self.block(index - 1, stream, text, cache)
            if splice is not None and index == layer and stream.shape[1] > row:
                replaced = splice(stream[:, row:].float().cpu()).to(stream)
                stream = torch.cat([stream[:, :row], replaced], dim=1)
        return stream[:, row if first is None else first :]


def delay(codes: Tensor, pad: int, delays: Sequence[int]) -> Tensor:
    """The model's input for codes ``[n, K, T]`` -> ``[n, K, T + 1]``."""
    n, codebooks, frames = codes.shape
    inputs = codes.new_full((n, codebooks, frames + 1), pad)
    for j, late in enumerate(delays):
        inputs[:, j, 1 + late :] = codes[:, j, : max(frames - late, 0)]
    return inputs


def targets(codes: Tensor, delays: Sequence[int]) -> Tensor:
    """What each of the T + 1 positions is to predict ``[n, K, T + 1]``; `IGNORE` outside the clip."""
    n, codebooks, frames = codes.shape
    wanted = codes.new_full((n, codebooks, frames + 1), IGNORE)
    for j, late in enumerate(delays):
        wanted[:, j, late : late + frames] = codes[:, j, : min(frames, max(frames + 1 - late, 0))]
    return wanted


def shown(words: Tensor, delays: Sequence[int]) -> Tensor:
    """Codewords ``[n, K, T, e]`` of the tokens newly read at each step, side by side ``[n, T, K * e]``; zeros before the clip."""
    n, codebooks, frames, width = words.shape
    read = words.new_zeros(n, frames, codebooks, width)
    for j, late in enumerate(delays):
        read[:, late:, j] = words[:, j, : max(frames - late, 0)]
    return read.flatten(2)


def logits_of(heads: Iterable[Head], hidden: Tensor) -> Tensor:
    """Logits ``[n, K, P, V]`` from the final hidden states ``[n, P, d]``, float32."""
    return torch.stack([head(hidden).float() for head in heads], dim=1)


def nats(heads: Iterable[Head], hidden: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy per clip and codebook ``[n, K]`` of targets ``[n, K, P]``, mean over those that are not `IGNORE`."""
    losses = []
    for j, head in enumerate(heads):  # one codebook's logits at a time: all of them would not fit where V is large
        logits, goal = head(hidden).float().flatten(0, 1), wanted[:, j]
        each = nn.functional.cross_entropy(logits, goal.flatten(), ignore_index=IGNORE, reduction="none")
        losses.append(each.view(goal.shape).sum(1) / (goal != IGNORE).sum(1))
    return torch.stack(losses, dim=1)


def inverted(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """What `uniform` numbers ``[...]`` draw from probabilities ``[..., V]`` by inverting their cumulated sum; float64."""
    mass = probabilities.cumsum(-1)
    drawn = torch.searchsorted(mass, uniform[..., None] * mass[..., -1:], right=True)[..., 0]
    return drawn.clamp_max(mass.shape[-1] - 1)
