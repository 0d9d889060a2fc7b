"""The task `theory`: balanced accuracy by hand, what cannot be probed, and a planted class of SynTheory's own tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from musae.corpora import syntheory
from musae.corpora.track import Clip, Split
from musae.scores import truth
from musae.scores.heldout import Features, HeldOut
from musae.scores.spread import resampling_plan
from musae.tasks import theory
from musae.testing_tasks import planted_features, synthetic_heldout


def of_syntheory(limit: int) -> HeldOut:
    """Held-out tracks of the corpus, without a stream: the task reads clip means only."""
    clips = syntheory.load().clips(Split.HELDOUT, seconds=10.24, limit=limit)
    names = sorted({clip.group for clip in clips})
    groups = np.array([names.index(clip.group) for clip in clips])
    return replace(
        synthetic_heldout(),
        corpus="syntheory",
        clips=clips,
        groups=groups,
        folds=groups % 5,
        plan=resampling_plan("syntheory", len(names), 100),
    )


def test_balanced_accuracy_by_hand() -> None:
    labels, answer = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0, 2])
    plan = np.array([[1, 1], [2, 0], [0, 2]], np.float32)
    groups = np.array([0, 0, 0, 0, 0, 1, 1])
    sample, both, first, second = theory._balanced(labels, answer, 3, groups, plan)
    assert sample == both == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert first == pytest.approx((3 / 4 + 1) / 2), "a class that a replicate lacks is not counted"
    assert second == pytest.approx((0 + 1) / 2)


def test_classes_are_found_where_they_are_and_nowhere_else() -> None:
    """Features that hold SynTheory's modes and nothing else, on one clip of each group."""
    data = of_syntheory(646)
    modes = [clip.annotations.attributes.get("mode", "") for clip in data.clips]
    x = np.eye(8)[[sorted(set(modes)).index(mode) for mode in modes]][:, 1:]
    x = (x + np.random.default_rng(0).normal(0, 0.1, x.shape)).astype(np.float32)
    scores = theory.score(Features("latents", x, x), data)
    found = {(s.label, s.k, s.control): s for s in scores}
    assert found["scales/mode", None, ""].value == 1
    assert found["scales/mode", None, "chance"].value == pytest.approx(1 / 7)
    assert found["scales/mode", None, "permuted_labels"].value < 0.35
    assert found["chords/inversion", None, "chance"].value == pytest.approx(1 / 3)
    probed = {label for label, _, control in found if control == "chance" and label}
    assert len(probed) == 16
    assert found["tempos/bpm", None, ""].value is None
    assert "two groups" in found["tempos/bpm", None, ""].reason
    others = [found[label, None, ""] for label in probed - {"scales/mode"}]
    chances = [found[label, None, "chance"].value for label in probed - {"scales/mode"}]
    assert abs(np.mean([s.value for s in others]) - np.mean(chances)) < 0.05
    main = found["", None, ""]
    assert main.value == pytest.approx(np.mean([found[label, None, ""].value for label in probed]))
    assert main.truth == "exact"
    assert main.pieces == len({c.group for c in data.clips if c.annotations.attributes["concept"] != "tempos"})


def test_permuted_labels_come_from_other_groups_of_the_same_concept() -> None:
    data = of_syntheory(646)
    concepts = np.array([clip.annotations.attributes["concept"] for clip in data.clips])
    donors = truth.permuted(data, concepts)
    assert (concepts[donors] == concepts).all()
    assert (data.groups[donors] != data.groups).all()


def test_without_attributes_it_is_unscored() -> None:
    data = synthetic_heldout()
    bare = [
        Clip(replace(c.track, annotations=replace(c.track.annotations, attributes={})), c.start, c.duration) for c in data.clips
    ]
    [score] = theory.score(planted_features(data), replace(data, clips=bare))
    assert score.value is None
    assert score.reason == "no attribute of the clips of synthetic can be probed"
    few = replace(data, folds=data.folds % 2)
    reasons = {s.label: s.reason for s in theory.score(planted_features(few), few)}
    assert reasons["keys/first"] == "its clips lie in fewer than 3 folds"
    assert reasons["keys/chords"] == "it needs two classes, and each of them in two groups"
