"""Names, cards and plug-ins."""

import importlib.metadata

import pytest

from musae import registry
from musae.card import MethodCard
from musae.errors import UserError


def test_every_kind_has_members_with_cards():
    for kind in registry.KINDS:
        entries = registry.entries(kind)
        assert entries
        assert all(entry.card is not None for entry in entries.values())


def test_a_file_name_is_its_name():
    for kind in registry.KINDS:
        for entry in registry.entries(kind).values():
            assert entry.module.rpartition(".")[2] == entry.name


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match=r"no methods named 'topkk'; did you mean 'topk'\?"):
        registry.find("methods", "topkk")


def test_a_name_like_no_other_lists_what_is_known():
    with pytest.raises(UserError, match=r"known: .*topk"):
        registry.find("methods", "qqqqqqqq")


def test_a_card_is_read_without_running_the_module(tmp_path):
    source = tmp_path / "mine.py"
    source.write_text('raise SystemExit("imported")\nCARD = MethodCard(name="mine", summary="s")\n')
    assert registry.read_card(source, "MethodCard") == MethodCard(name="mine", summary="s")
    assert registry.read_card(source, "TaskCard") is None


class Point:
    """As much of an entry point as the registry reads."""

    def __init__(self, name, value):
        self.name, self.value, self.dist = name, value, type("Dist", (), {"name": "theirs"})


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes a plug-in of a module's source text."""

    def make(source, module="theirs_mine"):
        if source is not None:
            (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        points = {"musae.methods": [Point("mine", f"{module}:METHOD")]}
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points.get(group, []))

    return make


def test_a_plugin_is_shown_by_package_and_name(plugin):
    plugin('from musae.card import MethodCard\nCARD = MethodCard(name="mine", summary="theirs")\n')
    entry = registry.entries("methods")["theirs/mine"]
    assert entry.card is not None
    assert entry.card.summary == "theirs"
    assert entry.load().CARD.name == "mine"


@pytest.mark.parametrize("source", ["def broken(:\n", "x = 1\n", None], ids=["syntax", "no card", "no module"])
def test_a_broken_plugin_is_listed_and_raises_on_use(plugin, source):
    plugin(source)
    entry = registry.find("methods", "theirs/mine")
    assert entry.problem
    with pytest.raises(UserError, match="theirs/mine"):
        entry.load()
