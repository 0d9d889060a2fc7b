"""Estimates in place of annotations: kept on disk, of one half of the pieces only."""

import numpy as np
import pytest

from musae.corpora.track import Annotations, Span
from musae.errors import UserError
from musae.estimators.estimator import NoEstimate
from musae.labels import descriptors, evidence, words
from musae.labels.claims import KeyClaim, RootClaim
from musae.labels.descriptors import Estimated
from musae.testing_tasks import synthetic_heldout


class Tool:
    """Hears the same in all clips but the first it is given."""

    revision = "tool-1"

    class card:
        rate = 8000

    def __init__(self):
        self.heard = 0

    def estimate(self, audio, rate):
        self.heard += 1
        if self.heard == 1:
            raise NoEstimate("silent")
        return Annotations(chords=(Span(0, 1.5, "C:maj"), Span(1.5, 9, "A:min")), keys=(Span(0, 9, "C major"),), tempo=100.0)


class Silent:
    """A corpus whose audio is silence."""

    def audio(self, clips, rate):
        for clip in clips:
            yield np.zeros(round(clip.duration * rate), np.float32)


@pytest.fixture
def made(monkeypatch):
    tool = Tool()
    monkeypatch.setattr(descriptors.registry, "make", lambda kind, name: tool if kind == "estimators" else Silent())
    return tool


def test_estimates_are_of_one_half_and_kept(made, tmp_path):
    data = synthetic_heldout(pieces=12)
    tables = Estimated(("tool",), tmp_path).tables(data)
    half = evidence.explaining(data)[data.groups]
    assert made.heard == half.sum() == len(list(tmp_path.rglob("*.json")))
    true, known = tables["clips"].holds(KeyClaim(key="C major"))
    assert known.sum() == half.sum() - 1  # of one nothing was estimated
    assert not known[~half].any()
    assert true[known].all()
    true, known = tables["frames"].holds(RootClaim(root="A"))
    frames = true.reshape(len(half), -1)
    assert frames[known.reshape(frames.shape).all(1)].mean() == pytest.approx(0.53, abs=0.1)  # 1.7 of 3.2 seconds
    again = Estimated(("tool",), tmp_path).tables(synthetic_heldout(pieces=12))
    assert made.heard == half.sum()
    assert (again["clips"].index["key"] == tables["clips"].index["key"]).all()


def test_families_that_nobody_listened_for_are_not_known(made, tmp_path):
    data = synthetic_heldout(pieces=12)
    tables = Estimated(("tool",), tmp_path).tables(data)
    assert set(tables["clips"].index["families"]) == {0}


def test_a_damaged_file_is_named(made, tmp_path):
    data = synthetic_heldout(pieces=12)
    Estimated(("tool",), tmp_path).tables(data)
    path = next(tmp_path.rglob("*.json"))
    path.write_text("{")
    with pytest.raises(UserError, match=path.name):
        Estimated(("tool",), tmp_path).tables(synthetic_heldout(pieces=12))


def test_words():
    assert words.excerpt({"chord": "A:min", "key": "C major", "tempo": 95.7}) == "chord A:min; key C major; tempo 96"
    assert words.excerpt({"families": (frozenset({"piano", "drums"}), frozenset())}) == "instruments drums, piano"
    assert words.excerpt({}) == "nothing is known"
    assert words.claim(RootClaim(root="C")) == "root C"
