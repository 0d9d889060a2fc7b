"""JSON out of a model's text, and whether it fits a schema: checked here, whatever an endpoint promises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jsonschema

from musae.errors import UserError

LONGEST = 300
"""Characters of a problem: it is sent to a model and stands in a table."""


def check_schema(schema: Mapping[str, Any], name: str) -> None:
    """Raise UserError for what is no JSON Schema (draft 2020-12) of an object; `name` says whose it is."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise UserError(f"schema of {name}: {_at(error)}{error.message[:LONGEST]}; correct it.") from error
    if schema.get("type") != "object":
        raise UserError(f"schema of {name}: its type is {schema.get('type')!r}; give that of an object.")


def problem(value: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with a value, and where in it; empty where it fits."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    return "" if error is None else f"{_at(error)}{error.message[:LONGEST]}"


def parse(text: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The first JSON object in a text that fits the schema, and ""; or None, and what is wrong with the first object.

    Prose and code fences around it are passed over.
    """
    first = ""
    for value in objects(text):
        if not (wrong := problem(value, schema)):
            return value, ""
        first = first or wrong
    return None, first or ("the answer is empty" if not text.strip() else "no complete JSON object in the answer")


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, in order, none inside another; NaN and infinities, which JSON has not, are not taken."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _at(error: Any) -> str:
    path = ".".join(map(str, error.absolute_path))
    return f"{path}: " if path else ""
