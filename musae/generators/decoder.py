"""MusicGen's decoder (arXiv:2306.05284) as transformers builds it, and the generator's contract over it.

Delay. Codes are ``[n, K, T]``, and codebook j (from 0) is delayed by ``delays[j]`` positions: by j, or by j // 2 where left and
right are interleaved. The model's input has T + 1 positions: at p, codebook j reads ``codes[:, j, p - 1 - delays[j]]``, or the
padding token (= the vocabulary's size) where that lies before the clip. Position p predicts ``codes[:, j, p - delays[j]]``. So
position f + 1 has just read codebook 0 of frame f and codebook j of frame f - delays[j]: it is row f of the stream. Position 0,
which has read nothing but padding, has no row: it is never handed out nor replaced, and its prediction counts in no loss.
transformers applies the same pattern in `generate` only (`build_delay_pattern_mask`), and pads a clip's tail where we stop.

Conditions. A text reaches the blocks by cross-attention (MusicGen) or stands before the clip (MusicGen-Melody). Without one,
cross-attention is skipped: transformers attends to zeros then, and adds zeros, since its projections have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from musae.errors import UserError
from musae.generators.generator import Splice

IGNORE = -100
"""Target where a position predicts a frame outside the clip."""


@dataclass(frozen=True)
class Condition:
    """What a clip is conditioned on besides its codes, the same for all clips."""

    text: Tensor | None = None
    """States that blocks attend to ``[1, L, d]``."""
    prefix: Tensor | None = None
    """Embeddings that stand before the clip ``[1, P, d]``."""


NOTHING = Condition()


class Decoder:
    """The generator's contract but for the codec. Runs without gradients; what it hands out is float32 in the host's memory.

    `network`: a causal language model of transformers' MusicGen or MusicGen-Melody. `delays`: of each codebook. `name`: for
    messages. `condition`, `unconditional`, `guidance`: with a guidance of g above 1, `generate` samples from
    ``u + g (c - u)``, c the logits under `condition`, u those under `unconditional` (classifier-free guidance); a splice
    replaces the streams of both. Streams and losses are those under `condition`.
    """

    condition = NOTHING
    unconditional = NOTHING
    guidance = 1.0

    def __init__(self, network: Any, delays: Sequence[int], name: str) -> None:
        self.network = network.eval()
        self.delays = tuple(delays)
        self.name = name
        self.depth = int(network.config.num_hidden_layers)

    @torch.inference_mode()
    def stream(self, codes: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
        """Residual stream ``[n, T, d]`` at each of `layers`; blocks above the highest are not run."""
        for layer in layers:
            self.check_layer(layer)
        found = {}
        stream, text, first = self._begin(self._delayed(codes), self.condition, 0)
        for layer in range(max(layers, default=0) + 1):
            if layer:
                stream = run_block(self.network, layer - 1, stream, text=text)
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
        return cross_entropy(self.network, stream, wanted).cpu()

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
        caches = [EncoderDecoderCache(DynamicCache(), DynamicCache()) for _ in conditions]
        inputs = self._delayed(prompt)
        for position in range(given, total + last):  # the last codebook comes last: the first runs ahead, and is cut
            past = position + 1 - inputs.shape[-1]
            logits = [
                logits_of(self.network, self._run(inputs, past, condition, cache, layer, splice, first=0)[:, -1:])[:, :, 0].cpu()
                for condition, cache in zip(conditions, caches, strict=True)
            ]
            scores = logits[-1] + self.guidance * (logits[0] - logits[-1]) if guided else logits[0]
            uniform = torch.rand(n, codebooks, 1, generator=draw, dtype=torch.float64)
            mass = scores.double().softmax(-1).cumsum(-1)
            drawn = torch.searchsorted(mass, uniform * mass[..., -1:], right=True)[..., 0].clamp_max(mass.shape[-1] - 1)
            for j, late in enumerate(self.delays):
                if position - late >= given:
                    codes[:, j, position - late] = drawn[:, j]
            inputs = self._delayed(codes[..., max(0, position - last) : position + 1])[..., -1:]
        return codes[..., :total]

    def checked(self, codes: Tensor) -> Tensor:
        """Codes as int64; raises UserError unless they are ``[n, K, T]`` and within the vocabulary."""
        c = self.network.config
        if codes.ndim != 3 or codes.shape[1] != c.num_codebooks:
            raise UserError(f"codes have shape {list(codes.shape)}; give [clips, {c.num_codebooks}, frames].")
        low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
        if low < 0 or high >= c.vocab_size:
            raise UserError(f"codes range from {low} to {high}; {self.name}'s go from 0 to {c.vocab_size - 1}.")
        return codes.long()

    def check_layer(self, layer: int) -> None:
        """Raise UserError unless there is such a layer."""
        if not 0 <= layer <= self.depth:
            raise UserError(f"layer {layer} does not exist; {self.name} has layers 0 (embeddings) to {self.depth}.")

    def _delayed(self, codes: Tensor) -> Tensor:
        delayed = delay(self.checked(codes), self.network.config.vocab_size, self.delays)
        return delayed.to(self.network.device)

    def _begin(self, inputs: Tensor, condition: Condition, past: int) -> tuple[Tensor, Tensor | None, int]:
        """Layer 0 of inputs ``[n, K, P]`` after `past` positions, what blocks attend to, and the place of the first row."""
        n = len(inputs)
        prefix = condition.prefix.expand(n, -1, -1) if condition.prefix is not None else None
        text = condition.text.expand(n, -1, -1) if condition.text is not None else None
        before = 0 if prefix is None else prefix.shape[1]
        if past:
            return embed(self.network, inputs, past=before + past), text, 0
        return embed(self.network, inputs, prefix=prefix), text, before + 1

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
        if (layer is None) != (splice is None):
            raise UserError("a splice needs a layer, and a layer a splice: give both or neither.")
        if layer is not None:
            self.check_layer(layer)
        stream, text, row = self._begin(inputs, condition, past)
        for index in range(self.depth + 1):
            if index:
                stream = run_block(self.network, index - 1, stream, text=text, cache=cache)
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


def logits_of(network: Any, stream: Tensor) -> Tensor:
    """Next-token logits ``[n, K, P, V]`` from the last block's stream ``[n, P, d]``, float32."""
    hidden = network.model.decoder.layer_norm(stream)
    return torch.stack([head(hidden).float() for head in network.lm_heads], dim=1)


def cross_entropy(network: Any, stream: Tensor, wanted: Tensor) -> Tensor:
    """Nats per clip and codebook ``[n, K]`` from the last block's stream ``[n, P, d]`` and targets ``[n, K, P]``."""
    hidden = network.model.decoder.layer_norm(stream)
    losses = []
    for j, head in enumerate(network.lm_heads):  # one codebook's logits at a time: all of them would not fit where V is large
        logits, goal = head(hidden).float().flatten(0, 1), wanted[:, j]
        nats = nn.functional.cross_entropy(logits, goal.flatten(), ignore_index=IGNORE, reduction="none")
        losses.append(nats.view(goal.shape).sum(1) / (goal != IGNORE).sum(1))
    return torch.stack(losses, dim=1)


def embed(network: Any, inputs: Tensor, *, past: int = 0, prefix: Tensor | None = None) -> Tensor:
    """Stream at layer 0 ``[n, P, d]`` for delayed inputs ``[n, K, P]`` that follow `past` positions, or ``prefix [n, P', d]``."""
    decoder = network.model.decoder
    tokens: Tensor = sum(embedding(inputs[:, j]) for j, embedding in enumerate(decoder.embed_tokens))
    if prefix is not None:
        tokens = torch.cat([prefix.to(tokens), tokens], dim=1)
    # MusicGen's positions read their number off codes [n, K, P], MusicGen-Melody's off embeddings [n, P, d]
    melody = network.config.model_type == "musicgen_melody_decoder"
    positions: Tensor = decoder.embed_positions(tokens if melody else inputs, past)
    return tokens + positions.to(tokens)


def run_block(
    network: Any, index: int, stream: Tensor, *, text: Tensor | None = None, cache: Any = None, mask: Tensor | None = None
) -> Tensor:
    """Stream after block `index` (from 0) ``[n, P, d]``; `text` ``[n, L, d]`` is attended to.

    Scaled-dot-product attention is causal by itself; with a cache, `stream` holds one position that follows the cached ones (or
    all of the first ones). Training asks transformers for its plain ("eager") attention, whose backward pass is twice as fast on
    CPUs, and must give `causal_mask`.
    """
    options = {} if text is None else {"encoder_hidden_states": text}
    output = network.model.decoder.layers[index](stream, mask, past_key_values=cache, **options)
    after: Tensor = output[0] if isinstance(output, tuple) else output  # older transformers return a tuple
    return after


def causal_mask(positions: int, dtype: torch.dtype) -> Tensor:
    """Additive mask ``[1, 1, P, P]``: minus infinity above the diagonal."""
    return torch.full((positions, positions), -torch.inf, dtype=dtype).triu(1)[None, None]
