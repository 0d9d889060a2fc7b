"""MusicGen's checkpoints in transformers' format: where they are, what they are, and their checksum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import (
    AutoConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
    PreTrainedModel,
)
from transformers.utils import logging

from musae.card import GeneratorCard
from musae.errors import UserError
from musae.generators.musicgen import CARD

CLASSES = {"musicgen": MusicgenForConditionalGeneration, "musicgen_melody": MusicgenMelodyForConditionalGeneration}
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
OTHERS = ("*.json", "*.model", "*.txt")
"""Configuration and tokenizer."""


@dataclass(frozen=True)
class Source:
    """A hub id with a revision, or a folder."""

    place: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """``owner/name``, ``owner/name@revision`` or a folder's path; what exists as a folder is one."""
        if not text:
            raise UserError(f"{CARD.name}: is followed by nothing; give {CARD.argument}.")
        if Path(text).expanduser().is_dir():
            return cls(str(Path(text).expanduser()))
        place, _, revision = text.partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
            raise UserError(f"{CARD.name}:{text}: neither a folder nor a hub id (owner/name); give {CARD.argument}.")
        return cls(place, revision or None)

    def folder(self, *patterns: str) -> Path:
        """The folder, or the local copy of a hub repository's files that match, downloaded where they are missing."""
        if Path(self.place).is_dir():
            return Path(self.place)
        with _told(self):
            return Path(snapshot_download(self.place, revision=self.revision, allow_patterns=list(patterns)))


@contextmanager
def _told(source: Source) -> Iterator[None]:
    """Say what the hub's errors mean."""
    name = f"{CARD.name}:{source.place}" + (f"@{source.revision}" if source.revision else "")
    try:
        yield
    except GatedRepoError as error:
        raise UserError(f"{name}: access is restricted; accept its terms on huggingface.co, then run `hf auth login`.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no such model, or hides it; check the name, or log in with `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{name}: not in the local cache, and the hub could not be asked ({str(error).splitlines()[0]}); connect to the "
            f"network, or give a folder that holds the checkpoint."
        ) from error


def configuration(source: str) -> Any:
    """The checkpoint's transformers configuration. Raises UserError where there is none, or it is no MusicGen's."""
    folder = Source.parse(source).folder(*OTHERS)
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
        "name": re.sub(r"[^\w.-]", "-", Path(Source.parse(source).place).resolve().name),
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
    folder = Source.parse(source).folder(*WEIGHTS, *OTHERS)
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
    """Ten hex digits of the SHA-256 of the weight files' own, by name, and a text.

    The hub's cache names a file by its SHA-256 already: it is not read again.
    """
    folder = Source.parse(source).folder(*WEIGHTS, *OTHERS)
    digest = hashlib.sha256(more.encode())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {_sha256(path)}\n".encode())
    return digest.hexdigest()[:10]


def _sha256(path: Path) -> str:
    name = path.resolve().name
    if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", name):
        return name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
