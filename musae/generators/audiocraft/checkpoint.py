"""audiocraft's checkpoints: ``state_dict.bin`` (the language model) and ``compression_state_dict.bin`` (its codec).

Each is what `audiocraft.utils.export` writes: a dictionary with ``best_state`` (tensors by name) and ``xp.cfg`` (the training's
configuration, YAML); or, for a codec, ``pretrained``, the hub id of an EnCodec in transformers' format. They are pickles: torch
reads them with ``weights_only``, which builds tensors, numbers and texts and runs nothing.
"""

from __future__ import annotations

import importlib
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from musae.card import GeneratorCard
from musae.errors import UserError
from musae.generators import hub
from musae.generators.audiocraft import CARD
from musae.generators.audiocraft.package import audiocraft
from musae.generators.hub import Source

LANGUAGE_MODEL, CODEC = "state_dict.bin", "compression_state_dict.bin"

MODELS = {"transformer_lm": "MusicGen", "transformer_lm_magnet": "MAGNeT"}
"""``lm_model`` of the configuration -> the model's name."""


@dataclass(frozen=True)
class Step:
    """A decoding step of MAGNeT: codebooks below `codebook` (from 1) are known, those above are not, `masked` of it is not."""

    codebook: int = 1
    masked: float = 0.5

    @classmethod
    def parse(cls, text: str, codebooks: int, where: str) -> Step:
        """``codebook=2,masked=0.25``, either of which may be left out. Raises UserError for anything else."""
        kinds = {"codebook": int, "masked": float}
        try:
            given = dict(part.split("=") for part in text.split(","))
            found = cls(**{name: kinds[name](value) for name, value in given.items()})
        except (ValueError, KeyError):
            found = None
        if found is None or not 1 <= found.codebook <= codebooks or not 0 < found.masked <= 1:
            raise UserError(
                f"{where}: {text!r} is no decoding step; write #codebook=1,masked=0.5 with a codebook from 1 to {codebooks} and "
                f"a share that is masked, above 0 and at most 1."
            )
        if found == cls(1, 1.0):
            raise UserError(f"{where}: at {found} all is masked, and every clip has the same stream; mask less of codebook 1.")
        return found

    def __str__(self) -> str:
        return f"codebook={self.codebook},masked={self.masked}"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have been opened: tensors are read when they are used."""

    source: Source
    folder: Path
    language_model: Mapping[str, Any]
    """Of ``state_dict.bin``."""
    codec: Mapping[str, Any]
    """Of ``compression_state_dict.bin``."""
    decoding_step: str
    """What follows ``#`` in the name."""

    @classmethod
    def open(cls, text: str) -> Checkpoint:
        """Find and open ``FOLDER``, ``owner/name[@revision]``, with a decoding step if need be. Raises UserError."""
        place, _, step = (text, "", "") if Path(text).expanduser().is_dir() else text.partition("#")
        source = Source.parse(place, CARD)
        folder = source.folder(LANGUAGE_MODEL, CODEC)
        audiocraft()  # nothing can be done without it
        return cls(source, folder, _read(folder / LANGUAGE_MODEL), _read(folder / CODEC), step)

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"{CARD.name}:{self.source.place}"

    @cached_property
    def config(self) -> Any:
        """The language model's configuration (omegaconf). Raises UserError where it is of another kind of model."""
        config = _configuration(self.folder / LANGUAGE_MODEL, self.language_model)
        kind = config.get("lm_model")
        if kind not in MODELS:
            raise UserError(
                f"{self.folder / LANGUAGE_MODEL}: lm_model is {kind!r}, and this generator reads {' and '.join(MODELS)} "
                f"(MusicGen, AudioGen, MAGNeT); choose another checkpoint."
            )
        shape = [f"transformer_lm.{name}" for name in ("n_q", "card", "dim", "num_layers", "num_heads")]
        others = ["codebooks_pattern", "fuser.cross"] + (["masking.span_len"] if MODELS[kind] == "MAGNeT" else [])
        _require(self.folder / LANGUAGE_MODEL, config, *shape, *others)
        return config

    @cached_property
    def step(self) -> Step | None:
        """MAGNeT's decoding step; None for MusicGen, whose name must not state one."""
        if self.config.lm_model == "transformer_lm_magnet":
            return Step.parse(self.decoding_step, self.codebooks, self.name) if self.decoding_step else Step()
        if self.decoding_step:
            raise UserError(
                f"{self.name}: it is autoregressive, and each row is a step of its own; leave out #{self.decoding_step}."
            )
        return None

    @property
    def codebooks(self) -> int:
        """Codebooks of the language model, both channels' where it is stereo."""
        return int(self.config.transformer_lm.n_q)

    @cached_property
    def channels(self) -> int:
        """2 where the codebooks of left and right alternate."""
        stereo = self.config.get("interleave_stereo_codebooks") or {}
        if stereo.get("use") and stereo.get("per_timestep"):
            raise UserError(f"{self.name}: left and right alternate in time, which this generator does not read; choose another.")
        return 2 if stereo.get("use") else 1

    @cached_property
    def codec_config(self) -> Any:
        """The codec's configuration: omegaconf's, or that of the `pretrained` EnCodec, transformers'."""
        if (pretrained := self.pretrained) is not None:
            from transformers import AutoConfig

            try:
                return AutoConfig.from_pretrained(pretrained)
            except (OSError, ValueError, KeyError) as error:
                raise UserError(
                    f"{pretrained}: transformers cannot read its config.json ({reason(error)}); download it again."
                ) from error
        config = _configuration(self.folder / CODEC, self.codec)
        if config.get("compression_model") == "encodec":
            _require(self.folder / CODEC, config, "encodec.sample_rate", "encodec.channels", "seanet.ratios")
        if config.get("compression_model") != "encodec" or config.encodec.channels != 1 or config.encodec.get("renormalize"):
            raise UserError(
                f"{self.folder / CODEC}: this generator reads a mono EnCodec without renormalisation; choose another."
            )
        return config

    @cached_property
    def pretrained(self) -> Path | None:
        """The folder of the EnCodec in transformers' format, where the codec is given by its hub id."""
        named = self.codec.get("pretrained")
        if named is None:
            return None
        if not re.fullmatch(r"[\w-][\w.-]*/encodec[\w.-]*", str(named)):
            raise UserError(f"{self.folder / CODEC}: its codec is {named!r}, and this generator reads EnCodec; choose another.")
        return Source(str(named), None, CARD.name).folder("*.safetensors", "*.json")

    @cached_property
    def rate(self) -> int:
        """Sampling rate in Hz."""
        return int(self.codec_config.sampling_rate if self.pretrained else self.codec_config.encodec.sample_rate)

    @cached_property
    def hop(self) -> int:
        """Samples of one frame."""
        return math.prod(self.codec_config.upsampling_ratios if self.pretrained else self.codec_config.seanet.ratios)

    @cached_property
    def card(self) -> GeneratorCard:
        """What the configurations say of the generator, whose name is the last part of the hub id or path."""
        shape, step = self.config.transformer_lm, self.step
        known = CARD.model_dump() | {
            "name": self.source.name,
            "summary": f"{MODELS[self.config.lm_model]} of {shape.num_layers} blocks, width {shape.dim}, through audiocraft"
            + (f", at {step}." if step else "."),
            "licence": CARD.licence if self.source.place.startswith("facebook/") else "as the checkpoint's owner says",
            "rate": self.rate,
            "frame_rate": self.rate / self.hop,
            "codebooks": self.codebooks,
            "width": int(shape.dim),
            "layers": int(shape.num_layers),
            "reading": "bidirectional" if step else "causal",
            "argument": "",
        }
        return GeneratorCard(**known)

    def checksum(self, more: str) -> str:
        """Ten hex digits of the files' SHA-256 and a text."""
        paths = [self.folder / LANGUAGE_MODEL, self.folder / CODEC]
        return hub.checksum(paths + (sorted(self.pretrained.glob("*.safetensors")) if self.pretrained else []), more)


def _read(path: Path) -> Mapping[str, Any]:
    """The dictionary in a file; its tensors are read when they are used. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path.parent}: no {path.name}; give {CARD.argument}, as audiocraft's export writes them.")
    try:
        package = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) or "global" in str(error).lower():
            raise UserError(
                f"{path}: holds Python objects besides tensors and texts, which may run code when they are read; export it again "
                f"with audiocraft.utils.export, on a machine where you trust the file."
            ) from error
        raise UserError(f"{path}: is damaged, or no checkpoint; download it again.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: is damaged ({reason(error)}); download it again.") from error
    if not isinstance(package, Mapping) or not ({"best_state", "xp.cfg"} <= set(package) or "pretrained" in package):
        raise UserError(f"{path}: holds no best_state and xp.cfg; give a checkpoint that audiocraft's export wrote.")
    return package


def _configuration(path: Path, package: Mapping[str, Any]) -> Any:
    """The YAML in ``xp.cfg``. Raises UserError."""
    omegaconf, yaml = (importlib.import_module(name) for name in ("omegaconf", "yaml"))  # both come with audiocraft
    try:
        config = omegaconf.OmegaConf.create(package["xp.cfg"])
        omegaconf.OmegaConf.set_struct(config, False)
    except (KeyError, ValueError, yaml.YAMLError, omegaconf.errors.OmegaConfBaseException) as error:
        raise UserError(f"{path}: its configuration, xp.cfg, cannot be read ({reason(error)}); download it again.") from error
    return config


def _require(path: Path, config: Any, *keys: str) -> None:
    """Raise UserError unless a configuration has all of `keys`."""
    omegaconf = importlib.import_module("omegaconf")
    for key in keys:
        try:
            found = omegaconf.OmegaConf.select(config, key)
        except omegaconf.errors.OmegaConfBaseException:
            found = None
        if found is None:
            raise UserError(f"{path}: its configuration, xp.cfg, says nothing of {key}; choose another checkpoint.")


def reason(error: Exception) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
