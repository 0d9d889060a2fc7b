"""What MusicGen and MAGNeT through audiocraft have in common: the codec, conditions, times, revisions, random weights."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from musae.card import GeneratorCard
from musae.errors import UserError
from musae.generators import checks
from musae.generators.audiocraft import CARD, codec, model
from musae.generators.audiocraft.checkpoint import Checkpoint, reason
from musae.generators.audiocraft.package import audiocraft
from musae.generators.channels import ChannelCodec
from musae.generators.devices import placed
from musae.generators.generator import Generator


class Audiocraft:
    """The contract but for streams, losses and generation, which a subclass adds. `load` reads a checkpoint.

    `network`: audiocraft's language model. `text`, `no_text`: what blocks attend to with the prompt and without it ``[1, L, d]``;
    None where they attend to nothing. `seed`: of random weights, or None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: Any,
        sound: ChannelCodec,
        *,
        prompt: str | None,
        guidance: float,
        encoder: str | None,
        seed: int | None,
    ) -> None:
        self.checkpoint, self.network, self.codec = checkpoint, network.eval(), sound
        self.prompt, self.guidance, self.encoder, self.seed = prompt, guidance, encoder, seed
        self.card: GeneratorCard = checkpoint.card
        self.name = checkpoint.name
        self.words, self.depth = int(network.card), len(network.transformer.layers)
        if guidance != 1 and prompt is None:
            raise UserError(f"{self.name}: guidance = {guidance} compares with and without a prompt; give a prompt.")
        with torch.inference_mode():
            self.text, self.no_text = self._texts()

    def untrained(self, seed: int) -> Self:
        """The same codec, text encoder and architecture with random weights, as audiocraft initialises them: a control."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = model.build(self.checkpoint, initialise=True)
        network.to(self.device, self.dtype)
        prompt, guidance, encoder = self.prompt, self.guidance, self.encoder
        return type(self)(self.checkpoint, network, self.codec, prompt=prompt, guidance=guidance, encoder=encoder, seed=seed)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        found: torch.device = self.network.emb[0].weight.device
        return found

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        found: torch.dtype = self.network.emb[0].weight.dtype
        return found

    @cached_property
    def revision(self) -> str:
        """Ten hex digits of the files and of all that changes the stream: precision, prompt, decoding step, random weights."""
        changes = f"{self.dtype} {self.prompt!r} {self.guidance} {self.encoder} {self.seed} {self.checkpoint.step}"
        return self.checkpoint.checksum(changes)

    @cached_property
    def codec_revision(self) -> str:
        """Ten hex digits of the files, the codec's included: codes stay valid while it does."""
        return self.checkpoint.checksum("codec")

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]`` (or ``[n, 2, samples]`` where stereo) -> codes ``[n, K, T]``."""
        return self.codec.encode(audio)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, samples]``; of a stereo generator, the mean of its channels."""
        return self.codec.decode(self.checked(codes)).mean(1)

    def times(self, frames: int) -> Tensor:
        """Seconds of the end of each row's newest frame, or of its own where the model is not autoregressive ``[T]``."""
        return (torch.arange(frames) + 1) * (self.checkpoint.hop / self.checkpoint.rate)

    def checked(self, codes: Tensor) -> Tensor:
        """Codes as int64; raises UserError unless they are ``[n, K, T]`` and within the vocabulary."""
        return checks.checked(codes, self.checkpoint.codebooks, self.words, self.name)

    def hidden(self, stream: Tensor) -> Tensor:
        """What the heads read ``[n, P, d]``: the last block's stream after the final norm, where there is one."""
        norm = self.network.out_norm
        after: Tensor = norm(stream) if norm is not None else stream
        return after

    @property
    def heads(self) -> nn.ModuleList:
        """For each codebook, what maps the final hidden states to logits."""
        found: nn.ModuleList = self.network.linears
        return found

    def _texts(self) -> tuple[Tensor | None, Tensor | None]:
        """What blocks attend to with the prompt, and without it: as many states of zeros."""
        name = model.text_condition(self.checkpoint)
        if name is None:
            if self.prompt is not None:
                raise UserError(f"{self.name}: was trained without texts; give no prompt.")
            return None, None
        states = torch.zeros(1, 1, self.network.dim) if self.prompt is None else self._encoded(name, self.prompt)
        with_text, without = (
            model.attended(self.network, s.to(self.device, self.dtype)) for s in (states, torch.zeros_like(states))
        )
        return with_text, without

    def _encoded(self, name: str, prompt: str) -> Tensor:
        """The text encoder's states in the decoder's width ``[1, L, d]``. Raises UserError where the encoder cannot be had."""
        from transformers import AutoTokenizer, T5EncoderModel

        conditioner = self.checkpoint.config.conditioners[name]
        if conditioner.model != "t5" or conditioner.t5.get("normalize_text"):
            raise UserError(
                f"{self.name}: splits or normalises texts with spaCy, which this generator does not use; give no prompt."
            )
        weight, bias = model.projection(self.checkpoint, name)
        known = audiocraft().modules.conditioners.T5Conditioner.MODELS
        place = self.encoder or str(conditioner.t5.name)
        if self.encoder is None and place not in known:
            raise UserError(f"{self.name}: its text encoder is {place!r}, none of {', '.join(known)}; give text_encoder.")
        try:
            tokenizer = AutoTokenizer.from_pretrained(place)
            network = T5EncoderModel.from_pretrained(place, use_safetensors=True).eval()
        except Exception as error:  # the hub, safetensors and transformers each raise their own
            raise UserError(
                f"{self.name}: a prompt needs the text encoder {place}, which cannot be read ({reason(error)}); connect to the "
                f"network, or give its folder as text_encoder."
            ) from error
        states = network(**tokenizer(prompt, return_tensors="pt")).last_hidden_state
        if states.shape[-1] != weight.shape[-1]:
            raise UserError(
                f"{self.name}: the text encoder {place} has width {states.shape[-1]}, and the model reads {weight.shape[-1]}; "
                f"give the one that it was trained with."
            )
        return nn.functional.linear(states, weight, bias)


def load(
    source: str,
    *,
    prompt: str | None = None,
    guidance: float = 1.0,
    text_encoder: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Generator:
    """See `musae.generators.audiocraft.load`."""
    from musae.generators.audiocraft.magnet import MAGNeT
    from musae.generators.audiocraft.musicgen import MusicGen

    checkpoint = Checkpoint.open(source)
    place, precision = placed(device, dtype, CARD.name)
    kind: type[MusicGen | MAGNeT] = MusicGen if checkpoint.step is None else MAGNeT
    network = model.load(checkpoint).to(place, precision)
    return kind(
        checkpoint, network, codec.load(checkpoint, place), prompt=prompt, guidance=guidance, encoder=text_encoder, seed=None
    )
