"""One key for all of the audio: Essentia's KeyExtractor (Gómez 2006; profiles of Temperley, 2005).

HPCPs are averaged and correlated with a profile of each key. Of the 13 profiles that know major and minor, ``temperley2005`` had
the best mean of the weighted key scores on 10.24-s clips of 120 *training* pieces each of `procedural` and `chorales`: .945 and
.957 (``bgate``, Essentia's default for popular music, .950 and .840; ``gomez`` .836 and .981; ``edma`` .875 and .779). A key is
always found, in noise and drums too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations, Span
from musae.estimators import essentia_package
from musae.estimators.estimator import Estimator, revision_of

CARD = EstimatorCard(
    name="essentia_key",
    summary="One major or minor key: Essentia's KeyExtractor on HPCPs, profile temperley2005.",
    licence="AGPL-3.0",
    source="Essentia, KeyExtractor (Gómez 2006)",
    concepts=("key",),
    rate=44_100,
    shortest=1.0,
)

SETTINGS = {"profileType": "temperley2005"}


class EssentiaKey(Estimator):
    """See the module's header."""

    card = CARD

    @property
    def revision(self) -> str:
        return revision_of("essentia", essentia_package.version(), CARD, SETTINGS)

    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        tonic, mode, _ = essentia_package.standard().KeyExtractor(sampleRate=CARD.rate, **SETTINGS)(audio)
        return Annotations(keys=(Span(0.0, len(audio) / CARD.rate, f"{tonic} {mode}"),))


def load() -> EssentiaKey:
    """The estimator. Raises UserError where Essentia is not installed."""
    essentia_package.standard()
    return EssentiaKey()
