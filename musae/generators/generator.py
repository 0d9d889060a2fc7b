"""The contract of a music generator: tokens, residual stream, splice, generation.

Shapes: n clips, K codebooks, T frames, d stream width. Codes are int64 ``[n, K, T]``, *undelayed*: ``codes[:, :, f]`` describes
the audio of frame f. Audio is mono float32 ``[n, samples]``.

Layer l is the residual stream after l blocks (l = 0: after the embeddings), before any final norm. Row f of a clip's stream is
the decoding step that has just read codebook 1 of frame f, and codebook 1 + j of frame f - j where codebooks are delayed. Only
the generator knows its delay pattern and frame rate: it hands out seconds and the tokens visible at each step.

A generator that is not autoregressive (``card.reading == "bidirectional"``) is read at one stated step of its decoding: a
codebook and the share of it that is masked (MAGNeT), the noise level (a diffusion transformer). The step is part of its name and
revision. Row f is frame f, or latent frame f, at that step, and may depend on all of its clip. What the step hides, by masks or
noise, is drawn from the clip's codes alone: a clip has the same rows in any batch. `visible` shows what is left of each frame,
`loss` is over what the step predicts, and `generate` runs through all steps. A diffusion model's codes are its latent's channels,
each quantised finely beside the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from musae.card import GeneratorCard

Splice = Callable[[Tensor], Tensor]
"""Maps a layer's stream ``[n, T, d]`` (float32) to its replacement of the same shape."""


class Generator(Protocol):
    """A music generator. One file in `musae/generators/` provides one, as a module-level ``CARD`` and ``load()``."""

    card: GeneratorCard

    @property
    def revision(self) -> str:
        """Ten hex digits of the weights' and codec's checksum."""

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]`` at `card.rate` -> codes ``[n, K, T]``; T = floor(samples / rate * frame_rate)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, samples]`` at `card.rate`."""

    def times(self, frames: int) -> Tensor:
        """Seconds from the clip's start of each of `frames` rows ``[T]``: the end of the newest frame that the step has read.

        Of the row's own frame, where the generator is bidirectional.
        """

    def stream(self, codes: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
        """Residual stream at each layer, float32 ``[n, T, d]``; runs no block above the highest layer asked for."""

    def visible(self, codes: Tensor) -> Tensor:
        """Codewords of exactly the tokens that step f has newly read, side by side: float32 ``[n, T, K * e]``.

        Codebook 1 + j contributes frame f - j (zeros where that lies before the clip): all that a read-out of the tokens could
        know at this step. e is the width of a codeword. Bidirectional: frame f, zeros or noise where the step hides it.
        """

    def loss(self, codes: Tensor, layer: int | None = None, splice: Splice | None = None) -> Tensor:
        """Next-token cross-entropy in nats per clip and codebook ``[n, K]``, mean over frames; with a layer's stream replaced.

        Bidirectional: of what the step hides, mean over that; 0 for a codebook that the step does not predict.
        """

    def generate(
        self, prompt: Tensor, frames: int, *, seed: int, layer: int | None = None, splice: Splice | None = None
    ) -> Tensor:
        """Continue codes ``[n, K, T0]`` by `frames` frames, sampled at temperature 1; with a layer's stream replaced.

        Bidirectional: by the model's own schedule; a splice replaces the stream of all frames, at the steps that it is made for.
        """
