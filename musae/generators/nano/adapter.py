"""`Nano`: the generator's contract (`musae.generators.generator`) over the codec and the model of this package.

Everything runs in float32 without gradients. Row f is the model's position f + 1 (`model`): position 0, which has read nothing
but padding, has no row; it is never handed out nor replaced, and its prediction counts in no loss.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, MusicgenForCausalLM

from musae.errors import UserError
from musae.generators.generator import Splice
from musae.generators.nano import CARD, model
from musae.generators.nano.codec import FEATURES, HOP, RATE, Codec, checksum

PACKAGE = Path(__file__).parent


class Nano:
    """A generator of MusicGen's architecture. `shipped` is the one that is benchmarked; `untrained` makes its control."""

    card = CARD

    def __init__(self, network: MusicgenForCausalLM, codec: Codec) -> None:
        self.network = network.eval()
        self.codec = codec
        self.depth = int(network.config.num_hidden_layers)

    @classmethod
    def shipped(cls, folder: Path = PACKAGE) -> Nano:
        """The weights and codec in `folder`. Raises UserError when they are missing or do not fit."""
        return cls(model.load(folder / "model.safetensors"), Codec.load(folder / "codec.safetensors"))

    def untrained(self, seed: int) -> Nano:
        """The same codec and architecture with the random weights that training with `seed` would begin from: a control."""
        c = self.network.config
        shape = {"width": c.hidden_size, "layers": c.num_hidden_layers, "heads": c.num_attention_heads}
        return Nano(model.build(**shape, codebooks=c.num_codebooks, codewords=c.vocab_size, seed=seed), self.codec)

    @cached_property
    def revision(self) -> str:
        """Ten hex digits of the checksum of the weights in use and the codec."""
        return checksum(model.weights(self.network), self.codec_revision)

    @property
    def codec_revision(self) -> str:
        """Ten hex digits of the codec alone: codes stay valid while it does, however the weights are trained further."""
        return self.codec.revision

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]`` at 16 kHz -> codes ``[n, K, samples // 640]``. Raises UserError for another shape."""
        if audio.ndim != 2:
            raise UserError(f"audio has shape {list(audio.shape)}; give [clips, samples] at {RATE} Hz.")
        return self.codec.encode(audio)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, 640 T]`` at 16 kHz."""
        return self.codec.decode(self._checked(codes))

    def times(self, frames: int) -> Tensor:
        """Seconds of the end of each row's newest frame ``[T]``. The codec hears up to 44 ms beyond a frame's end."""
        return (torch.arange(frames) + 1) * (HOP / RATE)

    @torch.inference_mode()
    def stream(self, codes: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
        """Residual stream ``[n, T, d]`` at each of `layers` (0 to 6); blocks above the highest are not run."""
        for layer in layers:
            self._check_layer(layer)
        found = {}
        stream = model.embed(self.network, self._delayed(codes))
        for layer in range(max(layers, default=0) + 1):
            if layer:
                stream = model.run_block(self.network, layer - 1, stream)
            if layer in layers:
                found[layer] = stream[:, 1:]
        return found

    def visible(self, codes: Tensor) -> Tensor:
        """Standardised codewords of the tokens newly read at each step ``[n, T, K * 88]``; codebook 1 + j is of frame f - j."""
        words = self.codec.codewords(self._checked(codes))
        n, codebooks, frames, _ = words.shape
        shown = torch.zeros(n, frames, codebooks, FEATURES)
        for j in range(min(codebooks, frames)):
            shown[:, j:, j] = words[:, j, : frames - j]
        return shown.flatten(2)

    @torch.inference_mode()
    def loss(self, codes: Tensor, layer: int | None = None, splice: Splice | None = None) -> Tensor:
        """Nats per clip and codebook ``[n, K]``, mean over the predictions that the rows make of frames within the clip.

        Row f predicts codebook 1 + j of frame f + 1 - j. With `splice`, the rows at `layer` are replaced before they go on.
        Raises UserError when only one of `layer` and `splice` is given, or clips have less than two frames.
        """
        if codes.shape[-1] < 2:
            raise UserError(f"clips of {codes.shape[-1]} frames have no next token; give at least 2.")
        stream = self._run(self._delayed(codes), 0, None, layer, splice)
        return model.cross_entropy(self.network, stream[:, 1:], model.targets(codes)[..., 1:])

    @torch.inference_mode()
    def generate(
        self, prompt: Tensor, frames: int, *, seed: int, layer: int | None = None, splice: Splice | None = None
    ) -> Tensor:
        """Continue codes ``[n, K, T0]`` -> ``[n, K, T0 + frames]``, beginning with the prompt (which may have no frames).

        `splice` is given the prompt's rows at once, then one row at a time. Samples by inverting the cumulated probabilities at
        uniform numbers that depend on the seed alone, so that runs with and without a splice differ by its doing, not by luck.
        The model is trained on clips of 256 frames; beyond that, its positions are new to it.
        """
        n, codebooks, given = prompt.shape
        total = given + frames
        codes = torch.zeros(n, codebooks, total + codebooks - 1, dtype=torch.int64)
        codes[..., :given] = self._checked(prompt)
        generator = torch.Generator().manual_seed(seed)
        cache = DynamicCache()
        inputs = self._delayed(prompt)
        for position in range(given, total + codebooks - 1):  # the last codebook comes last: the first runs ahead, and is cut
            stream = self._run(inputs, position + 1 - inputs.shape[-1], cache, layer, splice)[:, -1]
            hidden = self.network.model.decoder.layer_norm(stream)
            uniform = torch.rand(n, codebooks, 1, generator=generator, dtype=torch.float64)
            for j, head in enumerate(self.network.lm_heads):
                if position - j >= given:
                    mass = head(hidden).double().softmax(-1).cumsum(-1)
                    drawn = torch.searchsorted(mass, uniform[:, j] * mass[:, -1:], right=True)[:, 0]
                    codes[:, j, position - j] = drawn.clamp_max(mass.shape[-1] - 1)
            inputs = self._delayed(codes[..., max(0, position + 1 - codebooks) : position + 1])[..., -1:]
        return codes[..., :total]

    def _run(self, inputs: Tensor, past: int, cache: Any, layer: int | None, splice: Splice | None) -> Tensor:
        """All blocks over delayed inputs after `past` positions; rows (not position 0) pass through `splice` at `layer`."""
        if (layer is None) != (splice is None):
            raise UserError("a splice needs a layer, and a layer a splice: give both or neither.")
        if layer is not None:
            self._check_layer(layer)
        stream = model.embed(self.network, inputs, past)
        for index in range(self.depth + 1):
            if index:
                stream = model.run_block(self.network, index - 1, stream, cache=cache)
            if splice is not None and index == layer:
                first = 1 if past == 0 else 0
                if stream.shape[1] > first:
                    stream = torch.cat([stream[:, :first], splice(stream[:, first:]).to(stream.dtype)], dim=1)
        return stream

    def _delayed(self, codes: Tensor) -> Tensor:
        return model.delay(self._checked(codes), self.network.config.pad_token_id)

    def _checked(self, codes: Tensor) -> Tensor:
        """Codes as int64; raises UserError unless they are ``[n, K, T]`` and within the vocabulary."""
        c = self.network.config
        if codes.ndim != 3 or codes.shape[1] != c.num_codebooks:
            raise UserError(f"codes have shape {list(codes.shape)}; give [clips, {c.num_codebooks}, frames].")
        low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
        if low < 0 or high >= c.vocab_size:
            raise UserError(f"codes range from {low} to {high}; nano's go from 0 to {c.vocab_size - 1}.")
        return codes.long()

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer <= self.depth:
            raise UserError(f"layer {layer} does not exist; nano has layers 0 (embeddings) to {self.depth}.")
