"""MusicGen's checkpoints in transformers' format: where they are, what they are, and their checksum."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
    PreTrainedModel,
)

from musae import checkpoints
from musae.card import GeneratorCard
from musae.errors import UserError
from musae.generators import hub
from musae.generators.hub import Source
from musae.generators.musicgen import CARD

CLASSES = {"musicgen": MusicgenForConditionalGeneration, "musicgen_melody": MusicgenMelodyForConditionalGeneration}
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
OTHERS = ("*.json", "*.model", "*.txt")
"""Configuration and tokenizer."""


def source_of(text: str) -> Source:
    """Where ``musicgen:TEXT`` is."""
    return Source.parse(text, CARD)


def configuration(source: str) -> Any:
    """The checkpoint's transformers configuration. Raises UserError where there is none, or it is no MusicGen's."""
    folder = source_of(source).folder(*OTHERS)
    if not (folder / "config.json").is_file():
        raise UserError(f"{CARD.name}:{source}: {folder} has no config.json; give a folder that `save_pretrained` wrote.")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / 'config.json'}: transformers cannot read it ({error}); download it again.") from error
    if config.model_type not in CLASSES:
        raise UserError(
            f"{folder / 'config.json'}: model_type is {config.model_type!r}, and this generator reads {' and '.join(CLASSES)}; "
            f"choose another checkpoint."
        )
    return config


def card_of(config: Any, source: str) -> GeneratorCard:
    """What a configuration says of its generator, whose name is the last part of the hub id or path."""
    audio, decoder = config.audio_encoder, config.decoder
    known = CARD.model_dump() | {
        "name": source_of(source).name,
        "summary": f"MusicGen of {decoder.num_hidden_layers} blocks, width {decoder.hidden_size}, through transformers.",
        "licence": CARD.licence if source.startswith("facebook/") else "as the checkpoint's owner says",
        "rate": audio.sampling_rate,
        "frame_rate": audio.sampling_rate / hop(audio),
        "codebooks": decoder.num_codebooks,
        "width": decoder.hidden_size,
        "layers": decoder.num_hidden_layers,
        "argument": "",
    }
    return GeneratorCard(**known)


def hop(audio: Any) -> int:
    """Samples of one frame of EnCodec."""
    samples = 1
    for ratio in audio.upsampling_ratios:
        samples *= int(ratio)
    return samples


def model(source: str, config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The whole checkpoint, in evaluation mode: EnCodec in float32, the rest in `dtype`.

    Raises UserError where files are missing, damaged or do not fit.
    """
    folder = source_of(source).folder(*WEIGHTS, *OTHERS)
    found = checkpoints.read(CLASSES[config.model_type], folder, config)
    for name, part in found.named_children():
        if name != "audio_encoder":
            part.to(dtype)
    return cast(PreTrainedModel, found)


def checksum(source: str, more: str) -> str:
    """Ten hex digits of the weight files' SHA-256 and a text."""
    return hub.checksum(source_of(source).folder(*WEIGHTS, *OTHERS).glob("*.safetensors"), more)
