"""`musae new`: what it writes works as it is."""

import runpy
import tomllib

import pytest
from click.testing import CliRunner

import musae.methods
import musae.tasks
from musae.cli import main, new_command


def new(*arguments):
    return CliRunner().invoke(main, ["new", *map(str, arguments)])


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder in place of the checkout, whose members are found beside musae's own."""
    monkeypatch.setattr(new_command, "checkout", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    folders = {musae.methods: tmp_path / "musae" / "methods", musae.tasks: tmp_path / "tasks"}
    for package, folder in folders.items():
        folder.mkdir(parents=True)
        package.__path__.append(str(folder))
    yield tmp_path
    for package, folder in folders.items():
        package.__path__.remove(str(folder))


@pytest.mark.parametrize(
    ("kind", "name", "module"),
    [("method", "fresh_one", "musae/methods/fresh_one.py"), ("task", "new_thing", "tasks/new_thing.py")],
)
def test_what_is_written_passes_its_own_test(checkout, kind, name, module):
    result = new(kind, name)
    assert result.exit_code == 0, result.output
    test = f"tests/{kind}s/test_{name}.py"
    assert result.output.splitlines()[:2] == [f"wrote {module}", f"wrote {test}"]
    assert f"python -m pytest {test}" in result.output
    written = runpy.run_path(str(checkout / test))
    tests = [act for title, act in written.items() if title.startswith("test_")]
    assert len(tests) == 2
    for act in tests:
        act()
    validated = CliRunner().invoke(main, ["validate", name])
    assert validated.exit_code == 0, validated.output
    for path in (module, test):
        text = (checkout / path).read_text()
        assert "my_" not in text
        assert "templates" not in text


def test_a_class_is_named_after_its_file(checkout):
    new("method", "fresh_two")
    text = (checkout / "musae" / "methods" / "fresh_two.py").read_text()
    assert "class FreshTwo(Dictionary):" in text
    assert "METHOD = FreshTwo" in text


def test_nothing_is_overwritten(checkout):
    (checkout / "tests" / "methods").mkdir(parents=True)
    test = checkout / "tests" / "methods" / "test_third.py"
    test.write_text("mine")
    result = new("method", "third")
    assert result.exit_code == 2
    assert "is not overwritten" in result.stderr
    assert test.read_text() == "mine"
    assert not (checkout / "musae" / "methods" / "third.py").exists()


def test_a_package_announces_its_member(tmp_path):
    folder = tmp_path / "musae-fresh.things"
    result = new("task", "cadences", "--package", folder)
    assert result.exit_code == 0, result.output
    about = tomllib.loads((folder / "pyproject.toml").read_text())
    assert about["project"]["name"] == "musae-fresh.things"
    assert about["project"]["entry-points"] == {"musae.tasks": {"cadences": "musae_fresh_things.cadences"}}
    assert (folder / "src" / "musae_fresh_things" / "cadences.py").is_file()
    assert "from musae_fresh_things import cadences" in (folder / "tests" / "test_cadences.py").read_text()
    assert "musae validate musae-fresh.things/cadences" in result.output
    again = new("method", "another", "--package", folder)
    assert again.exit_code == 2
    assert "pyproject.toml: is there already" in again.stderr


def test_an_installed_musae_has_nowhere_to_write(monkeypatch):
    monkeypatch.setattr(new_command, "checkout", lambda: None)
    result = new("method", "fresh")
    assert result.exit_code == 2
    assert "give --package DIR" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("method", "fresh-one"), "for example 'fresh_one'"),
        (("method", "class"), "for example 'my_class'"),
        (("task", "2nd"), "for example 'my_2nd'"),
        (("task", "_x"), "for example 'x'"),
        (("method", "größe"), "for example 'gr_e'"),
        (("method", "../../x"), "for example 'x'"),
        (("method", "topk"), "'topk' is taken: methods have 'topk'; choose another name, for example 'my_topk'"),
        (("method", "fresh", "--package", "numpy"), "there is a package 'numpy' already"),
        (("method", "fresh", "--package", "1 2"), "cannot be named '1 2'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_one_that_can(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    result = new(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_checkout_is_the_one_that_musae_runs_from():
    root = new_command.checkout()
    assert root is not None
    assert (root / "musae" / "cli" / "new_command.py").is_file()
