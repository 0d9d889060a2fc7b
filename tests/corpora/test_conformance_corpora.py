"""Every corpus keeps the contract, and the suite that says so can fail."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from musae import registry
from musae.card import CorpusCard
from musae.corpora.track import Annotations, Clip, Note, Span, Split, Track, Truth, Voice
from musae.testing_corpora import check_corpus, corpus_checks


@pytest.mark.parametrize("name", [n for n, e in registry.entries("corpora").items() if "/" not in n and not e.card.argument])
def test_corpus(name):
    """A few seconds each: tracks are composed or read, three clips rendered."""
    check_corpus(registry.load("corpora", name), limit=20)


CARD = CorpusCard(
    name="toy",
    summary="for tests",
    licence="CC0-1.0",
    source="here",
    truth={"chords": ("exact",), "key": ("exact",), "tempo": ("exact",)},
)


def track(split, index):
    labels = Annotations(
        chords=(Span(0.0, 1.0, "C:maj"), Span(1.0, 3.0, "A:min7/b3")),
        keys=(Span(0.0, 3.0, "C major"),),
        tempo=90.0 + index,
        truth=dict.fromkeys(("chords", "key", "tempo"), Truth.EXACT),
    )
    notes = (Note(0.0, 1.0, 60 + index, 90, 0),)
    return Track(f"{split}-{index}", f"piece-{split}-{index}", split, "CC0-1.0", 3.0, labels, (Voice(0, "piano"),), notes)


class Toy:
    """Sines; keeps the contract."""

    card = CARD
    revision = "0123456789"

    def tracks(self, split):
        return [track(split, index) for index in range(3)]

    def clips(self, split, *, seconds, per_track=1, limit=None, seed=0):
        fits = [t for t in self.tracks(split) if t.duration >= seconds]
        starts = [(i * 0.25, t) for i in range(per_track) for t in fits]
        return [Clip(t, start, seconds) for start, t in starts[:limit]]

    def audio(self, clips, rate):
        for clip in clips:
            t = np.arange(round(clip.duration * rate)) / rate
            yield np.sin(440 * t * clip.track.annotations.tempo).astype(np.float32)


def module(corpus=Toy):
    return SimpleNamespace(CARD=CARD, load=corpus)


def altered(**changes):
    """The toy with every track's fields changed, by values or functions of the track."""

    class Altered(Toy):
        def tracks(self, split):
            made = super().tracks(split)
            return [replace(t, **{name: v(t) if callable(v) else v for name, v in changes.items()}) for t in made]

    return Altered


def labels(**changes):
    return altered(annotations=lambda t: replace(t.annotations, **changes))


def test_the_toy_keeps_the_contract():
    check_corpus(module())
    assert all(not check.problem() for check in corpus_checks(module()))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (altered(group="one"), "the group 'one' has tracks in both splits"),
        (altered(id="one"), "6 tracks have the id 'one'"),
        (altered(id=lambda t: f"../{t.id}"), "only letters"),
        (altered(split=Split.TRAIN), "is among those of heldout"),
        (altered(licence=""), "no licence"),
        (altered(duration=1.0), "no train track lasts 1.5 s"),
        (labels(chords=(Span(0, 4, "C:maj"),)), "ends after the track"),
        (labels(chords=(Span(0, 2, "C:maj"), Span(1, 3, "N"))), "begins before"),
        (labels(chords=(Span(2, 2, "C:maj"),)), "no length"),
        (labels(chords=(Span(0, 3, "Cmaj7sus"),)), "'Cmaj7sus' is not in Harte syntax"),
        (labels(keys=(Span(0, 3, "H moll"),)), "cannot read the key 'H moll'"),
        (labels(beats=(1.0, 0.5), beat_positions=(1, 2)), "do not ascend"),
        (labels(beats=(1.0, 9.5), beat_positions=(1, 2)), r"a beat at 9\.5 s"),
        (labels(beats=(1.0, 2.0), beat_positions=(1,)), "2 beats with 1 positions"),
        (labels(tempo=-3.0), "tempo is -3"),
        (labels(instruments=frozenset({"kazoo"})), "'kazoo' is no General MIDI family"),
        (labels(truth={}), "truth does not say"),
        (labels(truth=dict.fromkeys(("chords", "key", "tempo"), Truth.ESTIMATED)), "is estimated, and the card says exact"),
        (altered(notes=lambda t: (Note(9.0, 1.0, 60, 90, 0),)), "no MIDI note within the track"),
        (altered(notes=lambda t: (Note(0.0, 1.0, 60, 90, 7),)), "of voice 7"),
    ],
)
def test_wrong_tracks_are_noticed(broken, says):
    with pytest.raises(AssertionError, match=says):
        check_corpus(module(broken))


class Renamed(Toy):
    card = CARD.model_copy(update={"name": "other"})


class Unversioned(Toy):
    revision = "v1"


class Restless(Toy):
    """Clips differ from call to call."""

    calls = itertools.count()

    def clips(self, split, **arguments):
        return [replace(clip, start=clip.start + 0.001 * next(self.calls)) for clip in super().clips(split, **arguments)]


class Crowded(Toy):
    """All clips are of one group."""

    def clips(self, split, *, limit=None, **arguments):
        return [clip for clip in super().clips(split, **arguments) if clip.track.id.endswith("-0")][:limit]


class Noisy(Toy):
    """Audio that depends on what was asked for before."""

    seed = 0

    def audio(self, clips, rate):
        for one in super().audio(clips, rate):
            self.seed += 1
            yield one * np.float32(1 / self.seed)


class Loud(Toy):
    def audio(self, clips, rate):
        return (2 * one for one in super().audio(clips, rate))


class Short(Toy):
    def audio(self, clips, rate):
        return (one[1:] for one in super().audio(clips, rate))


class Silent(Toy):
    def audio(self, clips, rate):
        return (0 * one for one in super().audio(clips, rate))


class Endless(Toy):
    def clips(self, split, *, seconds, **arguments):
        return [replace(clip, duration=seconds) for clip in super().clips(split, seconds=1.0, **arguments)]


class Shuffled(Toy):
    """Another corpus at each load."""

    loads = itertools.count()

    def __init__(self):
        self.load = next(self.loads)

    def tracks(self, split):
        return [replace(t, source=str(self.load)) for t in super().tracks(split)]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Renamed, "not the module's CARD"),
        (Unversioned, "ten hex digits, not 'v1'"),
        (Restless, "other train clips"),
        (Crowded, "of 1 groups, and there are 3"),
        (Noisy, "sounds otherwise"),
        (Loud, "within -1 and 1"),
        (Short, r"not float32 \(24000,\)"),
        (Silent, "are silent"),
        (Endless, "1e6 s must be refused"),
        (Shuffled, "loaded again"),
    ],
)
def test_a_wrong_corpus_is_noticed(broken, says):
    with pytest.raises(AssertionError, match=says):
        check_corpus(module(broken))
