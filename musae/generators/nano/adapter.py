"""`Nano`: the generator's contract over the codec and the model of this package; `musae.generators.decoder` does most of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import MusicgenForCausalLM

from musae.errors import UserError
from musae.generators.autoregressive import shown
from musae.generators.decoder import Decoder
from musae.generators.nano import CARD, model
from musae.generators.nano.codec import HOP, RATE, Codec, checksum

PACKAGE = Path(__file__).parent


class Nano(Decoder):
    """A generator of MusicGen's architecture, in float32. `shipped` is the one that is benchmarked; `untrained` its control."""

    card = CARD

    def __init__(self, network: MusicgenForCausalLM, codec: Codec) -> None:
        super().__init__(network, range(network.config.num_codebooks), CARD.name)
        self.codec = codec

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
        return self.codec.decode(self.checked(codes))

    def times(self, frames: int) -> Tensor:
        """Seconds of the end of each row's newest frame ``[T]``. The codec hears up to 44 ms beyond a frame's end."""
        return (torch.arange(frames) + 1) * (HOP / RATE)

    def visible(self, codes: Tensor) -> Tensor:
        """Standardised codewords of the tokens newly read at each step ``[n, T, K * 88]``; codebook 1 + j is of frame f - j."""
        return shown(self.codec.codewords(self.checked(codes)), self.delays)
