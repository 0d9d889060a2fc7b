"""What is heard and seen of a steering experiment: WAVs, and one sheet of spectrograms."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from musae.files import atomic_path
from musae.steering import pitch
from musae.steering.concepts import Concept
from musae.steering.experiment import Experiment
from musae.steering.report import Found, ordered

COLUMNS = ("unsteered", "steered", "reversed", "random", "probe")

ROWS = 8
"""Concepts on the sheet, the first of the table: more cannot be read, and of all there are WAVs."""


def write(experiment: Experiment, concepts: Sequence[Concept], found: Sequence[Found], folder: Path, prompts: int) -> list[Path]:
    """Write ``<concept>/<condition>-<prompt>.wav`` for the first fresh prompts (prompt and continuation) and ``sheet.png``.

    Returns the files. Concepts that are unscored have none.
    """
    rate, files = experiment.continuations.generator.card.rate, []
    rows: dict[str, dict[str, NDArray[np.float32]]] = {}
    for concept, result in zip(concepts, found, strict=True):
        if result.strength is None:
            continue
        shown: dict[str, NDArray[np.float32]] = {}
        for name, what in experiment.examples(concept, result).items():
            codes = experiment.continuations.codes(experiment.fresh, what, experiment.seeds[0])[:prompts]
            for i, wave in enumerate(experiment.continuations.generator.decode(codes).numpy()):
                files.append(_wav(folder / concept.name.replace(" ", "-") / f"{name}-{i + 1}.wav", wave, rate))
                shown.setdefault(name, wave)
        rows[concept.name] = shown
    if rows:
        frames = experiment.fresh.codes.shape[2]
        begins = frames / experiment.continuations.generator.card.frame_rate
        best = [(f"{one.concept}: {one.verdict}", rows[one.concept]) for one in ordered(found) if one.concept in rows][:ROWS]
        files.append(_sheet(folder / "sheet.png", best, rate, begins))
    return files


def _wav(path: Path, wave: NDArray[np.float32], rate: int) -> Path:
    """16-bit WAV; quieter as a whole where a sample would exceed full scale."""
    with atomic_path(path) as temporary:
        soundfile.write(temporary, wave / max(1.0, float(np.abs(wave).max())), rate, format="WAV", subtype="PCM_16")
    return path


def _sheet(path: Path, rows: Sequence[tuple[str, dict[str, NDArray[np.float32]]]], rate: int, begins: float) -> Path:
    """Spectrograms of semitones, a concept a row and a condition a column; a line marks where the prompt ends."""
    figures: Any = importlib.import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(2.6 * len(COLUMNS), 1.5 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), len(COLUMNS), squeeze=False, sharex=True, sharey=True)
    for row, (name, waves) in enumerate(rows):
        for axis, column in zip(axes[row], COLUMNS, strict=True):
            if column not in waves:
                axis.set_axis_off()
                continue
            seconds = len(waves[column]) / rate
            image = pitch.semitones(waves[column], rate).T
            axis.imshow(
                image, origin="lower", aspect="auto", extent=(0, seconds, pitch.LOWEST - 0.5, pitch.HIGHEST + 0.5), cmap="magma"
            )
            axis.axvline(begins, color="white", linewidth=0.8, linestyle="--")
            if row == 0:
                axis.set_title(column, fontsize=9)
            axis.tick_params(labelsize=6)
        axes[row][0].set_ylabel(f"{name}\nMIDI pitch", fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=7)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    images: Any = importlib.import_module("PIL.Image")
    with atomic_path(path) as temporary:  # 16 colours, steps of 4 dB: a quarter of the size
        images.open(drawn).convert("RGB").quantize(16, dither=0).save(temporary, format="PNG", optimize=True)
    return path
