"""MusicGen's checkpoints in transformers' format: where they are, what they are, and their checksum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    AutoConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
    PreTrainedModel,
)
from transformers.utils import logging

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
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: no *.safetensors file; other formats may run code when they are read. Convert it with "
            f"`save_pretrained(folder)` on a machine where you trust the file."
        )
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with _quiet():
            found, info = CLASSES[config.model_type].from_pretrained(folder, config=config, dtype=torch.float32, **options)
    except Exception as error:  # safetensors, torch and transformers each raise their own
        raise UserError(f"{folder}: the weights cannot be loaded ({str(error).splitlines()[0]}); download them again.") from error
    lacking = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if lacking:
        raise UserError(
            f"{folder}: tensors are missing, or have another shape than config.json says: {lacking[0]}"
            + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
            + "; download it again."
        )
    for name, part in found.named_children():
        if name != "audio_encoder":
            part.to(dtype)
    return found.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bar and its report of what is missing, which is said here."""
    shows, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows:
            logging.enable_progress_bar()


def checksum(source: str, more: str) -> str:
    """Ten hex digits of the weight files' SHA-256 and a text."""
    return hub.checksum(source_of(source).folder(*WEIGHTS, *OTHERS).glob("*.safetensors"), more)
