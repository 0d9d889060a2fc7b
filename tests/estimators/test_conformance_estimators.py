"""Every estimator keeps its contract; those whose package is not installed are skipped.

madmom's networks take seconds for each clip that they hear: they are among the slow tests.
"""

from types import ModuleType

import numpy as np
import pytest

from musae import registry
from musae.card import EstimatorCard
from musae.corpora.track import Annotations, Span
from musae.errors import UserError
from musae.estimators.estimator import Estimator, merged
from musae.testing_estimators import check_estimator

NAMES = [name for name, entry in registry.entries("estimators").items() if not entry.card.argument]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith("madmom") else n for n in NAMES])
def test_conformance(name):
    module = registry.load("estimators", name)
    try:
        module.load()
    except UserError as error:
        pytest.skip(str(error))
    check_estimator(module)


CARD = EstimatorCard(name="toy", summary="s", licence="CC0-1.0", source="s", concepts=("key", "beats"), rate=8_000, shortest=0.5)


def toy(says=None, **changes):
    """A module with an estimator that says something of all audio."""

    class Toy(Estimator):
        card = CARD.model_copy(update=changes)
        revision = "1"

        def hear(self, audio):
            return says(audio) if says else Annotations(keys=(Span(-1.0, 99.0, "C major"),), beats=(-0.1, 0.5, 1e3))

    module = ModuleType("toy")
    module.CARD, module.load = CARD, Toy
    return module


def test_what_lies_beyond_the_audio_is_cut():
    check_estimator(toy())
    heard = toy().load().estimate(np.ones(8_000, np.float32), 8_000)
    assert heard.keys == (Span(0.0, 1.0, "C major"),)
    assert heard.beats == (0.5,)
    assert set(heard.truth) == {"key", "beats"}


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (toy(concepts=("key",)), "whose card is not the module's"),
        (toy(lambda audio: Annotations(tempo=99.0)), "tempo"),
        (toy(lambda audio: Annotations(keys=(Span(0, 1, "H moll"),))), "mir_eval cannot read 'H moll'"),
        (toy(lambda audio: Annotations(keys=(Span(0, 2, "C major"), Span(1, 3, "C minor")))), "overlaps another"),
        (toy(lambda audio: Annotations(beats=(2.0, 1.0))), "do not ascend"),
        (toy(lambda audio: Annotations(beats=(1.0, 2.0), beat_positions=(1,))), "some have none"),
        (toy(lambda audio: Annotations(beats=(float(np.random.default_rng().random()),))), "hears the same audio otherwise"),
        (toy(lambda audio: Annotations()), "says nothing of plain chords"),
    ],
)
def test_broken_promises_are_noticed(module, says):
    with pytest.raises(AssertionError, match=says):
        check_estimator(module)


def test_neighbours_that_touch_are_joined():
    assert merged([(0, 1, "N"), (1, 2, "N"), (2, 2, "C:maj"), (2, 3, "A:min"), (4, 5, "A:min")]) == (
        Span(0, 2, "N"),
        Span(2, 3, "A:min"),
        Span(4, 5, "A:min"),
    )
