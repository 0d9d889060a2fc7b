"""The README's recipes work as they are written."""

import importlib
import re
from pathlib import Path

import pytest

import musae.kernels
import musae.methods
import musae.tasks
from musae import testing, testing_kernels, testing_tasks

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def recipe(heading: str) -> str:
    """The first Python block under a heading."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def installed(tmp_path):
    """Writes a recipe's file where its package is looked for, and imports it."""
    added = []

    def install(package, source):
        (tmp_path / "mine.py").write_text(source)
        package.__path__.append(str(tmp_path))
        added.append(package)
        importlib.invalidate_caches()
        return importlib.import_module(f"{package.__name__}.mine")

    yield install
    for package in added:
        package.__path__.remove(str(tmp_path))


def test_the_method_keeps_the_contract(installed):
    testing.check_method(installed(musae.methods, recipe("Add a method")).METHOD)


def test_the_task_keeps_the_contract(installed):
    testing_tasks.check_task(installed(musae.tasks, recipe("Add a task")))


def test_the_kernel_keeps_the_contract(installed):
    testing_kernels.check_op(installed(musae.kernels, recipe("Add a kernel")).OP)


def test_the_commands_come_first():
    assert README.index("make leaderboard") < README.index("make test") < README.index("## ")


def test_every_command_is_in_the_readme():
    from musae.cli import COMMANDS

    assert [name for name in COMMANDS if f"musae {name}" not in README] == []
