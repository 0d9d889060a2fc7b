"""Names, cards and plug-ins."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

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

    def make(source, *others):
        module = "theirs_" + "".join(c for c in tmp_path.name if c.isalnum())  # no two tests share an imported module
        if source is not None:
            (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        points = {"musae.methods": [Point("mine", f"{module}:METHOD"), *others]}
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
    entry = registry.entries("methods")["theirs/mine"]
    assert entry.problem
    for act in (entry.load, lambda: registry.find("methods", "theirs/mine")):
        with pytest.raises(UserError, match=r"theirs/mine.*uninstall"):
            act()


GOOD = 'from musae.card import MethodCard\nCARD = MethodCard(name="mine", summary="theirs")\n'


def test_a_plugin_is_found_by_what_its_rows_call_it(plugin):
    plugin(GOOD)
    assert registry.find("methods", "mine").name == "theirs/mine"
    assert registry.find("methods", "topk").module == "musae.methods.topk"


def test_a_name_that_two_plugins_share_is_not_guessed(plugin):
    other = Point("mine", "nowhere:METHOD")
    other.dist = type("Dist", (), {"name": "others"})
    plugin(GOOD, other)
    with pytest.raises(UserError, match=r"may be any of theirs/mine, others/mine"):
        registry.find("methods", "mine")


def test_a_plugin_has_the_name_of_its_card(plugin):
    plugin(GOOD.replace('"mine"', '"yours"'))
    with pytest.raises(UserError, match="its card is named 'yours'"):
        registry.find("methods", "theirs/mine")


def test_a_plugin_cannot_have_a_name_of_ours(plugin):
    """Rows and saved dictionaries are called by the card's name: of two, another would be loaded than was saved."""
    point = Point("pca", "theirs_pca")
    plugin(GOOD, point)
    (Path(sys.path[0]) / "theirs_pca.py").write_text(GOOD.replace("mine", "pca"))
    with pytest.raises(UserError, match="musae's own methods have a 'pca'"):
        registry.find("methods", "theirs/pca")
    assert registry.find("methods", "pca").module == "musae.methods.pca"


def test_a_plugin_that_cannot_be_imported_says_so_on_use(plugin):
    plugin(GOOD + "import no_such_library\n")
    entry = registry.find("methods", "theirs/mine")
    with pytest.raises(UserError, match=r"'theirs/mine' is broken: importing .* raised ModuleNotFoundError.*no_such_library"):
        entry.load()


def test_listing_imports_nothing_of_a_plugin(plugin, tmp_path):
    package = tmp_path / "theirs_package" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text('raise SystemExit("imported")\n')
    (package / "mine.py").write_text(GOOD)
    point = Point("mine", "theirs_package.inner.mine:METHOD")
    point.dist.name = "inner"
    plugin(GOOD, point)
    assert registry.entries("methods")["inner/mine"].card is not None


def test_what_is_provided_is_a_member_for_a_while():
    entry = registry.Entry("methods", "pca", "musae.methods.random", None)
    with registry.provided(entry):
        assert registry.find("methods", "pca") is entry
        assert "pca" not in registry.entries("tasks")
    assert registry.find("methods", "pca").module == "musae.methods.pca"


@pytest.fixture
def methods(tmp_path, monkeypatch):
    """A folder that is searched for methods in place of the package's."""
    (tmp_path / "good.py").write_text('CARD = MethodCard(name="good", summary="s")\n')
    monkeypatch.setattr(registry, "folders", lambda kind: [tmp_path])
    return tmp_path


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import torch\ndef broken(:\n", r"bad\.py:2: "),
        ('CARD = MethodCard(\n    name="bad",\n    summary=TEXT,\n)\n', r"bad\.py:3: the card's summary is not a Python literal"),
        ('CARD = MethodCard(\n    name="bad",\n    summary="s",\n    rule="method",\n)\n', r"bad\.py:4: MethodCard, rule: "),
        ('\nCARD = MethodCard(name="bad")\n', r"bad\.py:2: MethodCard, summary: "),
        ('CARD = MethodCard(name="good", summary="s")\n', r"bad\.py: its card is named 'good'; the name must be 'bad'"),
        ("\0", "bad"),
    ],
    ids=["syntax", "not literal", "no such field", "missing field", "name of another", "no text"],
)
def test_a_broken_file_breaks_its_own_name_only(methods, source, says):
    (methods / "bad.py").write_text(source)
    entries = registry.entries("methods")
    assert entries["good"].card is not None
    assert entries["bad"].card is None
    assert registry.find("methods", "good")
    with pytest.raises(UserError, match=says):
        registry.find("methods", "bad")
    with pytest.raises(UserError, match=says):
        entries["bad"].load()


def test_a_file_and_a_folder_of_one_name_are_a_problem(methods):
    (methods / "good").mkdir()
    (methods / "good" / "__init__.py").write_text('CARD = MethodCard(name="good", summary="s")\n')
    with pytest.raises(UserError, match="declare this name"):
        registry.find("methods", "good")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"corpora": ("chorales", "mine")}, "clips says nothing of mine"),
        ({"width": 0}, "greater than 0"),
        ({"clips": {"a": 0}}, "clips"),
    ],
)
def test_a_suite_that_cannot_run_is_refused(change, says):
    quick = registry.find("suites", "quick").card
    with pytest.raises(ValidationError, match=says):
        type(quick)(**{**quick.model_dump(), **change})
