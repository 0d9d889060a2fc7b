"""A whole session on planted latents: every judge, nulls beside scores, and data that nobody has annotated."""

from dataclasses import replace

import pytest
from explainers.asked import Fake

from musae.corpora.track import Annotations
from musae.errors import UserError
from musae.explainers import statistical
from musae.labelling import sensitivity, session
from musae.labelling.report import Labelled
from musae.labelling.session import Judges, Session
from musae.labels import descriptors
from musae.providers.cache import AnswerCache
from musae.providers.client import Client
from musae.testing_explainers import CLAIMS, planted_case
from musae.testing_tasks import planted_features, synthetic_heldout


def says_yes_where_it_stands(request):
    """Yes where the label's value is in the excerpt: a judge that is right about keys and roots."""
    if len(request.options) > 2:
        return [-1.0] * len(request.options)
    label, _, excerpt = request.messages[-1].text.partition("\n")
    value = label.removeprefix("Label: ").split(". ")[0].split(" ", 1)[-1]
    wanted = f"chord {value}:" if len(value) < 3 else value
    return [-1.0, -2.0] if wanted in excerpt else [-2.0, -1.0]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    client = Client(Fake(says_yes_where_it_stands, ranks=True), AnswerCache(tmp_path_factory.mktemp("answers")))
    judges = Judges(("truth", "detection", "fuzzing", "intruder"), client)
    return Session(planted_case(), statistical.load(), judges).run()


def value(found, metric, control="", label=""):
    [row] = [row for row in found.scores if (row.metric, row.control, row.label) == (metric, control, label)]
    return row.value


def test_truth_has_its_nulls(found):
    assert value(found, "youden") > 0.8  # one of seven latents never fires
    assert value(found, "youden", "empty_label") == 0
    assert abs(value(found, "youden", "shuffled_labels")) < 0.15
    assert value(found, "youden", "wrong_latent") < 0.1
    assert abs(value(found, "youden", "permuted_labels")) < 0.15


def test_a_judge_that_is_right_finds_the_labels_back(found):
    assert value(found, "detection_auroc", label="random") > 0.9
    assert value(found, "detection_auroc", "shuffled_labels", "random") < value(found, "detection_auroc", label="random") - 0.2
    assert value(found, "detection_auroc", "empty_label", "random") == 0.5
    assert value(found, "intruder_accuracy", label="random") == pytest.approx(0.2)


def test_latents_keep_their_labels_and_what_was_said_of_them(found):
    assert [one.label.claims for one in found.latents] == [*((claim,) for claim in CLAIMS), ()]
    assert all(set(one.judged) >= {"truth", "detection"} for one in found.latents[:-1])
    assert all(isinstance(one, Labelled) and 0 < len(one.exemplars) <= 10 for one in found.latents[:-1])
    assert found.latents[-1].exemplars == ()
    assert {a.judges for a in found.agreement} >= {("truth", "detection")}
    assert all(a.unscored for a in found.agreement)  # six latents are too few


def test_without_annotations_truth_is_unscored_and_the_rest_goes_on():
    data = synthetic_heldout()
    bare = [replace(clip, track=replace(clip.track, annotations=Annotations())) for clip in data.clips]
    case = replace(planted_case(), data=replace(data, clips=bare), level="")
    done = Session(case, statistical.load(), Judges()).run()
    assert [row.unscored for row in done.scores] == ["no clip of synthetic is annotated"]
    assert not any(one.label.checkable for one in done.latents)
    assert session.level_of(case.data) == ""


def test_sensitivity_changes_one_thing_at_a_time(monkeypatch):
    def silent(estimated, data, judging=False):
        raise UserError("no audio")

    monkeypatch.setattr(descriptors.Estimated, "tables", silent)
    data = synthetic_heldout(pieces=24)
    points = sensitivity.run(planted_features(data), data, [], latents=3)
    ceiling = [point for point in points if point.explainer == "statistical"]
    assert sorted(point.threshold for point in ceiling) == [0.25, 0.5, 0.75]
    assert all(point.youden is not None and point.low <= point.youden <= point.high for point in ceiling)
    tags = [point for point in points if point.explainer == "tags"]
    assert len(tags) == 7
    assert all(point.unscored == "no audio" or point.evidence == "exact" for point in tags)
    assert "statistical" in sensitivity.table(points)
