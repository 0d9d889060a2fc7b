"""Judges that ask a language model: one that knows the truth, one that does not look, one that refuses; numbers by hand."""

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from musae.card import ProviderCard
from musae.labels import descriptors, evidence, facts, judge_llm, judge_truth
from musae.labels.claims import ABSTENTION, RootClaim
from musae.labels.evidence import Firing
from musae.labels.explain_statistically import describe
from musae.labels.outcomes import over_latents, told_apart
from musae.providers.client import Client
from musae.providers.provider import Provider, Reply, Unanswered
from musae.testing_tasks import synthetic_heldout

ROOTS = ("C", "D", "E", "G")
LABELS = [describe([RootClaim(root=root)], 1) for root in ROOTS]
TOLD = [judge_llm.told(label) for label in LABELS]


class Scripted(Provider):
    """Answers by a function of the question's text and its options."""

    card = ProviderCard(name="scripted", summary="s", source="s")
    model, revision, free = "scripted", "1", True

    def __init__(self, says):
        self.says, self.asked = says, []

    def reply(self, request):
        self.asked.append(request.messages[-1].text)
        return Reply(likelihoods=tuple(self.says(request.messages[-1].text, request.options)))


def root_of(line):
    found = re.search(r"chord ([A-G]#?)", line)
    return found.group(1) if found else ""


def knows(text, options):
    """The truth of labels ``root X``, and of roots that four excerpts share."""
    if options == judge_llm.LETTERS:
        roots = [root_of(line) for line in text.splitlines()[:5]]
        shared = Counter(roots).most_common(1)[0][0]
        return [-1.0 * (root == shared) for root in roots]
    label = re.search(r"Label: root (\S+)", text)
    told = re.search(r".*\(marked\)", text) or re.search(r"Excerpt: .*", text)
    return (-0.1, -2.0) if label and root_of(told.group()) == label.group(1) else (-2.0, -0.1)


def ignores(text, options):
    """Says the same whatever is asked."""
    return [-1.0] * len(options)


@pytest.fixture(scope="module")
def data():
    return synthetic_heldout(pieces=60)


@pytest.fixture(scope="module")
def tables(data):
    return {unit: facts.facts(data, unit, "exact") for unit in ("frames", "clips")}


@pytest.fixture(scope="module")
def firing(data):
    """Latents that are roots by construction, at frames that are annotated as such."""
    at = {}
    for unit in ("frames", "clips"):
        table = facts.facts(data, unit, "exact")
        at[unit] = np.stack([table.holds(label.claims[0])[0] for label in LABELS], 1)
    return Firing(np.arange(4), at, {u: f.astype(np.float32) for u, f in at.items()}, 4)


@pytest.fixture(scope="module")
def shown(firing, data):
    return [evidence.evidence(firing, j, data, descriptors.exact(data, "exact"), True, 8) for j in range(4)]


def ask(says):
    return Client(Scripted(says))


def by_row(outcome):
    return {(r.metric, r.label): r for r in outcome.rows()}


def test_who_knows_is_right(data, firing, shown, tables):
    client = ask(knows)
    found = judge_llm.detect(client, TOLD, shown, data)
    assert all(row.value == pytest.approx(1) for row in found.rows())
    assert set(by_row(found)) == {(f"detection_{m}", k) for m in ("auroc", "balanced_accuracy") for k in ("random", "hard")}
    assert found.per_latent == pytest.approx(np.ones(4))
    fuzzed = judge_llm.fuzz(client, TOLD, shown, firing, data, tables)
    assert all(row.value == pytest.approx(1) for row in fuzzed.rows())
    spotted = judge_llm.spot(client, shown, data)
    assert by_row(spotted)["intruder_accuracy", "random"].value == pytest.approx(1)


def test_who_does_not_look_is_at_chance(data, firing, shown, tables):
    client = ask(ignores)
    for found in (
        judge_llm.detect(client, TOLD, shown, data),
        judge_llm.fuzz(client, TOLD, shown, firing, data, tables),
        judge_llm.spot(client, shown, data),
    ):
        assert all(row.value == pytest.approx(found.chance) for row in found.rows())


def test_shuffled_and_empty_labels(data, shown):
    """Root D is never heard where latent C fires: a label of another latent is at most as good as none."""
    wrong = judge_llm.detect(ask(knows), judge_truth.shuffled(TOLD[1:] + TOLD[:1], "r", 1)[0], shown, data)
    right = judge_llm.detect(ask(knows), TOLD, shown, data)
    assert wrong.per_latent.mean() < right.per_latent.mean() - 0.2
    client = ask(knows)
    empty = judge_llm.detect(client, [""] * 4, shown, data)
    assert empty.per_latent == pytest.approx(np.full(4, 0.5))
    assert all(f"Label: {judge_llm.UNLABELLED}\n" in text for text in client.provider.asked)


def test_an_abstention_is_at_chance_and_not_asked(data, firing, shown, tables):
    client = ask(knows)
    labels = [judge_llm.told(ABSTENTION), *TOLD[1:]]
    for found in (judge_llm.detect(client, labels, shown, data), judge_llm.fuzz(client, labels, shown, firing, data, tables)):
        assert found.per_latent == pytest.approx([0.5, 1, 1, 1])
        assert found.abstained == 1
    assert not any("root C\n" in text for text in client.provider.asked)


def test_what_is_refused_is_unscored(data, shown):
    def says(text, options):
        if "Label: root C\n" in text:
            raise Unanswered("the model refuses: music", "stable")
        return knows(text, options)

    found = judge_llm.detect(ask(says), TOLD, shown, data)
    assert found.unscored == {"the model refuses: music": 8 + 2 * judge_llm.NEGATIVES}
    assert found.asked == sum(len(one.top + one.random[:5] + one.hard[:5]) for one in shown)
    assert found.per_latent == pytest.approx([np.nan, 1, 1, 1], nan_ok=True)

    def never(text, options):
        raise Unanswered("nobody answers at the endpoint's address", "fatal")

    client = ask(never)
    nothing = judge_llm.detect(client, TOLD, shown, data)
    assert {(row.value, row.reason) for row in nothing.rows()} == {(None, "nobody answers at the endpoint's address")}
    assert len(client.provider.asked) == 1


def test_where_a_question_cannot_be_put(data, firing, tables):
    always = np.ones_like(firing.at["frames"])
    fires = Firing(firing.latents, {**firing.at, "frames": always}, {**firing.values, "frames": always.astype(np.float32)}, 4)
    shown = [evidence.evidence(fires, j, data, tables, True, 3) for j in range(4)]
    found = judge_llm.fuzz(ask(knows), TOLD, shown, fires, data, tables)
    assert found.unscored == {"fires throughout the clip: there is nowhere to move the mark": 12}
    few = [evidence.evidence(firing, j, data, tables, True, 3) for j in range(4)]
    spotted = judge_llm.spot(ask(knows), few, data)
    assert spotted.unscored == {"fires in fewer than 4 clips of the judging pieces": 24}
    assert all(row.value is None and "fewer than 4" in row.reason for row in spotted.rows())


def test_fuzzing_tells_the_same_twice(data, firing, shown, tables):
    questions = judge_llm.fuzzing(TOLD, shown, firing, data, tables)
    clips = evidence.clip_of(data)
    for right, moved in zip(questions[::2], questions[1::2], strict=True):
        first, second = (q.request.messages[-1].text for q in (right, moved))
        assert first != second
        assert first.replace(" (marked)", "") == second.replace(" (marked)", "")
        assert first.count("(marked)") == second.count("(marked)") == 1
        assert len(re.findall(r"^\d+\.\d s: ", first, re.M)) == judge_llm.MOMENTS
        assert right.piece == moved.piece in set(data.groups[clips])


def test_the_intruder_is_anywhere(data, shown):
    questions = judge_llm.intruders(shown, data)
    assert set(Counter(q.intruder for q in questions)) == set(judge_llm.LETTERS)
    again = judge_llm.intruders(shown, data)
    assert [q.request.messages for q in questions] == [q.request.messages for q in again]


def test_progress_is_told(data, shown):
    seen = []
    judge_llm.detect(ask(knows), TOLD, shown, data, lambda *step: seen.append(step))
    asked = {q.request.messages[-1].text for q in judge_llm.detection(TOLD, shown, data)}
    assert seen == [("detection", n + 1, len(asked)) for n in range(len(asked))]


def test_auroc_by_hand():
    """Of 2 x 3 pairs: 4 right, 1 tied, 1 wrong."""
    scores, positive = np.array([2.0, 0.5, 1.0, 0.5, -1.0]), np.array([True, True, False, False, False])
    auroc, balanced = told_apart(scores, positive, np.arange(5), np.ones((1, 5), np.float32))
    assert auroc == pytest.approx([4.5 / 6] * 2)
    assert balanced == pytest.approx([(1 + 1 / 3) / 2] * 2)
    zeros = told_apart(np.zeros(5), positive, np.arange(5), np.ones((1, 5), np.float32))
    assert zeros[0] == pytest.approx([0.5] * 2)
    assert zeros[1] == pytest.approx([0.5] * 2)


def test_replicates_are_those_of_drawing_again():
    rng = np.random.default_rng(0)
    scores, positive, pieces = rng.integers(-3, 4, 40).astype(float), rng.random(40) < 0.4, rng.integers(0, 12, 40)
    plan = rng.multinomial(12, np.full(12, 1 / 12), size=5).astype(np.float32)
    auroc, balanced = told_apart(np.where(scores == 0, 0.5, scores), positive, pieces, plan)
    for drawn, a, b in zip(plan, auroc[1:], balanced[1:], strict=True):
        weights = drawn[pieces]
        said = np.where(scores == 0, 0.5, scores)
        assert a == pytest.approx(roc_auc_score(positive, said, sample_weight=weights))
        assert b == pytest.approx(balanced_accuracy_score(positive, said > 0, sample_weight=weights))
    assert np.isnan(told_apart(np.array([1.0]), np.array([True]), np.array([0]), plan[:, :1])[0]).all()


def test_latents_are_drawn_too():
    """Two latents at 0 and 1 in all replicates: the mean is 1/2, and its interval is theirs."""
    values = np.tile([[0.0, 1.0, np.nan]], (401, 1))
    found = over_latents(values, "r")
    assert found[0] == 0.5
    assert np.isnan(found[1:]).mean() == pytest.approx(1 / 27, abs=0.03)
    assert np.nanpercentile(found[1:], (2.5, 97.5)).tolist() == [0, 1]
