"""Hyper-parameters by name, as command lines and sweep files give them: known names, and values of the constructor's types."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from musae.dictionary import FeatureSet
from musae.errors import UserError
from musae.recipe import Recipe
from musae.training import GradientMethod

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
"""What a type is called in errors."""


def types(method: type[FeatureSet]) -> dict[str, Any]:
    """Name -> type of all that a method's constructor takes, the options of `Recipe` included where it trains in steps."""
    found: dict[str, Any] = {}
    for cls in method.__mro__:
        if "__init__" not in vars(cls):
            continue
        constructor: Any = vars(cls)["__init__"]
        arguments = list(inspect.signature(constructor).parameters.values())[1:]
        hints = get_type_hints(constructor)
        named = [a.name for a in arguments if a.kind not in (a.VAR_KEYWORD, a.VAR_POSITIONAL)]
        found = {name: hints.get(name, Any) for name in named} | found
        if all(a.kind is not a.VAR_KEYWORD for a in arguments):
            break
    return found | (get_type_hints(Recipe) if issubclass(method, GradientMethod) else {})


def typed(method: type[FeatureSet], options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Options with their values converted to the constructor's types: ``"1e-3"`` to 0.001, ``"none"`` to None.

    `where`: what gave them, for the errors: UserError for a name that there is not (with the nearest), and for a value of another
    type. Whether a value makes sense is left to the constructor.
    """
    return _converted(types(method), options, method.name, where)


def loading(load: Callable[..., Any], options: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    """As `typed`, for the keyword-only arguments of a generator's ``load``; `name`: the generator's."""
    arguments = inspect.signature(load).parameters.values()

    def named() -> None: ...

    named.__annotations__ = {a.name: a.annotation for a in arguments if a.kind is a.KEYWORD_ONLY}  # others may lack their imports
    return _converted(get_type_hints(named, getattr(load, "__globals__", {})), options, name, where)


def _converted(known: Mapping[str, Any], options: Mapping[str, Any], owner: str, where: str) -> dict[str, Any]:
    place = f"{where}: " if where else ""
    values = {}
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}." if known else "it has none."
            raise UserError(f"{place}{owner} has no option named {name!r}; {hint}")
        try:
            values[name] = _convert(value, known[name])
        except ValidationError as error:
            raise UserError(f"{place}{owner}: {name} = {value!r} must be {_words(known[name])}; choose another.") from error
    return values


def assignments(settings: Sequence[str], option: str = "--set", example: str = "learning_rate=1e-3") -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping; the last one of a name counts. Raises UserError for a text of another form."""
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"{option} {setting!r}: write NAME=VALUE, as in {option} {example}.")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def _convert(value: Any, wanted: Any) -> Any:
    if isinstance(value, str):
        if value.lower() == "none" and type(None) in get_args(wanted):
            return None
        if _several(wanted):
            value = [part.strip() for part in value.strip("()[]").split(",") if part.strip()]
    return TypeAdapter(wanted).validate_python(value)


def _several(wanted: Any) -> bool:
    """Whether a type is a list or tuple of values."""
    origin = get_origin(wanted)
    return inspect.isclass(origin) and issubclass(origin, Sequence)


def _words(wanted: Any) -> str:
    if wanted in WORDS:
        return WORDS[wanted]
    inner = [argument for argument in get_args(wanted) if argument not in (type(None), ...)]
    if _several(wanted):
        return f"several, each {_words(inner[0])}" if inner else "several values"
    if inner and all(isinstance(argument, str) for argument in inner):
        return " or ".join(map(repr, inner))
    words = " or ".join(map(_words, inner)) or str(wanted)
    return f"{words}, or none" if type(None) in get_args(wanted) else words
