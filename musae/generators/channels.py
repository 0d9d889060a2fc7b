"""Codes of stereo audio by a mono codec: each channel is encoded by itself, and the codebooks of left and right alternate."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from musae.errors import UserError


class ChannelCodec(ABC):
    """A residual codec of mono audio, applied to each channel. Without gradients, float32; hands out tensors in host memory.

    `rate`: in Hz. `hop`: samples of one frame. `channels`: 1, or 2 for a stereo generator. `books`: codebooks of one channel.
    """

    def __init__(self, *, rate: int, hop: int, channels: int, books: int) -> None:
        self.rate, self.hop, self.channels, self.books = rate, hop, channels, books

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network is."""

    @abstractmethod
    def mono_codes(self, audio: Tensor) -> Tensor:
        """Audio ``[n, 1, T * hop]`` -> codes ``[n, books, T]``; frames beyond T are cut."""

    @abstractmethod
    def mono_audio(self, codes: Tensor) -> Tensor:
        """Codes ``[n, books, T]`` -> audio ``[n, 1, T * hop]``; samples beyond that are cut."""

    @abstractmethod
    def codebook(self, book: int) -> Tensor:
        """What a codebook's codes stand for ``[words, e]``."""

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
        codes = self.mono_codes(mono.float().to(self.device))[..., :frames].view(n, given, self.books, frames)
        codes = codes.expand(n, self.channels, self.books, frames)
        return codes.transpose(1, 2).reshape(n, self.books * self.channels, frames).cpu()

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, channels, T * hop]``."""
        n, _, frames = codes.shape
        if not frames:
            return torch.zeros(n, self.channels, 0)
        apart = codes.view(n, self.books, self.channels, frames).transpose(1, 2).reshape(n * self.channels, self.books, frames)
        audio = self.mono_audio(apart.to(self.device))[..., : frames * self.hop]
        return audio.view(n, self.channels, -1).float().cpu()

    def codewords(self, codes: Tensor) -> Tensor:
        """The vector that each code stands for ``[n, K, T, e]``."""
        words = [self.codebook(j // self.channels)[codes[:, j].to(self.device)] for j in range(codes.shape[1])]
        return torch.stack(words, 1).float().cpu()
