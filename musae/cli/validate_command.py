"""`musae validate`: does a method, a task, a corpus, a generator, an estimator, a provider or a dictionary keep its contract?"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from musae import registry
from musae.errors import UserError

if TYPE_CHECKING:
    from musae.conformance import Check
    from musae.dictionary import Dictionary, FeatureSet

LOADED = ("corpora", "generators", "estimators", "providers", "explainers")
PROVIDES = {"methods": "METHOD", "tasks": "score"} | dict.fromkeys(LOADED, "load")
"""Kind -> what a module of it must have, beside its CARD."""


@dataclass(frozen=True)
class Subject:
    """What is validated."""

    title: str
    kind: str
    """A kind of the registry, or ``dictionary`` for a fitted one."""
    target: Any
    """A module; of `methods` also a `FeatureSet` or its class; of `dictionary` a `Dictionary`."""
    entry: registry.Entry | None = None
    """Its place in the registry, where it has none yet: saved dictionaries are loaded by their method's name."""


@click.command("validate")
@click.argument("what")
@click.option("--kind", type=click.Choice(list(PROVIDES)), default=None, help="What a name is of, where several kinds have it.")
def command(what: str, kind: str | None) -> None:
    """Run the conformance suite on WHAT, one line a check.

    WHAT is a name (of a plug-in: `package/name`), `module:attribute`, a .py file, or a fitted dictionary: a saved file, or a
    checkpoint of another library. A .py file and a module need not be installed; the present folder is searched for modules.
    A corpus is tried on all its tracks, which may take a minute.

    \b
    Examples:
      musae validate topk
      musae validate their-package/their_method
      musae validate my_module:MyMethod
      musae validate tasks/mine.py
      musae validate runs/mine.safetensors

    Exit codes: 0 it keeps its contract, 1 it does not, 2 WHAT cannot be found or read.
    """
    subject = _subject(what, kind)
    click.secho(subject.title, bold=True)
    with ExitStack() as stack:
        if subject.entry is not None:
            stack.enter_context(registry.provided(subject.entry))
        checks = list(_checks(subject))
        done, failed = report(checks)
    left = len(checks) - done
    if failed:
        click.echo(
            f"{done} checks, {failed} failed: the contract is broken"
            + (f"; {left} more need the one that failed, and were not run." if left else ".")
        )
        sys.exit(1)
    click.echo(f"{done} checks, all passed.")


def report(checks: Sequence[Check]) -> tuple[int, int]:
    """Run checks and print a line for each; the one that runs is shown on a terminal. Returns how many ran, and failed."""
    failed = 0
    widest = max(len(check.name) for check in checks)
    for done, check in enumerate(checks, start=1):
        if sys.stderr.isatty():
            click.echo(f"  ...     {check.name:<{widest}}\r", nl=False, err=True)
        problem = check.problem()
        if not problem:
            click.echo(f"  {click.style('ok', fg='green')}      {check.name}")
            continue
        failed += 1
        click.echo(f"  {click.style('failed', fg='red')}  {check.name}: {problem}")
        if check.vital:
            return done, failed
    return len(checks), failed


def _checks(subject: Subject) -> Iterator[Check]:
    """The conformance suite of a subject."""
    from musae.conformance import Check

    target = subject.target
    if subject.kind == "dictionary":
        from musae.testing import frozen_checks

        yield from frozen_checks(target)
        return
    if not isinstance(target, ModuleType):
        from musae.testing import method_checks

        yield from method_checks(target)
        return
    wanted = PROVIDES[subject.kind]
    yield Check(f"the module has CARD and {wanted}", lambda: _check_module(target, wanted), vital=True)
    if not hasattr(target, wanted) or not hasattr(target, "CARD"):
        return
    if subject.kind == "methods":
        from musae.testing import check_card, check_seed, method_checks

        yield Check("the card agrees with the class", lambda: check_card(target), vital=True)
        if target.CARD.fitted and isinstance(target.METHOD, type):
            yield from method_checks(target.METHOD)
            yield Check("seeds matter where the card says", lambda: check_seed(target))
    elif subject.kind == "tasks":
        from musae.testing_tasks import task_checks

        yield from task_checks(target)
    elif subject.kind == "corpora":
        from musae.testing_corpora import corpus_checks

        yield from corpus_checks(target)
    elif subject.kind == "estimators":
        from musae.testing_estimators import estimator_checks

        yield from estimator_checks(target)
    elif subject.kind == "explainers":
        from musae.testing_explainers import explainer_checks

        yield from explainer_checks(target)
    elif subject.kind == "providers":
        from musae.testing_providers import provider_checks

        yield from provider_checks(target)
    else:
        from musae.testing_generators import generator_checks

        yield from generator_checks(target)


def _check_module(module: ModuleType, wanted: str) -> None:
    for name in ("CARD", wanted):
        assert hasattr(module, name), f"{module.__name__} has no {name}"


def _subject(what: str, kind: str | None) -> Subject:
    """Find what is meant. Raises UserError, which suggests the nearest name, for what is not found or cannot be read."""
    path = Path(what)
    if path.suffix == ".py":
        return _file(path, kind)
    if path.exists() or path.suffix in (".safetensors", ".npz", ".pt"):
        from musae.formats.recognise import read

        dictionary: Dictionary = read(path)
        return Subject(f"dictionary {what} ({dictionary.name}, {dictionary.content_hash})", "dictionary", dictionary)
    if ":" in what:
        return _attribute(what, kind)
    return _registered(what, kind)


def _registered(name: str, kind: str | None) -> Subject:
    """A member of the registry."""
    members = {k: registry.entries(k) for k in ([kind] if kind else PROVIDES)}
    having = [k for k, known in members.items() if name in known or any(full.endswith(f"/{name}") for full in known)]
    if len(having) > 1:
        raise UserError(f"{name!r} may be of {' or '.join(having)}; say which with --kind.")
    if not having:
        every = [full for known in members.values() for full in known]
        near = difflib.get_close_matches(name, every, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "give a name of `musae list`, module:attribute, or a file."
        raise UserError(f"nothing is named {name!r}; {hint}")
    entry = registry.find(having[0], name)
    return Subject(f"{entry.kind} {entry.name}", entry.kind, entry.load())


def _file(path: Path, kind: str | None) -> Subject:
    """A file of one's own, which need not be installed."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file with a CARD.")
    cards = {k: registry.read_card(path, registry.KINDS[k][1]) for k in ([kind] if kind else PROVIDES)}
    found = [(k, card) for k, card in cards.items() if card is not None]
    if not found:
        names = " or ".join(f"{registry.KINDS[k][1]}(...)" for k in cards)
        raise UserError(f"{path}: it declares no CARD = {names} at its top level; see `musae new --help`.")
    [(kind, card)] = found
    name = f"_validated_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: importing it raised {type(error).__name__}: {error}; repair it.") from error
    return Subject(f"{kind} {card.name} ({path})", kind, module, registry.Entry(kind, card.name, name, card))


def _attribute(what: str, kind: str | None) -> Subject:
    """``module:attribute``: a method's class or instance, or what a module with a CARD provides."""
    from musae.dictionary import Dictionary, FeatureSet

    name, _, attribute = what.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise UserError(f"{what}: importing {name!r} raised {type(error).__name__}: {error}; give module:attribute.") from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "; give one that it has."
        raise UserError(f"{what}: the module {name!r} has no attribute {attribute!r}{hint}")
    found = getattr(module, attribute)
    card = getattr(module, "CARD", None)
    if isinstance(found, FeatureSet) or (isinstance(found, type) and issubclass(found, FeatureSet)):
        if kind not in (None, "methods"):
            raise UserError(f"{what} is a method, not one of {kind}; leave out --kind.")
        fitted = isinstance(found, Dictionary) and bool(found.tensors)
        same = getattr(module, "METHOD", None) is found and card is not None
        target = module if same else found
        return Subject(f"methods {what}", "dictionary" if fitted else "methods", target, _entry(found))
    kinds = {card_name: k for k, (_, card_name) in registry.KINDS.items() if k in PROVIDES}
    of_card = kinds.get(type(card).__name__)
    if card is None or of_card is None or kind not in (None, of_card):
        raise UserError(
            f"{what} is no FeatureSet, and {name!r} declares no CARD = {' or '.join(f'{c}(...)' for c in kinds)}; "
            f"name a method's class, or what a module with a CARD provides."
        )
    return Subject(f"{of_card} {what}", of_card, module, registry.Entry(of_card, card.name, name, card))


def _entry(found: FeatureSet | type[FeatureSet]) -> registry.Entry | None:
    """The place in the registry of a class whose module may not be in it: a module with just that class."""
    cls = found if isinstance(found, type) else type(found)
    if not hasattr(cls, "name"):
        return None
    module = ModuleType(f"_validated_{cls.__name__}")
    vars(module)["METHOD"] = cls
    sys.modules[module.__name__] = module
    return registry.Entry("methods", cls.name, module.__name__, None)
