"""EnCodec (Défossez et al. 2022, arXiv:2210.13438) as MusicGen uses it: codes of mono or stereo audio.

Stereo: each channel is encoded by itself, and the codebooks of left and right alternate, as MusicGen's stereo variants have it.
The 32 kHz model is not causal: a frame's codes depend on audio around it, beyond its end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.generators.musicgen.checkpoint import hop


class EnCodec:
    """transformers' EnCodec, without gradients, float32. `channels`: 1, or 2 for a stereo generator."""

    def __init__(self, network: Any, channels: int, codebooks: int) -> None:
        self.network = network.float().eval()
        self.rate = int(network.config.sampling_rate)
        self.hop = hop(network.config)
        self.channels = channels
        self.books = codebooks // channels
        has = len(network.quantizer.layers)
        if has < self.books or network.config.audio_channels != 1 or network.config.chunk_length_s is not None:
            raise UserError(
                f"the audio encoder has {has} codebooks, {network.config.audio_channels} channels and chunks of "
                f"{network.config.chunk_length_s} s; MusicGen's is mono, unchunked, with at least {self.books}."
            )

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]``, or ``[n, 2, samples]`` for a stereo generator -> codes ``[n, K, T]``, T whole frames.

        A stereo generator hears mono on both channels. Raises UserError for another shape.
        """
        if audio.ndim == 2:
            audio = audio.unsqueeze(1)
        if audio.ndim != 3 or audio.shape[1] not in (1, self.channels):
            raise UserError(
                f"audio has shape {list(audio.shape)}; give [clips, samples]"
                + (" or [clips, 2, samples]" if self.channels == 2 else "")
                + f" at {self.rate} Hz."
            )
        n, given, _ = audio.shape
        frames = audio.shape[2] // self.hop
        if not frames:
            return torch.zeros(n, self.books * self.channels, 0, dtype=torch.int64)
        mono = audio[..., : frames * self.hop].reshape(n * given, 1, -1)
        latent = self.network.encoder(mono.float().to(self.network.device))
        residual, found = latent, []
        for layer in list(self.network.quantizer.layers)[: self.books]:
            indices = layer.encode(residual)
            residual = residual - layer.decode(indices)
            found.append(indices)
        codes = torch.stack(found, 1)[..., :frames].view(n, given, self.books, frames)
        codes = codes.expand(n, self.channels, self.books, frames)
        return codes.transpose(1, 2).reshape(n, self.books * self.channels, frames).cpu()

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, channels, T * hop]``."""
        n, _, frames = codes.shape
        if not frames:
            return torch.zeros(n, self.channels, 0)
        apart = codes.view(n, self.books, self.channels, frames).transpose(1, 2).reshape(n * self.channels, self.books, frames)
        latent = self.network.quantizer.decode(apart.to(self.network.device).transpose(0, 1))
        audio: Tensor = self.network.decoder(latent)[..., : frames * self.hop]
        return audio.view(n, self.channels, -1).float().cpu()

    def codewords(self, codes: Tensor) -> Tensor:
        """The vector that each code stands for ``[n, K, T, e]``."""
        words = [
            self.network.quantizer.layers[j // self.channels].codebook.embed[codes[:, j].to(self.network.device)]
            for j in range(codes.shape[1])
        ]
        return torch.stack(words, 1).float().cpu()
