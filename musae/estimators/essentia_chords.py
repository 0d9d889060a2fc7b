"""Major and minor triads: Essentia's HPCPs and ChordsDetection (Gómez 2006).

Settings were chosen on 10.24-s clips of 120 *training* pieces each of `procedural` and `chorales`, by weighted chord recall
(majmin): whitened peaks with four harmonics, 12 bins and a window of 0.6 s reached .794 and .738; plain HPCPs of 36 bins
with 1 s .725 and .617; ChordsDetectionBeats between RhythmExtractor2013's beats .761 and .716. Peaks count from A = 440 Hz:
music that is tuned otherwise is heard less well. Frames without any peak are no chord (``N``), which the tool does not know.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations
from musae.estimators import essentia_package
from musae.estimators.estimator import Estimator, merged, revision_of

CARD = EstimatorCard(
    name="essentia_chords",
    summary="Major and minor triads: Essentia's ChordsDetection on whitened HPCPs.",
    licence="AGPL-3.0",
    source="Essentia, HPCP and ChordsDetection (Gómez 2006)",
    concepts=("chords",),
    rate=44_100,
    shortest=1.0,
)

FRAME, HOP = 8192, 2048
"""Samples: 186 ms, which tells semitones apart from 65 Hz upwards, every 46 ms."""
BAND = {"minFrequency": 20, "maxFrequency": 3500}
PEAKS = {"orderBy": "magnitude", "magnitudeThreshold": 1e-5, "maxPeaks": 60, **BAND}
PROFILE = {
    "size": 12,
    "harmonics": 4,
    "referenceFrequency": 440,
    "bandPreset": False,
    "weightType": "cosine",
    "windowSize": 1.0,
} | BAND
WINDOW = 0.6
"""Seconds over which HPCPs are averaged for a chord."""
SETTINGS = {"frame": FRAME, "hop": HOP, "peaks": PEAKS, "profile": PROFILE, "window": WINDOW}


class EssentiaChords(Estimator):
    """See the module's header."""

    card = CARD

    @property
    def revision(self) -> str:
        return revision_of("essentia", essentia_package.version(), CARD, SETTINGS)

    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        profiles = _profiles(audio)
        names, _ = essentia_package.standard().ChordsDetection(hopSize=HOP, sampleRate=CARD.rate, windowSize=WINDOW)(profiles)
        period = HOP / CARD.rate
        labels = [harte(name) if profile.any() else "N" for name, profile in zip(names, profiles, strict=True)]
        return Annotations(chords=merged(((i - 0.5) * period, (i + 0.5) * period, label) for i, label in enumerate(labels)))


def _profiles(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """HPCPs of frames ``[frames, 12]``; frame i is centred on sample i * HOP."""
    es = essentia_package.standard()
    window, spectrum = es.Windowing(type="blackmanharris62", size=FRAME), es.Spectrum(size=FRAME)
    peaks, whiten = es.SpectralPeaks(sampleRate=CARD.rate, **PEAKS), es.SpectralWhitening(maxFrequency=BAND["maxFrequency"])
    profile = es.HPCP(sampleRate=CARD.rate, **PROFILE)
    found = []
    for frame in es.FrameGenerator(audio, frameSize=FRAME, hopSize=HOP, startFromZero=False):
        magnitudes = spectrum(window(frame))
        frequencies, sizes = peaks(magnitudes)
        found.append(profile(frequencies, whiten(magnitudes, frequencies, sizes)))
    return np.array(found, np.float32)


def harte(name: str) -> str:
    """Essentia's name of a triad in Harte syntax: ``Bbm`` -> ``Bb:min``."""
    return f"{name[:-1]}:min" if name.endswith("m") else f"{name}:maj"


def load() -> EssentiaChords:
    """The estimator. Raises UserError where Essentia is not installed."""
    essentia_package.standard()
    return EssentiaChords()
