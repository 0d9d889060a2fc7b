"""Conformance suite of an estimator (`musae.estimators.estimator.Estimator`), for third parties too::

    from musae.testing_estimators import check_estimator
    from my_package import my_estimator

    def test_conformance():
        check_estimator(my_estimator)

`check_estimator` takes a module with ``CARD`` and ``load()``, runs all checks and raises AssertionError with a sentence that says
what is wrong; `estimator_checks` gives them one by one. What an estimator hears is made here: chords of decaying harmonics over
clicks, and noise. Whether it is right is another matter, which `musae estimate measure` answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.conformance import Check, run
from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.track import CONCEPTS, Annotations, Span, Truth
from musae.errors import UserError
from musae.estimators.estimator import Estimator, NoEstimate, present
from musae.scores import mir

SECONDS = 10.24
"""Length of what is heard: the suites' clips; at least twice what the card calls the shortest."""

Audio = NDArray[np.float32]


def check_estimator(module: ModuleType) -> None:
    """Raise AssertionError, naming what is wrong, unless an estimator keeps its contract.

    All is `estimated`, within the audio and in the field's syntax, of the card's concepts, and depends on the audio alone; audio
    of which nothing can be said raises NoEstimate with a reason.
    """
    run(estimator_checks(module))


def estimator_checks(module: ModuleType) -> list[Check]:
    """The checks of `check_estimator`, by name."""
    card = cast(EstimatorCard, module.CARD)
    made = cache(lambda: cast(Estimator, module.load()))
    seconds = max(SECONDS, 2 * card.shortest)
    rate = card.rate
    music = cache(lambda: chords_over_clicks(seconds, rate))

    def heard(audio: Audio, at: int = rate) -> Annotations | None:
        """What it says; None where it says nothing."""
        try:
            return made().estimate(audio, at)
        except NoEstimate as error:
            reason = str(error)
        assert reason, f"{card.name}: it says nothing of some audio, and gives no reason"
        return None

    def sounds() -> Mapping[str, Annotations | None]:
        noise = np.random.default_rng(0).normal(0, 0.1, len(music())).clip(-1, 1).astype(np.float32)
        half = np.where(np.arange(len(music())) < len(music()) // 2, music(), np.float32(0))
        shortest = music()[: int(np.ceil(card.shortest * rate))]
        other = chords_over_clicks(seconds, 32_000)
        return {
            "music": heard(music()),
            "music at 32 kHz": heard(other, 32_000),
            "music and silence": heard(half),
            "noise": heard(noise),
            "full-scale square waves": heard(np.sign(music())),
            "as little as the card allows": heard(shortest),
        }

    every = cache(sounds)
    return [
        Check("it loads, and its card is the module's", lambda: _check_load(card, made()), vital=True),
        Check("it says something of music", lambda: _check_says(card, every()["music"])),
        Check("all is estimated, and of the card's concepts", lambda: _each(_check_truth, card, every(), seconds)),
        Check("labels lie within the audio", lambda: _each(_check_times, card, every(), seconds)),
        Check("labels are in the field's syntax", lambda: _each(_check_labels, card, every(), seconds)),
        Check("it depends on the audio alone", lambda: _check_again(card, cast(Estimator, module.load()), music(), every())),
        Check("it says nothing, with a reason, of what is no music", lambda: _check_bad(card, made(), music())),
    ]


def chords_over_clicks(seconds: float, rate: int) -> Audio:
    """C, F, G and C major of decaying harmonics, one second each in turn, over clicks 120 to the minute ``[samples]``."""
    t = np.arange(round(seconds * rate)) / rate
    audio = np.zeros(len(t))
    place, within = t.astype(int) % 4, t % 1
    for turn, root in enumerate((60, 65, 67, 60)):
        tone = np.zeros(len(t))
        for step in (-12, 0, 4, 7):
            frequency = 440 * 2 ** ((root + step - 69) / 12)
            tone += sum(np.sin(2 * np.pi * k * frequency * within) / k for k in (1, 2, 3, 4))
        audio += 0.06 * tone * np.exp(-2 * within) * (place == turn)
    clicks = 0.5 * np.sin(2 * np.pi * 1500 * (t % 0.5)) * np.exp(-200 * (t % 0.5))
    return np.asarray(np.clip(audio + clicks, -1, 1), np.float32)


def _each(
    check: Callable[[str, Annotations, EstimatorCard, float], None],
    card: EstimatorCard,
    every: Mapping[str, Annotations | None],
    seconds: float,
) -> None:
    for name, a in every.items():
        if a is not None:
            check(f"{card.name}, {name}", a, card, seconds)


def _check_load(card: EstimatorCard, estimator: Estimator) -> None:
    assert isinstance(estimator, Estimator), f"{card.name}: load() gives a {type(estimator).__name__}, and no Estimator"
    assert estimator.card == card, f"{card.name}: load() gives an estimator whose card is not the module's CARD"
    unknown = sorted(set(card.concepts) - set(CONCEPTS))
    assert not unknown, f"{card.name}: the card names {unknown[0]!r}, which is no concept; known: {', '.join(CONCEPTS)}"
    assert card.concepts, f"{card.name}: the card names no concept"
    revision = estimator.revision
    assert revision, f"{card.name}: its revision is empty"
    assert revision == estimator.revision, f"{card.name}: the revision changes from one look to the next"


def _check_says(card: EstimatorCard, a: Annotations | None) -> None:
    assert a is not None, f"{card.name}: it says nothing of plain chords over clicks"


def _check_truth(where: str, a: Annotations, card: EstimatorCard, seconds: float) -> None:
    wrong = sorted(concept for concept, level in a.truth.items() if level != Truth.ESTIMATED)
    assert not wrong, f"{where}: its {wrong[0] if wrong else ''} must be estimated: a tool's guess is no truth"
    assert present(a) == set(a.truth), f"{where}: it has {sorted(present(a))}, and truth names {sorted(a.truth)}"
    beyond = sorted(present(a) - set(card.concepts))
    assert not beyond, f"{where}: it has {beyond[0] if beyond else ''}, which the card does not name"


def _check_times(where: str, a: Annotations, card: EstimatorCard, seconds: float) -> None:
    for spans in (a.chords, a.keys):
        end = 0.0
        for span in spans:
            sound = end - 1e-6 <= span.start < span.end <= seconds + 1e-6
            assert sound, f"{where}: {span} overlaps another, has no length or ends after the audio, at {seconds} s"
            end = span.end
    assert list(a.beats) == sorted(set(a.beats)), f"{where}: its beats do not ascend"
    assert all(0 <= beat < seconds for beat in a.beats), f"{where}: a beat lies outside the audio"
    assert len(a.beat_positions) in (0, len(a.beats)), f"{where}: some beats have positions in the bar, and some have none"
    assert a.tempo is None or 0 < a.tempo < 1000, f"{where}: its tempo is {a.tempo} beats a minute"


def _check_labels(where: str, a: Annotations, card: EstimatorCard, seconds: float) -> None:
    readers: tuple[tuple[tuple[Span, ...], Callable[[str], object]], ...] = (
        (a.chords, lambda label: mir.chord_classes([label], "root")),
        (a.keys, mir.key_index),
    )
    for spans, read in readers:
        for label in {span.label for span in spans}:
            try:
                read(label)
            except Exception as error:
                raise AssertionError(f"{where}: mir_eval cannot read {label!r}: {error}") from error
    strange = sorted(a.instruments - {*FAMILIES, DRUMS})
    assert not strange, f"{where}: {strange[0] if strange else ''!r} is no General MIDI family"


def _check_again(card: EstimatorCard, other: Estimator, music: Audio, every: Mapping[str, Annotations | None]) -> None:
    kept = music.copy()
    assert other.estimate(music, card.rate) == every["music"], f"{card.name}: loaded again, it hears the same audio otherwise"
    assert np.array_equal(kept, music), f"{card.name}: it changes the audio that it is given"


def _check_bad(card: EstimatorCard, estimator: Estimator, music: Audio) -> None:
    broken = music.copy()
    broken[len(broken) // 2] = np.nan
    endless = np.where(np.isnan(broken), np.float32(np.inf), broken)
    few = music[: int(0.9 * card.shortest * card.rate)]
    bad = {"silence": 0 * music, "a NaN": broken, "infinity": endless, "too little": few, "no samples": music[:0]}
    for name, audio in bad.items():
        try:
            estimator.estimate(audio, card.rate)
        except NoEstimate:
            continue
        raise AssertionError(f"{card.name}: {name} must raise NoEstimate")
    try:
        estimator.estimate(np.stack([music, music]), card.rate)
    except UserError:
        return
    raise AssertionError(f"{card.name}: two channels must raise UserError")
