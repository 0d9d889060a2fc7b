"""EnCodec (Défossez et al. 2022, arXiv:2210.13438) through audiocraft, or transformers where a checkpoint refers to it."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.generators.audiocraft.checkpoint import CODEC, Checkpoint, reason
from musae.generators.audiocraft.model import fill
from musae.generators.audiocraft.package import audiocraft
from musae.generators.channels import ChannelCodec


class EnCodec(ChannelCodec):
    """audiocraft's EnCodec. `channels`: 1, or 2 for a stereo generator; `codebooks`: of all channels."""

    def __init__(self, network: Any, hop: int, channels: int, codebooks: int) -> None:
        self.network = network.float().eval()
        super().__init__(rate=int(network.sample_rate), hop=hop, channels=channels, books=codebooks // channels)
        network.set_num_codebooks(self.books)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        found: torch.device = next(iter(self.network.parameters())).device
        return found

    def mono_codes(self, audio: Tensor) -> Tensor:
        """Residual quantisation of the encoder's output."""
        codes: Tensor = self.network.encode(audio)[0]
        return codes

    def mono_audio(self, codes: Tensor) -> Tensor:
        """The decoder's output for the sum of the codewords."""
        audio: Tensor = self.network.decode(codes)
        return audio

    def codebook(self, book: int) -> Tensor:
        """What a codebook's codes stand for."""
        words: Tensor = self.network.quantizer.vq.layers[book].codebook
        return words


def load(checkpoint: Checkpoint, device: torch.device) -> ChannelCodec:
    """A checkpoint's codec. Raises UserError where it does not fit its configuration or the language model."""
    if checkpoint.pretrained is not None:
        return _from_transformers(checkpoint, device)
    builders = audiocraft().models.builders
    omegaconf = importlib.import_module("omegaconf")
    where, config = checkpoint.folder / CODEC, checkpoint.codec_config.copy()
    config.device = "cpu"
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, of the weight norm that audiocraft uses
            network = builders.get_compression_model(config)
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, omegaconf.errors.OmegaConfBaseException) as error:
        raise UserError(
            f"{where}: audiocraft cannot build a codec from its configuration ({error!r}); choose another."
        ) from error
    fill(network, checkpoint.codec["best_state"], str(where))
    has, needs = int(network.total_codebooks), checkpoint.codebooks // checkpoint.channels
    words = int(checkpoint.config.transformer_lm.card)
    if has < needs or network.cardinality != words:
        raise UserError(
            f"{where}: has {has} codebooks of {network.cardinality} codewords, and the language model reads {needs} of {words}; "
            f"take both files from one checkpoint."
        )
    return EnCodec(network.to(device), checkpoint.hop, checkpoint.channels, checkpoint.codebooks)


def _from_transformers(checkpoint: Checkpoint, device: torch.device) -> ChannelCodec:
    from transformers import EncodecModel, PreTrainedModel

    from musae.generators.musicgen.codec import EnCodec as Transformers

    try:
        network: PreTrainedModel = EncodecModel.from_pretrained(checkpoint.pretrained, use_safetensors=True)
    except Exception as error:  # safetensors, torch and transformers each raise their own
        raise UserError(f"{checkpoint.pretrained}: the codec cannot be loaded ({reason(error)}); download it again.") from error
    return Transformers(network.to(device), checkpoint.channels, checkpoint.codebooks)
