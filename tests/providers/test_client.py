"""What a client makes of a provider's replies: kept, counted, limited, in order."""

import json

import pytest

from musae.card import ProviderCard
from musae.errors import UserError
from musae.providers.budget import OVER, Budget, Prices
from musae.providers.cache import AnswerCache, key
from musae.providers.client import Client
from musae.providers.provider import Clip, Message, Provider, Reply, Request, Sampling, Unanswered

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Scripted(Provider):
    """Says what `says` gives for the text of a request, and counts how often it is asked."""

    card = ProviderCard(name="scripted", summary="s", source="s")
    model, revision, hears = "scripted", "1", True

    def __init__(self, says=lambda request: Reply('{"n": 1}', tokens_in=100, tokens_out=10), concurrency=1):
        self.says, self.concurrency, self.asked = says, concurrency, []

    def reply(self, request):
        self.asked.append(request)
        return self.says(request)


def ask(text="how many?", schema=SCHEMA, **changes):
    return Request(
        (Message("system", ("Count.",)), Message("user", (text,))), changes.pop("prompt", "count@1"), schema, **changes
    )


def fail(reason, kind):
    def says(_):
        raise Unanswered(reason, kind)

    return says


def test_a_second_run_asks_nothing(tmp_path):
    requests = [ask("a"), ask("b"), ask("c", None, options=("yes", "no"))]

    def says(request):
        return Reply(likelihoods=(-0.5, -1.5), tokens_in=7, tokens_out=1) if request.options else Reply('{"n": 3}')

    first, second = Scripted(says), Scripted(fail("asked again", "passing"))
    fresh = Client(first, AnswerCache(tmp_path)).complete(requests)
    again = Client(second, AnswerCache(tmp_path))
    kept = again.complete(requests)
    assert (len(first.asked), second.asked) == (3, [])
    assert [answer.value for answer in kept] == [answer.value for answer in fresh] == [{"n": 3}] * 2 + [{"yes": -0.5, "no": -1.5}]
    assert all(answer.cached and answer.cost == answer.tokens_in == answer.seconds == 0 for answer in kept)
    assert str(again.totals) == "3 requests: 3 kept, 0 calls, 0 repaired; 0 tokens read, 0 written; cost 0.0000"


@pytest.mark.parametrize(
    "other",
    [
        ask("b"),
        ask(prompt="count@2"),
        ask(schema={**SCHEMA, "title": "t"}),
        ask(sampling=Sampling(temperature=1.0)),
        ask(sampling=Sampling(max_tokens=9)),
        ask(sampling=Sampling(seed=1)),
        Request((Message("user", ("Count.",)), Message("user", ("how many?",))), "count@1", SCHEMA),
        Request((Message("user", ("Count.", "how many?")),), "count@1", SCHEMA),
        Request((*ask().messages[:1], Message("user", ("how many?", Clip(b"1")))), "count@1", SCHEMA),
        Request((*ask().messages[:1], Message("user", ("how many?", Clip(b"2")))), "count@1", SCHEMA),
        ask(schema=None, options=("1", "2")),
        ask(schema=None, options=("2", "1")),
    ],
)
def test_an_answer_is_found_by_all_that_it_depends_on(other):
    provider = Scripted()
    assert key(provider, other) != key(provider, ask())
    assert key(provider, ask()) == key(provider, ask())


def test_keys_follow_model_and_revision():
    provider, other = Scripted(), Scripted()
    other.revision = "2"
    assert key(provider, ask()) != key(other, ask())
    other.model, other.revision = "else", "1"
    assert key(provider, ask()) != key(other, ask())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:40],
        lambda text: text.replace('"n": 1', '"n": 2'),
        lambda text: text.replace("{", "[", 1),
        lambda text: "null",
    ],
)
def test_a_damaged_file_is_made_again(tmp_path, damage):
    Client(Scripted(), AnswerCache(tmp_path)).complete([ask()])
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_text()
    path.write_text(damage(whole))
    provider = Scripted()
    assert Client(provider, AnswerCache(tmp_path)).complete([ask()])[0].value == {"n": 1}
    assert len(provider.asked) == 1
    assert path.read_text() == whole


def test_an_answer_under_another_name_is_not_taken(tmp_path):
    provider = Scripted()
    client = Client(provider, AnswerCache(tmp_path))
    client.complete([ask("a")])
    (path,) = tmp_path.rglob("*.json")
    name = key(provider, ask("b"))
    (tmp_path / name[:2]).mkdir(exist_ok=True)
    (tmp_path / name[:2] / f"{name}.json").write_text(path.read_text())
    client.complete([ask("b")])
    assert len(provider.asked) == 2


@pytest.mark.parametrize(("kind", "kept"), [("stable", True), ("passing", False), ("fatal", False)])
def test_only_what_would_not_change_is_kept(tmp_path, kind, kept):
    provider = Scripted(fail("why", kind))
    for _ in range(2):
        (answer,) = Client(provider, AnswerCache(tmp_path)).complete([ask()])
        assert answer.unscored == "why"
    assert len(provider.asked) == (1 if kept else 2)


def test_equal_requests_are_asked_and_paid_once():
    provider = Scripted()
    client = Client(provider, budget=Budget(Prices(1e6, 1e6)))
    found = client.complete([ask(), ask("b"), ask()])
    assert [answer.value for answer in found] == [{"n": 1}] * 3
    assert [answer.cost for answer in found] == [110, 110, 0]
    assert (len(provider.asked), client.totals.calls, client.totals.cost) == (2, 2, 220)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_cost_stops_at_the_limit(concurrency):
    def says(_):
        return Reply('{"n": 1}', tokens_in=20, tokens_out=10)

    client = Client(Scripted(says, concurrency), budget=Budget(Prices(1e6, 1e6), max_cost=400))
    found = client.complete([ask(str(n), sampling=Sampling(max_tokens=100)) for n in range(40)])
    scored = [answer for answer in found if not answer.unscored]
    assert 0 < len(scored) < 40
    assert {answer.unscored for answer in found} == {"", OVER}
    assert client.totals.cost == 30 * len(scored) <= 400
    assert f"{40 - len(scored)} unscored: over --max-cost" in str(client.totals)


def test_a_repair_is_within_the_limit_too():
    client = Client(Scripted(lambda _: Reply("no", tokens_in=50, tokens_out=10)), budget=Budget(Prices(1e6, 0), max_cost=60))
    (answer,) = client.complete([ask()])
    assert (answer.unscored, answer.cost, client.totals.calls) == (OVER, 50, 1)


def test_a_dry_run(tmp_path):
    provider = Scripted()
    client = Client(provider, AnswerCache(tmp_path), Budget(Prices(2.0, 10.0)))
    client.complete([ask("a")])
    estimate = client.estimate([ask("a"), ask("b"), ask("c"), ask("c")])
    assert len(provider.asked) == 1
    assert (estimate.requests, estimate.kept, estimate.tokens_out) == (3, 1, 512)
    assert estimate.cost == pytest.approx((2 * estimate.tokens_in + 10 * 512) / 1e6)
    assert str(Client(provider).estimate([ask()])).endswith("cost unknown: no prices given")


def test_what_an_endpoint_does_not_say_is_estimated():
    (answer,) = Client(Scripted(lambda _: Reply('{"n": 1}'))).complete([ask()])
    assert answer.tokens_in == Scripted().tokens(ask()) > 0
    assert answer.tokens_out == 3
    assert answer.cost is None


def test_prices_and_limits_that_make_no_sense():
    with pytest.raises(UserError, match="prices"):
        Prices(-1, 0)
    with pytest.raises(UserError, match="--max-cost needs"):
        Budget(None, 1.0)
    with pytest.raises(UserError, match="--max-cost is -1"):
        Budget(Prices(1, 1), -1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Request((), "p@1", SCHEMA), "last message"),
        (lambda: Request((Message("system", ("a",)),), "p@1", SCHEMA), "last message"),
        (lambda: ask(options=("a", "b")), "either"),
        (lambda: ask(schema=None), "either"),
        (lambda: ask(schema=None, options=("a", "a")), "none twice"),
        (lambda: ask(schema={"type": "array"}), "that of an object"),
        (lambda: ask(schema={"type": "object", "properties": 3}), "properties: 3 is not of type"),
        (lambda: Sampling(temperature=-1), "temperature"),
        (lambda: Sampling(max_tokens=0), "max_tokens"),
    ],
)
def test_requests_that_cannot_be_answered(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_metadata_stay_here_unless_asked_for(tmp_path):
    request = Request((Message("user", ("a", Clip(b"", {"title": "Secret"}))),), "p@1", SCHEMA)
    plain, told = Scripted(), Scripted()
    Client(plain, AnswerCache(tmp_path)).complete([request])
    Client(told, AnswerCache(tmp_path), metadata=True).complete([request])
    assert "Secret" not in repr(plain.asked)
    assert told.asked[0].messages[0].text == 'a\n{"title": "Secret"}'
    assert "Secret" not in repr(request)


def test_files_are_for_readers_too(tmp_path):
    Client(Scripted(), AnswerCache(tmp_path)).complete([ask()])
    (path,) = tmp_path.rglob("*.json")
    kept = json.loads(path.read_text())
    assert (kept["model"], kept["prompt"], kept["answer"]["value"]) == ("scripted", "count@1", {"n": 1})
