"""Facts of a hand-made clip."""

import numpy as np

from musae.corpora.track import Annotations, Clip, Note, Span, Split, Track, Voice
from musae.labels.facts import _of_clip, _of_moments


def test_facts_of_a_clip_that_begins_late():
    """Times are the track's: the beat before the clip's start still sounds at its first moment."""
    notes = (Note(0, 2.5, 60, 50, 0), Note(1, 1, 35, 100, 1), Note(3, 1, 72, 70, 0))
    labels = Annotations(
        chords=(Span(0, 2, "C:maj"), Span(2, 4, "G:7")),
        keys=(Span(0, 1.7, "A minor"), Span(1.7, 4, "C major")),
        tempo=60.0,
        beats=(0.5, 1.5, 2.5, 3.5),
        beat_positions=(1, 2, 3, 1),
        instruments=frozenset({"piano", "drums"}),
    )
    voices = (Voice(0, "piano"), Voice(0, "drums", drums=True))
    clip = Clip(Track("t", "p", Split.HELDOUT, "CC0-1.0", 4, labels, voices, notes), 1.0, 3.0)
    found = _of_moments(clip, np.array([0.1, 0.75, 1.75, 2.5]))
    assert found["chord"] == ["C:maj", "C:maj", "G:7", "G:7"]
    assert found["beat"] == [1, 2, 3, 1]
    assert found["pitch"] == [60, 60, None, 72]  # the drum has no pitch
    assert found["velocity"] == [100, 100, None, 70]
    assert _of_clip(clip) == {
        "key": [None],  # C major holds over 2.3 of 3 seconds: less than 80 %
        "mode": [None],
        "tempo": [60.0],
        "meter": [3],
        "families": [(frozenset({"piano", "drums"}), frozenset())],
        "programs": [frozenset({0})],
    }
