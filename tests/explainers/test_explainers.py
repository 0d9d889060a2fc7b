"""Explainers on latents that are concepts by construction, and on answers that go wrong."""

from dataclasses import replace

import pytest
from explainers.asked import Fake, first_claim, first_line

from musae import registry
from musae.errors import UserError
from musae.explainers import audio, statistical, tags, text
from musae.explainers.chat import heard
from musae.labels import judge_truth, prompts
from musae.labels.claims import KeyClaim, Label, RootClaim, answer_schema
from musae.providers.budget import Budget, Prices
from musae.providers.cache import AnswerCache
from musae.providers.provider import Unanswered
from musae.providers.schema import check_schema, problem
from musae.testing_explainers import CLAIMS, check_explainer, planted_case

RANKING, CHAT = Fake(first_line, ranks=True), Fake(first_claim)


def made(provider, folder, module=text):
    """An explainer of a module that asks a provider, with a cache of its own."""
    kind = {text: text.Text, audio: audio.Audio}[module]
    return kind(provider, module.CARD, AnswerCache(folder))


@pytest.mark.parametrize("module", [statistical, tags])
def test_conformance(module):
    check_explainer(module)


@pytest.mark.parametrize("provider", [RANKING, CHAT], ids=["ranking", "chat"])
def test_conformance_of_asked(provider, tmp_path):
    check_explainer(text, lambda: made(provider, tmp_path))


@pytest.mark.parametrize("provider", [RANKING, CHAT], ids=["ranking", "chat"])
def test_planted_concepts_are_told_and_true(provider, tmp_path):
    """What is told first of a planted concept is that concept, so who repeats it scores all but perfectly."""
    case = planted_case()
    labels = [e.label for e in made(provider, tmp_path).explain(case)]
    assert [label.claims for label in labels[:-1]] == [(claim,) for claim in CLAIMS]
    judged = judge_truth.judge(labels[:-1], _without_last(case), case.data, case.level)
    assert judged.youden()[0] > 0.99


def _without_last(case):
    firing = case.firing
    return replace(
        firing,
        latents=firing.latents[:-1],
        at={unit: at[:, :-1] for unit, at in firing.at.items()},
        values={unit: values[:, :-1] for unit, values in firing.values.items()},
    )


def test_what_is_told():
    """By hand: a latent that fires on root C, at the most ten places of either kind."""
    shown = planted_case().evidence()[0]
    first = heard(shown)[0]
    assert first.claim == RootClaim(root="C")
    assert first.active == (10, 10)
    assert first.silent[0] == 0
    assert first.line.startswith("root C: 10 of 10 active, 0 of ")


def test_a_second_run_asks_nothing(tmp_path):
    provider = Fake(first_claim)
    case = planted_case()
    first = made(provider, tmp_path).explain(case)
    asked = len(provider.seen)
    assert asked == len(CLAIMS)
    assert made(provider, tmp_path).explain(case) == first
    assert len(provider.seen) == asked


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I cannot help with that.", "no valid answer after one repair"),
        (Unanswered("it refuses: no", "stable"), "it refuses"),
        (Unanswered("9000 tokens exceed the context", "stable"), "exceed the context"),
        (
            '{"claims": [{"kind": "tempo", "low": 120, "high": 90}], "name": "x", "description": "", "confidence": 1}',
            "no valid label",
        ),
        ('{"claims": [{"kind": "mood", "mood": "sad"}], "name": "x", "description": "", "confidence": 1}', "no valid answer"),
    ],
)
def test_what_goes_wrong_is_unscored(answer, reason, tmp_path):
    found = made(Fake(lambda request: answer), tmp_path).explain(planted_case())
    assert all(reason in e.unscored for e in found[:-1])
    assert not any(e.label.checkable for e in found)
    assert found[-1].unscored == "fires nowhere on the explaining pieces"


def test_the_limit_on_cost_leaves_the_rest_unscored(tmp_path):
    provider = Fake(first_claim)
    provider.free = False
    explainer = made(provider, tmp_path)
    one = provider.tokens(explainer.requests(planted_case().evidence()[:1], planted_case())[0])
    explainer.limit(Budget(Prices(1.0, 0.0), max_cost=2.5 * one / 1_000_000))
    found = explainer.explain(planted_case())
    assert [e.unscored for e in found].count("over --max-cost") == len(CLAIMS) - 2
    assert "6 requests" in explainer.totals


def test_an_estimate_asks_nothing(tmp_path):
    provider = Fake(first_claim)
    assert made(provider, tmp_path).estimate(planted_case()).startswith(f"{len(CLAIMS)} calls")
    assert provider.seen == []


def test_the_schema_of_answers():
    """Every property is required, as OpenAI's strict mode wants; what fits it and is ordered is a label."""
    schema = answer_schema()
    check_schema(schema, "labels")
    assert all(set(part["required"]) == set(part["properties"]) for part in schema["$defs"].values())
    label = {"claims": [{"kind": "register", "register": "low"}], "name": "bass", "description": "", "confidence": 0.5}
    assert not problem(label, schema)
    assert Label.model_validate(label).claims[0].model_dump()["kind"] == "register"
    assert problem(label | {"claims": []}, schema)


def test_prompts_are_files_of_a_version():
    for name in ("explain", "rank", "name", "listen", "detection", "fuzzing", "intruder"):
        prompt = prompts.read(name, 1)
        assert prompt.tag == f"{name}@1"
        assert prompt.system
        assert prompt.user


def test_tags_claim_what_is_commonest_in_the_exemplars():
    """The key of the clips in which a planted key holds, whatever else is heard there less often."""
    found = tags.load().explain(planted_case())
    assert found[4].label.claims == (KeyClaim(key="C major"),)


def test_audio_sends_excerpts_and_no_metadata(tmp_path, monkeypatch):
    provider = Fake(first_claim, hears=True)
    case = planted_case()
    monkeypatch.setattr(registry, "make", lambda kind, name: Silence())
    made(provider, tmp_path, audio).explain(case)
    clips = provider.seen[0].messages[1].clips
    assert len(clips) == 2 * audio.EXCERPTS
    assert all(clip.wav.startswith(b"RIFF") and not clip.metadata for clip in clips)
    assert all("track" not in message.text for message in provider.seen[0].messages)


class Silence:
    """A corpus of silence."""

    def audio(self, clips, rate):
        import numpy as np

        for clip in clips:
            yield np.zeros(round(clip.duration * rate), np.float32)


def test_audio_wants_a_provider_that_hears(monkeypatch):
    with pytest.raises(UserError, match="names no provider"):
        audio.load()
    monkeypatch.setattr(registry, "make", lambda *asked: Fake(first_claim))
    with pytest.raises(UserError, match="hears no audio"):
        audio.load("local")
