"""Names -> modules, without importing them.

Members of a kind are found by listing files (``musae/methods/*.py``, ``tasks/*.py``, ...) that declare a ``CARD``; plug-ins
outside this repository are found by entry point (``musae.methods``, ``musae.tasks``, ``musae.corpora``, ``musae.generators``)
and are shown as ``package/name``. The card is read from the source text by `ast`; the module is imported only when asked for.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from musae import card as cards
from musae.errors import UserError

KINDS: dict[str, tuple[str, str]] = {
    "methods": ("musae.methods", "MethodCard"),
    "tasks": ("musae.tasks", "TaskCard"),
    "corpora": ("musae.corpora", "CorpusCard"),
    "generators": ("musae.generators", "GeneratorCard"),
    "suites": ("musae.suites", "SuiteCard"),
}
"""Kind -> the package whose files are its members, and the card that they declare."""


@dataclass(frozen=True)
class Entry:
    """A registered name: where its module is, and its card (None for a plug-in whose card cannot be read: see `problem`)."""

    kind: str
    name: str
    module: str
    card: cards.Card | None
    problem: str = ""

    def load(self) -> ModuleType:
        """Import the module. Raises UserError, naming the plug-in, when it is broken."""
        if self.problem:
            raise UserError(f"{self.kind} {self.name!r} ({self.module}): {self.problem}. Repair or uninstall its package.")
        return importlib.import_module(self.module)


def entries(kind: str) -> dict[str, Entry]:
    """All members of a kind by name, in alphabetical order: first this package's, then plug-ins."""
    package, card_name = KINDS[kind]
    found: dict[str, Entry] = {}
    spec = importlib.util.find_spec(package)
    for location in sorted((spec.submodule_search_locations or []) if spec else []):
        for path in sorted(Path(location).iterdir()):
            source = path / "__init__.py" if path.is_dir() else path
            if source.suffix == ".py" and source.is_file() and path.name != "__init__.py":
                card = read_card(source, card_name)
                if card is not None:
                    found[card.name] = Entry(kind, card.name, f"{package}.{path.stem}", card)
    for point in importlib.metadata.entry_points(group=f"musae.{kind}"):
        name = f"{point.dist.name if point.dist else 'unknown'}/{point.name}"
        found[name] = _plugin(kind, name, point.value.partition(":")[0], card_name)
    return found


def folder(kind: str) -> Path:
    """The folder in which this package's members of a kind lie."""
    spec = importlib.util.find_spec(KINDS[kind][0])
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the folder of {kind} is missing from this installation; install musae again.")
    return Path(next(iter(spec.submodule_search_locations)))


def find(kind: str, name: str) -> Entry:
    """The member `name` of a kind. Raises UserError that suggests the nearest name."""
    known = entries(kind)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
    raise UserError(f"no {kind} named {name!r}; {hint}")


def load(kind: str, name: str) -> ModuleType:
    """Import the module that provides `name`."""
    return find(kind, name).load()


def read_card(source: Path, card_name: str) -> cards.Card | None:
    """The literal ``CARD = <card_name>(...)`` of a source file, or None when it declares none."""
    for node in ast.parse(source.read_text(encoding="utf-8"), filename=str(source)).body:
        if not isinstance(node, ast.Assign) or [getattr(t, "id", "") for t in node.targets] != ["CARD"]:
            continue
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == card_name):
            continue
        arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        card: cards.Card = getattr(cards, card_name)(**arguments)
        return card
    return None


def _plugin(kind: str, name: str, module: str, card_name: str) -> Entry:
    """Find a plug-in's source without importing it; any way in which it is broken becomes its `problem`."""
    try:
        parent, _, _ = module.rpartition(".")
        top = importlib.util.find_spec(module.partition(".")[0])
        spec = top if not parent else importlib.util.find_spec(module)
        if spec is None or not spec.origin:
            return Entry(kind, name, module, None, "its module is not found")
        card = read_card(Path(spec.origin), card_name)
    except Exception as error:  # a third party's code: whatever is wrong with it must not break `musae list`
        return Entry(kind, name, module, None, f"it cannot be read: {error}")
    if card is None:
        return Entry(kind, name, module, None, f"it declares no CARD = {card_name}(...)")
    return Entry(kind, name, module, card)
