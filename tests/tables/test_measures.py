"""What is measured of a dictionary, against counts by hand, the task's own rule and numpy."""

from dataclasses import replace

import numpy as np
import pytest

from musae.labels import evidence, explain_statistically, judge_truth
from musae.methods.random import Random
from musae.scores.heldout import Features
from musae.tables import activity, judged, measure, profiles
from musae.tables.streams import twin
from musae.testing import sample_frames, source_of
from musae.testing_tasks import piece_features, planted_features, synthetic_heldout

LEVEL = "exact"


@pytest.fixture(scope="module")
def data():
    return synthetic_heldout(pieces=60)


@pytest.fixture(scope="module")
def features(data):
    return planted_features(data)


def test_counts_by_hand():
    """Four pieces of 25 clips: rates .01 and .25 are kept, 0, .26 and .5 are not; a replicate counts what it drew."""
    active = np.zeros((4, 5), np.int32)
    active[0, 1] = 1
    active[:, 2] = (25, 0, 0, 0)
    active[:, 3] = (25, 1, 0, 0)
    active[:, 4] = (13, 13, 12, 12)
    plan = np.array([[4, 0, 0, 0], [0, 2, 2, 0]], np.float32)
    found = activity.count(active, np.full(4, 25), plan, activity.BAND)
    assert found.tolist() == [2, 1, 1]  # all clips: 1 and 2; the first piece alone: .04 of latent 1; two others: .02 of latent 3
    assert activity.count(active, np.full(4, 25), plan, (0.0, 1.0))[0] == 4  # never active is never within


def test_a_latent_of_a_piece_is_active_on_its_clips_alone(data):
    found = activity.active_clips(piece_features(data), data)[activity.LEVELS.index(0.0)]
    assert np.array_equal(found[:, : data.pieces], 2 * np.eye(data.pieces, dtype=np.int32))


def test_firing_is_that_of_the_label_task(data, features):
    firing = evidence.firing(features, data)
    clips = activity.active_clips(features, data)[activity.LEVELS.index(evidence.LEVEL)].sum(0)
    frames = activity.active_frames(features, data).sum(0)
    assert np.array_equal(clips[firing.latents], firing.at["clips"].sum(0))
    assert np.array_equal(frames[firing.latents], firing.at["frames"].sum(0))


def test_each_latent_is_judged_as_the_task_judges(data, features):
    firing = evidence.firing(features, data)
    labels = [e.label for e in explain_statistically.explain(firing, data, LEVEL)]
    expected = judge_truth.judge(labels, firing, data, LEVEL).youden()
    assert expected[0] > 0.1
    each = judged.each(firing.latents, judged.values(features, data, firing.latents), data, LEVEL)
    found = each[activity.LEVELS.index(evidence.LEVEL)]
    assert found[0].mean() == pytest.approx(expected[0])
    np.testing.assert_allclose(judged.scores(features, data, LEVEL).youden, expected)
    assert each.shape == (len(activity.LEVELS), 1 + judged.REPLICATES, len(firing.latents))


def test_latents_that_never_fire_are_no_sample(data, features):
    means = features.clip_means.copy()
    means[:, ::2] = 0
    latents, alive = judged.sample(replace(features, clip_means=means), data)
    assert alive == len(latents) == means.shape[1] // 2
    assert (latents % 2 == 1).all()


def test_statistics_by_hand():
    """Two pieces of one clip of four frames: a run of two, and a latent that never fires."""
    data = synthetic_heldout(pieces=2, clips=1)
    code = np.zeros((data.x.shape[0] * data.x.shape[1], 2), np.float32)
    code[4:6, 0] = 3.0
    features = Features("latents", code, code.reshape(2, -1, 2).mean(1), np.arange(len(code)))
    found = profiles.statistics(features, data, np.arange(2))
    rate = 2 / len(code)
    assert found[0, :5] == pytest.approx([np.log10(0.5), np.log10(rate), rate / 0.5, 0.5, 1.0])
    assert found[0, 5:] == pytest.approx([1.0, 0.0, 1.0])  # one clip of two; each clip is a piece
    assert not found[1].any()


def test_correlation_is_pearsons_over_what_is_known():
    rng = np.random.default_rng(0)
    v, known = rng.normal(size=(50, 3)), (rng.random((50, 2)) < 0.7).astype(float)
    true = (rng.random((50, 2)) < 0.4) * known
    found = profiles.correlation(v, true, known)
    rows = known[:, 1] > 0
    assert found[2, 1] == pytest.approx(np.corrcoef(v[rows, 2], true[rows, 1])[0, 1])
    assert not profiles.correlation(np.ones((50, 1)), true, known).any()  # what does not vary


def test_planted_concepts_are_seen(data, features):
    latents = np.arange(features.width)
    found = profiles.concepts(judged.values(features, data, latents), data, LEVEL)
    assert np.abs(found[:24]).max(1).min() > 0.5  # a column for each chord


def test_the_twin_has_the_code_of_the_control():
    x = sample_frames(256, 8)
    fitted = Random(width=32, k=4, seed=0).fit(source_of(x))
    data = synthetic_heldout(pieces=3, clips=1)
    ours = twin(replace(data, x=x[None].numpy(), mean=x.mean(0).numpy()), 32, 4)
    assert (ours.encode(x).to_scipy() != fitted.encode(x).to_scipy()).nnz == 0


def test_measured_once(tmp_path, data, features):
    made = measure.measure(features, data)
    assert made.counts[0, 0] == activity.within(made.rates[0], activity.BAND).sum()
    path, calls = tmp_path / "one.npz", []

    def make():
        calls.append(1)
        return made

    measure.kept(path, make)
    again = measure.kept(path, make)
    assert len(calls) == 1
    assert again.l0 == made.l0
    assert (again.silent, again.alive, again.pieces) == (made.silent, made.alive, made.pieces)
    for truth, scores in made.labels.items():
        np.testing.assert_array_equal(again.labels[truth].youden, scores.youden)
        np.testing.assert_array_equal(again.each[truth], made.each[truth])
    path.write_bytes(path.read_bytes()[:100])  # cut off
    np.testing.assert_array_equal(measure.kept(path, make).active, made.active)
    assert len(calls) == 2
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes(400) + whole[2400:])  # altered
    np.testing.assert_array_equal(measure.kept(path, make).active, made.active)
