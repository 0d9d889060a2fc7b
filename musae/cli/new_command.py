"""`musae new`: a working method or task, with its test, to begin from."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path

import click

from musae import registry
from musae.errors import UserError
from musae.files import atomic_path

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
"""Rows and file names carry it: ASCII, and no underscore first."""

FOLDERS = {"methods": "musae/methods", "tasks": "tasks"}
"""Where members lie in a checkout."""


@click.group("new")
def command() -> None:
    """Write a working method or task and its test, to begin from.

    In a checkout of musae they go where its own lie; with --package they become a package of their own, which announces the
    method or task to musae once it is installed. No file is overwritten.

    \b
    Examples:
      musae new method my_sae
      musae new task cadences --package ../musae-cadences
    """


_package = click.option(
    "--package",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="DIR",
    help="Write an installable package into this folder; its name is the folder's.  [default: into this checkout of musae]",
)


@command.command("method")
@click.argument("name")
@_package
def method(name: str, package: Path | None) -> None:
    """Write a method NAME: its file is a module, its test runs the conformance suite.

    \b
    Examples:
      musae new method my_sae
      musae new method my_sae --package ../musae-mine
    """
    _write("methods", name, package)


@command.command("task")
@click.argument("name")
@_package
def task(name: str, package: Path | None) -> None:
    """Write a task NAME: its file is a module, its test runs the conformance suite.

    \b
    Examples:
      musae new task cadences
      musae new task cadences --package ../musae-cadences
    """
    _write("tasks", name, package)


def _write(kind: str, name: str, package: Path | None) -> None:
    """Check everything first, then write, then say what to type next."""
    _check_name(kind, name)
    files, steps = _in_checkout(kind, name) if package is None else _in_package(kind, name, package)
    for path in files:
        if path.exists():
            raise UserError(f"{path}: is there already, and is not overwritten; choose another name or folder.")
    for path, text in files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        click.echo(f"wrote {_short(path)}")
    click.echo("\nNext:")
    for step in steps:
        click.echo(f"  {step}")


def _check_name(kind: str, name: str) -> None:
    """Raise UserError, with a name that would do, unless `name` may be the name of a new member."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        words = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:48]
        better = f"my_{words}" if not NAME.fullmatch(words) or keyword.iskeyword(words) else words
        rule = "a Python identifier of ASCII letters, digits and _ that begins with a letter and is no keyword"
        raise UserError(f"{name!r} cannot name one of {kind}: a name is {rule}; for example {better.rstrip('_')!r}.")
    taken = {full.rpartition("/")[2]: full for full in registry.entries(kind)}
    if name in taken:
        better = next(new for new in (f"my_{name}", *(f"{name}_{i}" for i in range(2, 99))) if new not in taken)
        raise UserError(f"{name!r} is taken: {kind} have {taken[name]!r}; choose another name, for example {better!r}.")


def _in_checkout(kind: str, name: str) -> tuple[dict[Path, str], list[str]]:
    """Files beside musae's own, and what to do next."""
    root = checkout()
    if root is None:
        raise UserError("this musae is an installed package, no checkout to add to; give --package DIR to write a plug-in.")
    module, test = root / FOLDERS[kind] / f"{name}.py", root / "tests" / kind / f"test_{name}.py"
    files = {
        module: _template(kind, name, f"musae.{kind}"),
        test: _template(kind, name, f"musae.{kind}", test=True),
    }
    return files, [f"musae validate {name}", f"python -m pytest {_short(test)}", *_first_use(kind, name)]


def _in_package(kind: str, name: str, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """Files of a package of its own, and what to do next."""
    distribution = folder.resolve().name
    package = re.sub(r"[-.]+", "_", distribution).lower()
    if not NAME.fullmatch(package) or keyword.iskeyword(package):
        raise UserError(f"{folder}: a package cannot be named {distribution!r}; choose a folder's name such as 'musae-{name}'.")
    if importlib.util.find_spec(package) is not None:
        raise UserError(f"{folder}: there is a package {package!r} already; choose another name for the folder.")
    about = _resource("package.toml")
    for old, new in {"my-package": distribution, "my_package": package, "my_kind": kind, "my_name": name}.items():
        about = about.replace(old, new)
    test = folder / "tests" / f"test_{name}.py"
    files = {
        folder / "pyproject.toml": about,
        folder / "src" / package / "__init__.py": '"""A plug-in for musae."""\n',
        folder / "src" / package / f"{name}.py": _template(kind, name, package),
        test: _template(kind, name, package, test=True),
    }
    full = f"{distribution}/{name}"
    install = f"python -m pip install --editable {_short(folder)}"
    return files, [install, f"musae validate {full}", f"python -m pytest {_short(test)}", *_first_use(kind, full)]


def _first_use(kind: str, name: str) -> list[str]:
    if kind == "methods":
        return [f"musae train {name}"]
    return ["musae list suites   # a suite names the tasks that it runs: add yours to one of your own, then `musae run --suite`"]


def _template(kind: str, name: str, package: str, test: bool = False) -> str:
    """The module, or its test, with the member's name and place put in."""
    one = kind.removesuffix("s")
    text = _resource(f"test_{one}.py" if test else f"{one}.py")
    title = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    # the test of a method imports its class from the module, that of a task the module from its package
    for old, new in {
        "musae.templates.method": f"{package}.{name}",
        "from musae.templates import task": f"from {package} import {name}",
        "check_task(task)": f"check_task({name})",
        "task.score(": f"{name}.score(",
        f"my_{one}": name,
        f"My{one.title()}": title,
        f"My {one}": title,
    }.items():
        text = text.replace(old, new)
    if test and not package.startswith("musae."):  # the package's own import comes last, in a block of its own
        own = next(line for line in text.splitlines(keepends=True) if line.startswith(f"from {package}"))
        head, tail = text.replace(own, "").split("\n\n\n", 1)
        text = f"{head}\n\n{own}\n\n{tail}"
    return text


def _resource(name: str) -> str:
    return resources.files("musae.templates").joinpath(name).read_text(encoding="utf-8")


def checkout() -> Path | None:
    """The root of the checkout that this musae runs from; None where it is an installed copy."""
    root = Path(__file__).resolve().parents[2]
    parts = ("pyproject.toml", "musae/methods", "tasks", "tests/methods", "tests/tasks")
    return root if all((root / part).exists() for part in parts) else None


def _short(path: Path) -> str:
    """A path as one would type it from here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
