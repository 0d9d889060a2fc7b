"""`my_task` keeps the contract of a task, and counts what it says."""

from dataclasses import replace

from musae.templates import task
from musae.testing_tasks import check_task, planted_features, synthetic_heldout


def test_it_keeps_the_contract() -> None:
    check_task(task)


def test_silent_clips_are_counted() -> None:
    data = synthetic_heldout(pieces=10, clips=2)
    features = planted_features(data)
    means = features.clip_means.copy()
    means[:5] = 0
    [score] = task.score(replace(features, clip_means=means), data)
    assert score.value == 15 / 20
