"""Names -> modules, without importing them.

Members of a kind are found by listing files (``musae/methods/*.py``, ``tasks/*.py``, ...) that declare a ``CARD``; plug-ins
outside this repository are found by entry point (``musae.methods``, ``musae.tasks``, ``musae.corpora``, ``musae.generators``,
``musae.estimators``, ``musae.providers``, ``musae.explainers``, ``musae.suites``), whose value names the module, and are shown as
``package/name``.
The card is read from the source text by `ast`; the module, and the package it lies in, are imported only when asked for.

Whatever is wrong with one file is its own `Entry.problem`: it is shown by `musae list`, and raised when that name is asked for.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from musae import card as cards
from musae.errors import UserError

KINDS: dict[str, tuple[str, str]] = {
    "methods": ("musae.methods", "MethodCard"),
    "tasks": ("musae.tasks", "TaskCard"),
    "corpora": ("musae.corpora", "CorpusCard"),
    "generators": ("musae.generators", "GeneratorCard"),
    "estimators": ("musae.estimators", "EstimatorCard"),
    "providers": ("musae.providers", "ProviderCard"),
    "explainers": ("musae.explainers", "ExplainerCard"),
    "suites": ("musae.suites", "SuiteCard"),
}
"""Kind -> the package whose files are its members, and the card that they declare."""


@dataclass(frozen=True)
class Entry:
    """A registered name: where its module is, and its card (None where it cannot be used: see `problem`)."""

    kind: str
    name: str
    module: str
    card: cards.Card | None
    problem: str = ""
    """What is wrong, with file and line; empty for a sound entry."""
    argument: str = ""
    """What followed the name and a colon, as in ``musicgen:facebook/musicgen-large``; passed to the module's ``load``."""

    def check(self) -> None:
        """Raise UserError, naming the file or plug-in and what is wrong, when it is broken."""
        if self.problem:
            remedy = "repair or uninstall its package" if "/" in self.name else "repair or remove the file"
            raise UserError(f"{self.kind} {self.name!r} is broken: {self.problem}; {remedy}.")

    def load(self) -> ModuleType:
        """Import the module. Raises UserError as `check` does, and for a plug-in's module that cannot be imported."""
        self.check()
        try:
            return importlib.import_module(self.module)
        except Exception as error:
            if "/" not in self.name:
                raise
            raise UserError(
                f"{self.kind} {self.name!r} is broken: importing {self.module} raised {type(error).__name__}: {error}; "
                f"repair or uninstall its package."
            ) from error


_provided: list[Entry] = []


@contextmanager
def provided(entry: Entry) -> Iterator[None]:
    """For the length of the block `entry` is a member, in place of any other of its name: for what is not installed (yet)."""
    _provided.append(entry)
    try:
        yield
    finally:
        _provided.remove(entry)


def entries(kind: str) -> dict[str, Entry]:
    """All members of a kind by name, in alphabetical order: first this package's, then plug-ins."""
    package, card_name = KINDS[kind]
    found: dict[str, Entry] = {}
    for path in (path for folder in folders(kind) for path in sorted(folder.iterdir())):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file() and path.name != "__init__.py":
            entry = _read_entry(kind, path.stem, f"{package}.{path.stem}", source, card_name)
            if entry is not None and path.stem in found:
                entry = replace(entry, card=None, problem=f"both {path} and a file or folder beside it declare this name")
            if entry is not None:
                found[path.stem] = entry
    own = set(found)
    for point in importlib.metadata.entry_points(group=f"musae.{kind}"):
        name = f"{point.dist.name if point.dist else 'unknown'}/{point.name}"
        entry = _plugin(kind, name, point.value.partition(":")[0].strip(), card_name)
        if point.name in own and not entry.problem:  # rows and saved dictionaries call a member by its card's name
            entry = replace(entry, card=None, problem=f"musae's own {kind} have a {point.name!r}; it needs another name")
        found[name] = entry
    return found | {entry.name: entry for entry in _provided if entry.kind == kind}


def folders(kind: str) -> list[Path]:
    """The folders in which this package's members of a kind lie: one, unless something has extended the package's path."""
    spec = importlib.util.find_spec(KINDS[kind][0])
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the folder of {kind} is missing from this installation; install musae again.")
    return [Path(location) for location in spec.submodule_search_locations]


def find(kind: str, name: str) -> Entry:
    """The member `name` of a kind; a plug-in also by its name without the package, where no other member has that name.

    A name may carry an argument, where the member's card says so: then its card is that of the two, and its module is imported.

    Raises UserError that suggests the nearest name, lists the plug-ins that share it, or says what is wrong with the member.
    """
    known = entries(kind)
    if name not in known and ":" in name:
        return _with_argument(kind, *name.split(":", 1))
    if name not in known:
        plugins = [full for full in known if full.partition("/")[2] == name]
        if len(plugins) > 1:
            raise UserError(f"{kind} {name!r} may be any of {', '.join(plugins)}; give the whole name, or uninstall the others.")
        if not plugins:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
            raise UserError(f"no {kind} named {name!r}; {hint}")
        name = plugins[0]
    known[name].check()
    return known[name]


def _with_argument(kind: str, name: str, argument: str) -> Entry:
    """The member `name` with an argument, and the card of the two."""
    entry = find(kind, name)
    takes = getattr(entry.card, "argument", "")
    if not takes:
        raise UserError(f"{kind} {name!r} takes no argument, and {argument!r} follows its colon; leave it out.")
    if not argument:
        raise UserError(f"{kind} {name!r}: nothing follows its colon; give {takes}, or leave the colon out.")
    return replace(entry, name=f"{name}:{argument}", card=entry.load().card(argument), argument=argument)


def load(kind: str, name: str) -> ModuleType:
    """Import the module that provides `name`."""
    return find(kind, name).load()


def make(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """What the ``load()`` of the module that provides `name` gives; ``load(argument)`` for a name with an argument.

    `options`: keyword arguments of that ``load``.
    """
    entry = find(kind, name)
    given = (entry.argument,) if entry.argument else ()
    return entry.load().load(*given, **(options or {}))


def read_card(source: Path, card_name: str) -> cards.Card | None:
    """The literal ``CARD = <card_name>(...)`` of a source file, or None when it declares none.

    Raises UserError with file, line and reason for a file that is no Python, and for a card that is not literal or not valid.
    """
    try:
        body = ast.parse(source.read_bytes(), filename=str(source)).body
    except SyntaxError as error:
        raise UserError(f"{source}:{error.lineno or 1}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot be read ({error})") from error
    for node in body:
        if not isinstance(node, ast.Assign) or [getattr(t, "id", "") for t in node.targets] != ["CARD"]:
            continue
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == card_name:
            return _card(source, card_name, call)
    return None


def _card(source: Path, card_name: str, call: ast.Call) -> cards.Card:
    arguments, lines = {}, {}
    for keyword in call.keywords:
        name = str(keyword.arg)
        lines[name] = keyword.value.lineno
        try:
            arguments[name] = ast.literal_eval(keyword.value)
        except ValueError as error:
            raise UserError(f"{source}:{lines[name]}: the card's {name} is not a Python literal") from error
    try:
        card: cards.Card = getattr(cards, card_name)(**arguments)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        line = lines.get(str(next(iter(problem["loc"]), "")), call.lineno)
        reason = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{source}:{line}: {card_name}{f', {field}' if field else ''}: {reason}") from error
    return card


def _read_entry(kind: str, name: str, module: str, source: Path, card_name: str) -> Entry | None:
    """A member with its card or its problem; None for a file without a card. The card's name must be the last part of `name`."""
    try:
        card = read_card(source, card_name)
    except UserError as error:
        return Entry(kind, name, module, None, str(error))
    expected = name.rpartition("/")[2]
    if card is not None and card.name != expected:
        return Entry(kind, name, module, None, f"{source}: its card is named {card.name!r}; the name must be {expected!r}")
    return Entry(kind, name, module, card) if card is not None else None


def _plugin(kind: str, name: str, module: str, card_name: str) -> Entry:
    """Find a plug-in's source without importing it; any way in which it is broken becomes its `problem`."""
    try:
        source = _source(module)
        if source is None:
            return Entry(kind, name, module, None, f"its module {module} is not found")
        entry = _read_entry(kind, name, module, source, card_name)
    except Exception as error:  # a third party's code: whatever is wrong with it must not break `musae list`
        return Entry(kind, name, module, None, f"its module {module} cannot be read: {error}")
    return entry or Entry(kind, name, module, None, f"its module {module} declares no CARD = {card_name}(...)")


def _source(module: str) -> Path | None:
    """The file of a module, found without importing it or the packages that it lies in; None where there is none."""
    first, *others = module.split(".")
    spec, name = importlib.util.find_spec(first), first
    for part in others:
        name += f".{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec is not None else None
    return Path(spec.origin) if spec is not None and spec.origin else None
