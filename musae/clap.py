"""CLAP: audio and text in one space, where what is alike lies close (Elizalde et al. 2023, arXiv:2206.04769).

The architecture is LAION's (Wu et al. 2023, arXiv:2211.06687), as transformers has it (``laion/larger_clap_music`` and the
like). Weights are read from a folder in transformers' format; none come with musae. It hears windows of a fixed length, 10 s in
the published models: their feature extractor cuts longer audio at random, and here audio is cut evenly instead, so that the
same audio has the same place whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from musae import checkpoints
from musae.errors import UserError
from musae.generators import hub

BATCH = 8
"""Windows, or texts, at once: about 1 GB with the published models."""

WORDS = 77
"""Tokens of a text that are read, as in training (Wu et al.'s code)."""

NEEDED = ("config.json", "preprocessor_config.json", "tokenizer_config.json")


class Clap:
    """A model with its feature extractor and tokenizer."""

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, revision: str) -> None:
        self.model, self.revision = model.requires_grad_(False), revision
        """Changes with the weights and with how they are asked."""
        self._extractor, self._tokenizer = extractor, tokenizer

    @classmethod
    def load(cls, folder: Path | str) -> Clap:
        """The model that a folder holds, as ``save_pretrained`` of model and processor wrote it.

        Raises UserError where the folder is missing or incomplete, where its weights are not safetensors, and where it holds
        another model.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise UserError(f"CLAP: {folder} is no folder; give one that holds a checkpoint in transformers' format.")
        if lacking := [name for name in NEEDED if not (folder / name).is_file()]:
            raise UserError(
                f"CLAP: {folder} has no {lacking[0]}; give a folder that `save_pretrained` of model and processor wrote."
            )
        from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel

        try:
            with checkpoints.quiet():
                kind = ClapConfig.get_config_dict(folder)[0].get("model_type")
                if kind != "clap":
                    raise UserError(f"{folder / 'config.json'}: model_type is {kind!r}; give a checkpoint of CLAP.")
                config = ClapConfig.from_pretrained(folder)
                extractor = ClapFeatureExtractor.from_pretrained(folder)
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = str(error).splitlines()[0]
            raise UserError(f"CLAP: {folder}: transformers cannot read it ({said}); download it again.") from error
        model = checkpoints.read(ClapModel, folder, config)
        files = [file for kind in ("*.safetensors", "*.json", "*.txt") for file in folder.glob(kind)]
        return cls(model, extractor, tokenizer, hub.checksum(files, f"even windows, {WORDS} tokens"))

    @property
    def rate(self) -> int:
        """Sample rate, in Hz, at which it hears."""
        return int(self._extractor.sampling_rate)

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return int(self._extractor.nb_max_samples) / self.rate

    def audio(self, waves: NDArray[np.float32] | Sequence[NDArray[np.float32]], rate: int) -> NDArray[np.float32]:
        """Unit vectors ``[n, d]`` of n mono clips of audio ``[n, samples]``, or a list of clips of any lengths, at `rate` Hz.

        Audio at another rate is resampled (soxr, high quality). Audio shorter than a window is repeated, as in training. Longer
        audio is heard in as many windows as fit, rounded, evenly spread (one: the middle); the vector is their mean's direction.

        Raises UserError for audio that is empty, not mono or not finite.
        """
        pieces: list[NDArray[np.float32]] = []
        counts = []
        for n, wave in enumerate(waves):
            windows = self._windows(np.asarray(wave, np.float32), rate, n)
            pieces += windows
            counts.append(len(windows))
        found = np.concatenate([self._heard(pieces[i : i + BATCH]) for i in range(0, len(pieces), BATCH)] or [self._none()])
        starts = np.cumsum([0, *counts])[:-1]
        return _unit(np.add.reduceat(found, starts, axis=0) if len(counts) else found)

    def text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors ``[m, d]`` of texts, each of its first `WORDS` tokens."""
        parts = [self._read(list(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
        return _unit(np.concatenate(parts or [self._none()]))

    def _windows(self, wave: NDArray[np.float32], rate: int, n: int) -> list[NDArray[np.float32]]:
        if wave.ndim != 1 or not len(wave) or rate < 1 or not np.isfinite(wave).all():
            raise UserError(f"CLAP: clip {n} of shape {list(wave.shape)} at {rate} Hz: give finite mono audio [samples].")
        if rate != self.rate:
            wave = np.asarray(soxr.resample(wave, rate, self.rate), np.float32)
        size = int(self._extractor.nb_max_samples)
        over = len(wave) - size
        if over <= 0:
            return [wave]
        count = max(1, round(len(wave) / size))
        starts = np.linspace(0, over, count).round().astype(int) if count > 1 else np.array([over // 2])
        return [wave[start : start + size] for start in starts]

    @torch.inference_mode()
    def _heard(self, windows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """A vector of each window; none is longer than a window, so that nothing is drawn at random of it."""
        given = self._extractor(windows, sampling_rate=self.rate, return_tensors="pt")
        shape = (len(windows), 1)  # the extractor says at random of one window that it is longer
        found = self.model.get_audio_features(given["input_features"].float(), is_longer=torch.zeros(shape, dtype=torch.bool))
        return np.asarray(found.pooler_output.numpy(), np.float32)

    @torch.inference_mode()
    def _read(self, texts: list[str]) -> NDArray[np.float32]:
        given = self._tokenizer(texts, padding=True, truncation=True, max_length=WORDS, return_tensors="pt")
        found = self.model.get_text_features(given["input_ids"], given["attention_mask"])
        return np.asarray(found.pooler_output.numpy(), np.float32)

    def _none(self) -> NDArray[np.float32]:
        return np.zeros((0, int(self.model.config.projection_dim)), np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row, at length 1."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
