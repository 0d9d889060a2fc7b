"""EnCodec (Défossez et al. 2022, arXiv:2210.13438) through transformers, as MusicGen uses it.

The 32 kHz model is not causal: a frame's codes depend on audio around it, beyond its end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.generators.channels import ChannelCodec
from musae.generators.musicgen.checkpoint import hop


class EnCodec(ChannelCodec):
    """transformers' EnCodec. `channels`: 1, or 2 for a stereo generator; `codebooks`: of all channels."""

    def __init__(self, network: Any, channels: int, codebooks: int) -> None:
        self.network = network.float().eval()
        c = network.config
        super().__init__(rate=int(c.sampling_rate), hop=hop(c), channels=channels, books=codebooks // channels)
        has = len(network.quantizer.layers)
        if has < self.books or c.audio_channels != 1 or c.chunk_length_s is not None:
            raise UserError(
                f"the audio encoder has {has} codebooks, {c.audio_channels} channels and chunks of {c.chunk_length_s} s; "
                f"MusicGen's is mono, unchunked, with at least {self.books}."
            )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        found: torch.device = self.network.device
        return found

    def mono_codes(self, audio: Tensor) -> Tensor:
        """Residual quantisation of the encoder's output."""
        residual, found = self.network.encoder(audio), []
        for layer in list(self.network.quantizer.layers)[: self.books]:
            indices = layer.encode(residual)
            residual = residual - layer.decode(indices)
            found.append(indices)
        return torch.stack(found, 1)

    def mono_audio(self, codes: Tensor) -> Tensor:
        """The decoder's output for the sum of the codewords."""
        audio: Tensor = self.network.decoder(self.network.quantizer.decode(codes.transpose(0, 1)))
        return audio

    def codebook(self, book: int) -> Tensor:
        """What a codebook's codes stand for."""
        words: Tensor = self.network.quantizer.layers[book].codebook.embed
        return words
