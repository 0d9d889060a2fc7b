"""Instrument families: Essentia's classifier of the 40 instrument tags of MTG-Jamendo (Bogdanov et al. 2019), on Discogs-EffNet.

``essentia_instruments:FOLDER``, or the environment variable ``MUSAE_ESSENTIA_MODELS``, names a folder with two graphs (`GRAPHS`)
that the user has downloaded from https://essentia.upf.edu/models.html (CC BY-NC-SA 4.0: not for commercial use). It needs
``essentia-tensorflow`` in place of ``essentia``.

The classifier hears about two seconds at a time. A tag's mean over the audio is its activation; a family sounds where that of any
of its tags reaches `THRESHOLD`: a plain half, not tuned. The models were not at hand where this was written: that graphs are run
and read is tested on a small random one, and how often the real ones are right is not known until `musae estimate measure` says
so. Tags without a General MIDI family (`FAMILY`), such as the voice, are not reported.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations
from musae.errors import UserError
from musae.estimators import essentia_package
from musae.estimators.estimator import Estimator, revision_of
from musae.files import sha256

CARD = EstimatorCard(
    name="essentia_instruments",
    summary="Instrument families, essentia_instruments:FOLDER with its models: Essentia's MTG-Jamendo classifier.",
    licence="AGPL-3.0; models: CC BY-NC-SA 4.0 (non-commercial)",
    source="Essentia, Discogs-EffNet and MTG-Jamendo instrument (Alonso-Jiménez et al. 2020)",
    concepts=("instruments",),
    rate=16_000,
    shortest=2.1,
    argument="a folder with the models' .pb files",
)

VARIABLE = "MUSAE_ESSENTIA_MODELS"

GRAPHS = ("discogs-effnet-bs64-1.pb", "mtg_jamendo_instrument-discogs-effnet-1.pb")
"""Files of the embedding and of the classifier that reads it."""

EMBEDDING = "PartitionedCall:1"
"""The embedding's node, as the model's description names it; its default node are the 400 styles."""

THRESHOLD = 0.5

TAGS = (
    *("accordion", "acousticbassguitar", "acousticguitar", "bass", "beat", "bell", "bongo", "brass", "cello", "clarinet"),
    *("classicalguitar", "computer", "doublebass", "drummachine", "drums", "electricguitar", "electricpiano", "flute", "guitar"),
    *("harmonica", "harp", "horn", "keyboard", "oboe", "orchestra", "organ", "pad", "percussion", "piano", "pipeorgan", "rhodes"),
    *("sampler", "saxophone", "strings", "synthesizer", "trombone", "trumpet", "viola", "violin", "voice"),
)
"""The classifier's classes, in the order of its outputs (the model's description)."""

FAMILY = {
    **dict.fromkeys(("piano", "electricpiano", "rhodes"), "piano"),
    "bell": "chromatic percussion",
    **dict.fromkeys(("accordion", "harmonica", "organ", "pipeorgan"), "organ"),
    **dict.fromkeys(("acousticguitar", "classicalguitar", "electricguitar", "guitar"), "guitar"),
    **dict.fromkeys(("acousticbassguitar", "bass", "doublebass"), "bass"),
    **dict.fromkeys(("cello", "harp", "viola", "violin"), "strings"),
    **dict.fromkeys(("orchestra", "strings"), "ensemble"),
    **dict.fromkeys(("brass", "horn", "trombone", "trumpet"), "brass"),
    **dict.fromkeys(("clarinet", "oboe", "saxophone"), "reed"),
    "flute": "pipe",
    "pad": "synth pad",
    "synthesizer": "synth lead",
    **dict.fromkeys(("beat", "bongo", "drummachine", "drums", "percussion"), "drums"),
}
"""Tag -> General MIDI family. Where General MIDI has no place, or several (keyboard, sampler, computer, voice), none is given."""


class EssentiaInstruments(Estimator):
    """The classifier with the models of a folder. Raises UserError where they, or TensorFlow in Essentia, are missing."""

    card = CARD

    def __init__(self, folder: Path) -> None:
        es = essentia_package.standard()
        if not hasattr(es, "TensorflowPredict2D"):
            raise UserError(
                "this build of Essentia has no TensorFlow; `pip uninstall essentia`, then `pip install --pre "
                "essentia-tensorflow`."
            )
        paths = [folder / name for name in GRAPHS]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path}: no such file; download it from https://essentia.upf.edu/models.html.")
        try:
            self._embed = es.TensorflowPredictEffnetDiscogs(graphFilename=str(paths[0]), output=EMBEDDING)
            self._classify = es.TensorflowPredict2D(graphFilename=str(paths[1]))
        except RuntimeError as error:
            raise UserError(
                f"{folder}: Essentia cannot read a model ({str(error).splitlines()[0]}); download it anew."
            ) from error
        self._models = [sha256(path) for path in paths]

    @property
    def revision(self) -> str:
        settings = {"models": self._models, "threshold": THRESHOLD, "families": FAMILY}
        return revision_of("essentia", essentia_package.version(), CARD, settings)

    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        activations = np.asarray(self._classify(self._embed(audio)))
        if activations.ndim != 2 or activations.shape[1] != len(TAGS):
            raise UserError(
                f"{GRAPHS[1]}: it gives {list(activations.shape)} activations, not {len(TAGS)} tags; take that model."
            )
        return Annotations(instruments=families(activations.mean(0)))


def families(activations: NDArray[np.float32]) -> frozenset[str]:
    """The families of the tags whose activation ``[40]`` reaches `THRESHOLD`."""
    tags = [tag for tag, activation in zip(TAGS, activations, strict=True) if activation >= THRESHOLD]
    return frozenset(FAMILY[tag] for tag in tags if tag in FAMILY)


def card(argument: str) -> EstimatorCard:
    """The card, whatever the folder."""
    return CARD.model_copy(update={"argument": ""})


def load(argument: str = "") -> EssentiaInstruments:
    """The estimator with the models of a folder. Raises UserError where none is named, or it cannot be used."""
    folder = argument or os.environ.get(VARIABLE, "")
    if not folder:
        raise UserError(f"essentia_instruments: name the models' folder, essentia_instruments:FOLDER, or set {VARIABLE}.")
    return EssentiaInstruments(Path(folder).expanduser())
