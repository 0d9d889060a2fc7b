"""`MusicGen`: the generator's contract over transformers' MusicGen; `musae.generators.decoder` runs the blocks."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from musae.card import GeneratorCard
from musae.errors import UserError
from musae.generators.autoregressive import Condition, shown
from musae.generators.decoder import Decoder
from musae.generators.devices import placed
from musae.generators.musicgen import CARD, checkpoint
from musae.generators.musicgen.codec import EnCodec


class MusicGen(Decoder):
    """MusicGen, of any size, mono or stereo, with or without a melody's conditioner. `load` reads a checkpoint.

    No text by default. MusicGen-Melody's null melody stands before each clip, as in its own training without one.
    """

    def __init__(
        self, whole: Any, source: str, *, prompt: str | None = None, guidance: float = 1.0, seed: int | None = None
    ) -> None:
        config = whole.decoder.config
        channels = int(config.audio_channels)
        self.card: GeneratorCard = checkpoint.card_of(whole.config, source)
        super().__init__(whole.decoder, [j // channels for j in range(config.num_codebooks)], f"{CARD.name}:{source}")
        self.source, self.prompt, self.guidance, self.seed = source, prompt, guidance, seed
        self.whole = whole
        self.codec = EnCodec(whole.audio_encoder, channels, config.num_codebooks)
        if guidance != 1 and prompt is None:
            raise UserError(f"{self.name}: guidance = {guidance} compares with and without a prompt; give a prompt.")
        with torch.inference_mode():
            self.condition, self.unconditional = self._conditions(prompt)

    @classmethod
    def load(
        cls,
        source: str,
        *,
        prompt: str | None = None,
        guidance: float = 1.0,
        device: str | None = None,
        dtype: str | None = None,
        compile: bool = False,
    ) -> MusicGen:
        """See `musae.generators.musicgen.load`."""
        place, precision = placed(device, dtype, CARD.name)
        whole = checkpoint.model(source, checkpoint.configuration(source), precision)
        found = cls(whole.to(place), source, prompt=prompt, guidance=guidance)
        if compile:
            for block in found.network.model.decoder.layers:
                block.compile()
        return found

    def untrained(self, seed: int) -> MusicGen:
        """The same codec and architecture with random weights, as transformers initialises them: a control."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            whole = type(self.whole)(self.whole.config)
        whole.to(self.network.device, self.network.dtype)
        whole.audio_encoder = self.whole.audio_encoder
        return MusicGen(whole.eval(), self.source, prompt=self.prompt, guidance=self.guidance, seed=seed)

    @cached_property
    def revision(self) -> str:
        """Ten hex digits of the checkpoint's files and of all that changes the stream: precision, prompt, random weights."""
        changes = f"{self.network.dtype} {self.prompt!r} {self.guidance} {self.seed}"
        return checkpoint.checksum(self.source, changes)

    @cached_property
    def codec_revision(self) -> str:
        """Ten hex digits of the checkpoint, EnCodec included: codes stay valid while it does."""
        return checkpoint.checksum(self.source, "codec")

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]`` (or ``[n, 2, samples]`` where stereo) -> codes ``[n, K, T]``."""
        return self.codec.encode(audio)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, samples]``; of a stereo generator, the mean of its channels."""
        return self.decode_channels(codes).mean(1)

    def decode_channels(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, channels, samples]``."""
        return self.codec.decode(self.checked(codes))

    def times(self, frames: int) -> Tensor:
        """Seconds of the end of each row's newest frame ``[T]``."""
        return (torch.arange(frames) + 1) * (self.codec.hop / self.codec.rate)

    def visible(self, codes: Tensor) -> Tensor:
        """EnCodec's codewords of the tokens newly read at each step ``[n, T, K * e]``."""
        return shown(self.codec.codewords(self.checked(codes)), self.delays)

    def _conditions(self, prompt: str | None) -> tuple[Condition, Condition]:
        """With the prompt, and without it (classifier-free guidance's null: states of zeros)."""
        text = self._text(prompt) if prompt is not None else None
        if self.whole.config.model_type == "musicgen":
            return Condition(text=text), Condition()
        melody = self._null_melody()
        if text is None:
            return Condition(prefix=melody), Condition(prefix=melody)
        nothing = torch.zeros_like(text)
        return Condition(prefix=torch.cat([melody, text], 1)), Condition(prefix=torch.cat([melody, nothing], 1))

    def _text(self, prompt: str) -> Tensor:
        """The text encoder's states in the decoder's width ``[1, L, d]``."""
        from transformers import AutoTokenizer

        folder = checkpoint.source_of(self.source).folder(*checkpoint.WEIGHTS, *checkpoint.OTHERS)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder}: a prompt needs its tokenizer, which cannot be read ({error}); download it again."
            ) from error
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(self.network.device)
        states: Tensor = self.whole.text_encoder(input_ids=ids).last_hidden_state
        if states.shape[-1] != self.network.config.hidden_size:
            states = self.whole.enc_to_dec_proj(states)
        return states

    def _null_melody(self) -> Tensor:
        """The states of no melody ``[1, P, d]``: the first chroma class in each frame (transformers' null)."""
        c = self.whole.config
        chroma = torch.zeros(1, c.chroma_length, c.num_chroma, device=self.network.device, dtype=self.network.dtype)
        chroma[..., 0] = 1
        projected: Tensor = (
            self.whole.audio_enc_to_dec_proj(chroma) if c.num_chroma != self.network.config.hidden_size else chroma
        )
        return projected
