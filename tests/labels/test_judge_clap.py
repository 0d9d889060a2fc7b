"""The CLAP judge: planted labels, shuffled ones, hand-worked numbers; a random checkpoint says nothing."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musae.clap import Clap
from musae.labels import evidence, judge_clap
from musae.labels.claims import ABSTENTION, FamilyClaim
from musae.labels.evidence import Firing
from musae.labels.explain_statistically import describe
from musae.testing_tasks import FAMILIES, synthetic_heldout

sys.path.insert(0, str(Path(__file__).parents[1]))
import random_clap

LABELS = [describe([FamilyClaim(family=f)], 1) for f in FAMILIES]


class Hears:
    """Knows the families that sound: a clip's audio begins with one sample for each."""

    revision, rate = "hears", 100

    def __init__(self):
        self.heard = 0

    def audio(self, waves, rate):
        assert rate == self.rate
        self.heard += len(waves)
        found = np.stack([wave[: len(FAMILIES)] for wave in waves])
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)

    def text(self, texts):
        return np.array([[f in text for f in FAMILIES] for text in texts], float)


def sounds(clips, rate):
    for clip in clips:
        yield np.array([float(f in clip.annotations.instruments) for f in FAMILIES] + [0.0] * 50, np.float32)


@pytest.fixture(scope="module")
def data():
    return synthetic_heldout(pieces=60)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(judge_clap, "cache_root", lambda: tmp_path)


def families(data):
    """Latents that are instrument families."""
    at = np.array([[f in clip.annotations.instruments for f in FAMILIES] for clip in data.clips])
    value = at * np.random.default_rng(0).uniform(1, 2, at.shape).astype(np.float32)
    return Firing(np.arange(3), {"clips": at}, {"clips": value.astype(np.float32)}, 3)


def test_by_hand(data):
    firing = families(data)
    found = judge_clap.judge(LABELS, firing, data, Hears(), sounds)
    judging = np.flatnonzero(~evidence.explaining(data)[data.groups])
    at = firing.at["clips"][judging]
    for j in range(3):
        order = np.argsort(-firing.values["clips"][judging, j])[:10]
        cosine = at[:, j] / np.sqrt(np.maximum(at.sum(1), 1))
        assert found.top[0, j] == pytest.approx(cosine[order].mean(), abs=1e-6)
        assert found.silent[0, j] == 0
    rows = {(r.metric, r.control): r for r in found.rows(truth="exact")}
    assert rows["clap_similarity", ""].value == pytest.approx(found.top[0].mean())
    assert rows["clap_similarity", ""].low < found.top[0].mean() < rows["clap_similarity", ""].high
    assert rows["clap_contrast", ""].value > rows["clap_contrast", judge_clap.SHUFFLED].high
    assert rows["clap_similarity", ""].pieces == 30
    assert not found.unscored


def test_wrong_labels_are_no_nearer_than_silence_makes_them(data):
    wrong = judge_clap.judge([LABELS[1], LABELS[2], LABELS[0]], families(data), data, Hears(), sounds)
    assert (wrong.per_latent < 0.2).all()


def test_what_cannot_be_compared_is_unscored(data):
    firing = families(data)
    at = firing.at["clips"].copy()
    at[:, 1] = False
    found = judge_clap.judge([ABSTENTION, *LABELS[1:]], replace(firing, at={"clips": at}), data, Hears(), sounds)
    assert found.unscored == {"the label abstains": 1, "fires on no judging clip": 1}
    assert np.isnan(found.per_latent).tolist() == [True, True, False]
    (row, *_) = found.rows()
    assert row.value == pytest.approx(found.top[0, 2])
    nothing = judge_clap.judge([ABSTENTION] * 3, firing, data, Hears(), sounds)
    assert all(r.value is None and r.reason for r in nothing.rows())


def test_clips_are_heard_once(data, tmp_path):
    first, again = Hears(), Hears()
    one = judge_clap.judge(LABELS, families(data), data, first, sounds)
    path = next(tmp_path.rglob("*.npy"))
    path.write_bytes(path.read_bytes()[:90])
    two = judge_clap.judge(LABELS, families(data), data, again, sounds)
    assert (first.heard, again.heard) == (60, 1)
    assert np.array_equal(one.top, two.top)


def test_a_random_checkpoint_prefers_no_label(data, tmp_path):
    clap = Clap.load(random_clap.save(tmp_path / "clap"))
    rows = {(r.metric, r.control): r for r in judge_clap.judge(LABELS, families(data), data, clap, sounds).rows()}
    assert abs(rows["clap_contrast", ""].value) < 0.05
