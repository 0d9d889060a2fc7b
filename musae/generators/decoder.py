"""MusicGen's decoder (arXiv:2306.05284) as transformers builds it.

transformers applies the delays in `generate` only (`build_delay_pattern_mask`), and pads a clip's tail where we stop. Without a
text, cross-attention is skipped: transformers attends to zeros then, and adds zeros, since its projections have no bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from musae.generators.autoregressive import Autoregressive, Head, nats


class Decoder(Autoregressive):
    """The generator's contract but for the codec. `network`: a causal language model of MusicGen or MusicGen-Melody."""

    def __init__(self, network: Any, delays: Sequence[int], name: str) -> None:
        self.network = network.eval()
        super().__init__(name, delays=delays, words=int(network.config.vocab_size), depth=int(network.config.num_hidden_layers))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        found: torch.device = self.network.device
        return found

    @property
    def heads(self) -> Iterable[Head]:
        """For each codebook, what maps the final hidden states to logits."""
        found: Iterable[Head] = self.network.lm_heads
        return found

    def embed(self, inputs: Tensor, past: int, prefix: Tensor | None) -> Tensor:
        """Layer 0 of delayed inputs."""
        return embed(self.network, inputs, past=past, prefix=prefix)

    def block(self, index: int, stream: Tensor, text: Tensor | None, cache: Any) -> Tensor:
        """Stream after block `index`."""
        return run_block(self.network, index, stream, text=text, cache=cache)

    def cache(self) -> EncoderDecoderCache:
        """transformers' own."""
        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    def hidden(self, stream: Tensor) -> Tensor:
        """What the heads read."""
        return normed(self.network, stream)


def normed(network: Any, stream: Tensor) -> Tensor:
    """The last block's stream ``[n, P, d]`` after the final norm."""
    after: Tensor = network.model.decoder.layer_norm(stream)
    return after


def cross_entropy(network: Any, stream: Tensor, wanted: Tensor) -> Tensor:
    """Nats per clip and codebook ``[n, K]`` from the last block's stream ``[n, P, d]`` and targets ``[n, K, P]``."""
    return nats(network.lm_heads, normed(network, stream), wanted)


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
