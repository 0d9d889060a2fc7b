"""JSON in the form of a schema from a model that could not be trusted to write it: field by field.

What the schema leaves no choice about is written without asking. Where it names values (enum, const, boolean, a bounded number,
the branches of anyOf or oneOf, whether an array goes on) they are compared by their likelihood; free text is written token by
token, without the characters that JSON would have to escape. An answer fits its schema by construction, except for `pattern`
and `format`, which are not looked at.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from musae.errors import UserError
from musae.providers.provider import Sampling
from musae.providers.reader import Reader, State

Schema = Mapping[str, Any]
TEXT = 200
"""Characters of free text without a maxLength."""
VALUES = 101
"""A number is chosen among at most so many integers between its bounds, evenly spaced, or 11 other numbers."""


def write(reader: Reader, state: State, schema: Schema, sampling: Sampling) -> tuple[str, int]:
    """An object in the form of a schema, and how many tokens it has. `sampling.max_tokens` limits its free text.

    Required properties are written, in the schema's order; optional ones are left out.

    Raises UserError for a schema that cannot be written so: an array without maxItems, a number without bounds, allOf, not, if.
    """
    writer = _Writer(reader, state, sampling)
    _Walk(writer, schema).value(schema, "", "")
    return writer.text, len(reader.encode(writer.text))


class _Writer:
    """Text so far. The quote that ends a string is held back, since tokens join it to what follows."""

    def __init__(self, reader: Reader, state: State, sampling: Sampling) -> None:
        self.reader, self.state, self.sampling = reader, state, sampling
        self.generator = torch.Generator().manual_seed(sampling.seed)
        self.written = ""
        self.unread = ""
        self.held = ""
        self.left = sampling.max_tokens

    @property
    def text(self) -> str:
        """All that was written."""
        return self.written + self.held

    def put(self, text: str, held: str = "") -> None:
        """Write a text, and hold back what follows it."""
        self.written += self.held + text
        self.unread += self.held + text
        self.held = held

    def choose(self, options: Sequence[str]) -> int:
        """Which of the texts comes next; none of them is written."""
        if len(options) == 1:
            return 0
        self._read()
        return self._pick(torch.tensor(self.reader.likelihoods(self.state, [self.held + option for option in options])))

    def string(self, least: int, most: int) -> None:
        """Free text of so many characters, after its opening quote; the closing one is held back.

        At its limit it is cut before the word that would not end in time.
        """
        self._read()
        inside, ends = self.reader.text_tokens
        text = ""
        while self.left > 0:
            may = inside | ends if len(text) >= least else inside
            token = self._pick(self.state.log_p.masked_fill(~may, -torch.inf))
            piece = self.reader.tokenizer.decode([token])
            if ends[token]:
                break
            if len(text) + len(piece) > most:
                text = text[: text.rfind(" ")] if text.rfind(" ") >= max(least, 1) else text
                break
            self.left -= 1
            text += piece
            self.state = self.reader.advance(self.state, (token,))
        self.written += text
        self.held = '"'

    def _read(self) -> None:
        if self.unread:
            self.state = self.reader.advance(self.state, self.reader.encode(self.unread))
            self.unread = ""

    def _pick(self, log_p: torch.Tensor) -> int:
        """The likeliest, or a draw at the temperature (by the Gumbel trick)."""
        if self.sampling.temperature:
            uniform = torch.rand(log_p.shape, generator=self.generator).clamp_min(1e-20)
            log_p = log_p / self.sampling.temperature - (-uniform.log()).log()
        return int(log_p.argmax())


class _Walk:
    """Writes values in the form of schemas, all parts of one."""

    def __init__(self, writer: _Writer, root: Schema) -> None:
        self.writer, self.root = writer, root

    def value(self, schema: Schema, gap: str, after: str) -> None:
        """A value with the space before it; `after` is what is known to follow, which options are compared with."""
        schema = self._meant(schema)
        if (values := self._values(schema)) is not None:
            texts = [gap + _json(value) for value in values]
            self._named(texts, after)
        elif branches := self._branches(schema):
            leads = [self._lead(branch) for branch in branches]
            if any(not lead or other.startswith(lead) for lead, other in itertools.permutations(leads, 2)):
                raise _unwritable(schema, "give alternatives that begin differently, by a const, say")
            self.value(branches[self.writer.choose([gap + lead for lead in leads])], gap, after)
        elif schema.get("type") == "object":
            self._object(schema, gap)
        elif schema.get("type") == "array":
            self._array(schema, gap)
        elif schema.get("type") == "string":
            self.writer.put(f'{gap}"')
            self.writer.string(int(schema.get("minLength", 0)), int(schema.get("maxLength", TEXT)))
        else:
            raise _unwritable(schema, "give a type that is written here, or an enum")

    def _named(self, texts: Sequence[str], after: str) -> None:
        """One of some whole values; the opening quote, which strings share, is read before they are compared."""
        quoted = all(text.endswith('"') for text in texts)
        opening = texts[0][: texts[0].index('"') + 1] if quoted else ""
        if len(texts) > 1:
            self.writer.put(opening)
            texts = [text[len(opening) :] for text in texts]
        chosen = texts[self.writer.choose([text + after for text in texts])]
        self.writer.put(chosen.removesuffix('"'), '"' if chosen.endswith('"') else "")

    def _object(self, schema: Schema, gap: str) -> None:
        wanted = _required(schema)
        self.writer.put(gap + "{")
        for n, name in enumerate(wanted):
            last = n + 1 == len(wanted)
            self.writer.put(f"{', ' if n else ''}{_json(name)}:")
            self.value(schema["properties"][name], " ", "}" if last else ",")
        self.writer.put("}")

    def _array(self, schema: Schema, gap: str) -> None:
        items, most = self._meant(schema.get("items", {})), schema.get("maxItems")
        if most is None:
            raise _unwritable(schema, "give maxItems")
        left = self._values(items) if schema.get("uniqueItems") else None
        if schema.get("uniqueItems") and left is None:
            raise _unwritable(schema, "uniqueItems is written for an enum only")
        start_of_item = self._lead(items)[:1]
        least = int(schema.get("minItems", 0)) if start_of_item else 1
        self.writer.put(gap + "[")
        for n in range(int(most)):
            if left is not None and not left:
                break
            if n >= least and self.writer.choose(["]", "," if n else start_of_item]) == 0:
                break
            if n:
                self.writer.put(",")
            start = len(self.writer.text)
            self.value(items if left is None else {"enum": left}, " " if n else "", "")
            if left is not None:
                said = json.loads(self.writer.text[start:])
                left = [value for value in left if value != said]
        self.writer.put("]")

    def _meant(self, schema: Schema) -> Schema:
        """The schema that a reference within the whole one names. Raises UserError for what is not written here."""
        while "$ref" in schema:
            found: Any = self.root
            for part in str(schema["$ref"]).removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        for word in ("allOf", "not", "if", "patternProperties"):
            if word in schema:
                raise _unwritable(schema, f"{word} is not written here")
        return schema

    def _values(self, schema: Schema) -> list[Any] | None:
        """The values of a schema that names them; None where it does not."""
        if "const" in schema:
            return [schema["const"]]
        if "enum" in schema:
            return list(schema["enum"])
        if schema.get("type") == "boolean":
            return [True, False]
        if schema.get("type") == "null":
            return [None]
        if branches := self._branches(schema):
            found = [self._values(branch) for branch in branches]
            return None if None in found else [value for values in found for value in values or ()]
        return _numbers(schema) if schema.get("type") in ("integer", "number") else None

    def _branches(self, schema: Schema) -> list[Schema]:
        """The alternatives of anyOf, oneOf or a list of types."""
        if isinstance(schema.get("type"), list):
            return [{**schema, "type": name} for name in schema["type"]]
        return [self._meant(branch) for branch in schema.get("anyOf", schema.get("oneOf", ()))]

    def _lead(self, schema: Schema) -> str:
        """What a value begins with, as far as its schema leaves no choice."""
        schema = self._meant(schema)
        values = self._values(schema)
        if values is not None:
            return _json(values[0]) if len(values) == 1 else '"' if all(isinstance(value, str) for value in values) else ""
        if schema.get("type") == "object":
            wanted = _required(schema)
            return f"{{{_json(wanted[0])}: {self._lead(schema['properties'][wanted[0]])}" if wanted else "{}"
        return {"array": "[", "string": '"'}.get(str(schema.get("type")), "")


def _required(schema: Schema) -> list[str]:
    """Names of the required properties, in the order in which the schema describes them."""
    return [name for name in schema.get("properties", {}) if name in schema.get("required", ())]


def _numbers(schema: Schema) -> list[int | float]:
    """Numbers between the bounds of a schema."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None or high is None or not low <= high:
        raise _unwritable(schema, "give minimum and maximum")
    if schema["type"] == "integer":
        first, last = math.ceil(low), math.floor(high)
        return list(range(first, last + 1, max(1, math.ceil((last - first) / (VALUES - 1)))))
    return [round(low + (high - low) * n / 10, 6) for n in range(11)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _unwritable(schema: Schema, remedy: str) -> UserError:
    return UserError(f"the local model cannot answer in the form {json.dumps(schema)[:120]}: {remedy}.")
