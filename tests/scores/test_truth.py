"""Levels of truth and permuted label tracks."""

from dataclasses import replace

import numpy as np

from musae.corpora.track import Truth
from musae.scores import truth
from musae.testing_tasks import synthetic_heldout


def test_labels_move_between_pieces_of_one_level():
    data = synthetic_heldout(pieces=20, clips=3)
    donors, level = truth.donors(data, "chords"), truth.levels(data, "chords")
    assert (data.groups[donors] != data.groups).all()
    assert (level[donors] == level).all()
    for g in range(20):
        source = donors[data.groups == g]
        assert len(set(data.groups[source])) == 1  # whole tracks: all clips of a piece from one other piece
        assert (source % 3).tolist() == [0, 1, 2]  # the j-th clip from the donor's j-th
    assert sorted(donors.tolist()) == list(range(60))
    assert (donors == truth.donors(synthetic_heldout(pieces=20, clips=3), "chords")).all()


def test_a_donor_with_fewer_clips_starts_over():
    data = synthetic_heldout(pieces=10, clips=2)
    data = replace(data, groups=np.array([0] * 5 + [1] * 2 + [2] * 13))
    donors = truth.donors(data, "key")
    assert (data.groups[donors] != data.groups).all()


def test_guesses_of_a_tool_are_no_truth():
    data = synthetic_heldout(pieces=5)
    guessed = [
        replace(c, track=replace(c.track, annotations=replace(c.track.annotations, truth={"key": Truth.ESTIMATED})))
        for c in data.clips
    ]
    assert set(truth.levels(replace(data, clips=guessed), "key")) == {""}
    rows = truth.unscorable("key", replace(data, clips=guessed), ("weighted_key",))
    assert rows[0].value is None
    assert "no clip of synthetic" in rows[0].reason


def test_too_few_folds_are_unscorable():
    data = synthetic_heldout(pieces=5)
    rows = truth.unscorable("key", replace(data, folds=data.folds % 2), ("weighted_key",))
    assert "fewer than 3 folds" in rows[0].reason
    assert truth.unscorable("key", data, ("weighted_key",)) == []
