"""`MusicGen`: the generator's contract over audiocraft's MusicGen and AudioGen (arXiv:2306.05284, arXiv:2209.15352)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from musae.generators.audiocraft import model
from musae.generators.audiocraft.adapter import Audiocraft
from musae.generators.audiocraft.checkpoint import Checkpoint
from musae.generators.autoregressive import Autoregressive, Condition, shown

Cache = dict[int, dict[str, Tensor]]


class MusicGen(Audiocraft, Autoregressive):
    """MusicGen, of any size, mono or stereo. Rows, delays, losses and sampling are those of `musae.generators.autoregressive`."""

    def __init__(self, checkpoint: Checkpoint, network: Any, sound: Any, **options: Any) -> None:
        Audiocraft.__init__(self, checkpoint, network, sound, **options)
        self.delays = tuple(model.delays(network, self.name, start=True))
        self.condition, self.unconditional = Condition(text=self.text), Condition(text=self.no_text)

    def embed(self, inputs: Tensor, past: int, prefix: Tensor | None) -> Tensor:
        """Layer 0 of delayed inputs; nothing stands before a clip."""
        assert prefix is None
        return model.embed(self.network, inputs, past)

    def block(self, index: int, stream: Tensor, text: Tensor | None, cache: Cache | None) -> Tensor:
        """Stream after block `index`."""
        return model.run_block(self.network, index, stream, text, cache=cache)

    def cache(self) -> Cache:
        """audiocraft's own streaming states, by block."""
        return {}

    def visible(self, codes: Tensor) -> Tensor:
        """EnCodec's codewords of the tokens newly read at each step ``[n, T, K * e]``."""
        return shown(self.codec.codewords(self.checked(codes)), self.delays)
