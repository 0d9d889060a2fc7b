"""Every task keeps the contract, and the suite that says so can fail."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from musae import registry
from musae.scores.heldout import HeldOut
from musae.tasks import key, sparsity
from musae.testing_tasks import check_task


@pytest.mark.parametrize("name", [name for name in registry.entries("tasks") if "/" not in name])
def test_task(name):
    check_task(registry.load("tasks", name))


def broken(change, task=key):
    return SimpleNamespace(CARD=task.CARD, score=lambda features, data: change(task.score(features, data), data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores, data: [s for s in scores if s.metric != "f1_key"], "no row for its main metric f1_key"),
        (lambda scores, data: [replace(s, replicates=None) for s in scores], "no bootstrap replicates"),
        (lambda scores, data: [replace(s, value=None) for s in scores], "a value or a reason"),
        (lambda scores, data: [replace(s, low=None) for s in scores], "no interval"),
        (lambda scores, data: [replace(s, truth="") for s in scores], "several rows"),
        (lambda scores, data: [replace(s, value=s.value and s.value + id(data) % 97) for s in scores], "other scores"),
        (
            lambda scores, data: [
                replace(s, value=0.99) if s.control == "permuted_labels" and not s.label else s for s in scores
            ],
            "permuted labels",
        ),
    ],
)
def test_the_suite_notices(change, message):
    with pytest.raises(AssertionError, match=message):
        check_task(broken(change))


def test_a_leak_of_the_piece_is_noticed(monkeypatch):
    """With folds that split a piece, features that only know the piece beat chance: the suite must say so."""

    def leaky(features, data: HeldOut):
        halves = replace(data, folds=data.groups * 0 + [i % 5 for i in range(len(data.groups))])
        clips = [replace(c, track=data.clips[2 * (i // 2)].track) for i, c in enumerate(data.clips)]  # a piece has one key
        return key.score(features, replace(halves, clips=clips))

    with pytest.raises(AssertionError, match="know the piece"):
        check_task(SimpleNamespace(CARD=key.CARD, score=leaky))


def test_sparsity_has_no_labels():
    assert sparsity.CARD.concept is None
