"""A causal language model that reads a prompt in pieces, and tells how likely continuations are.

What it has read is a `State` that is never changed, so that many questions continue one state. Pieces are whole messages, always:
the same prompt is read in the same steps whatever was kept of the one before, and gives the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musae import checkpoints
from musae.errors import UserError
from musae.providers.provider import Message

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class State:
    """What was read so far."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values of each layer, ``[1, heads, tokens, d]``."""
    log_p: Tensor
    """Log-probability of each token that may come next, ``[vocabulary]``."""

    @property
    def length(self) -> int:
        """Tokens read."""
        return int(self.layers[0][0].shape[2]) if self.layers else 0


NOTHING = State((), torch.empty(0))


class Reader:
    """A causal language model of transformers, and its tokenizer with a chat form."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.tokenizer, self.model = tokenizer, model.eval().requires_grad_(False)
        self.context = int(model.config.max_position_embeddings)
        self._kept: list[tuple[Tokens, State]] = []

    @classmethod
    def from_gguf(cls, path: Path) -> Reader:
        """What a GGUF file holds, in float32. Raises UserError for a file that transformers cannot read."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            with warnings.catch_warnings(), checkpoints.quiet(), redirect_stderr(StringIO()):  # a bar of tqdm's own
                warnings.simplefilter("ignore")
                tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
                model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        except (ValueError, OSError, KeyError, NotImplementedError) as error:
            raise UserError(
                f"{path}: transformers cannot read it ({error}); give a GGUF file of a family that it knows."
            ) from error
        return cls(tokenizer, model)

    def encode(self, text: str) -> Tokens:
        """Tokens of a text, none added."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def prompt(self, messages: Sequence[Message]) -> list[Tokens]:
        """Tokens of each message in the model's own chat form, the last up to where the assistant begins.

        The marks of that form are taken out of what messages say.
        """
        turns = [{"role": message.role, "content": self._plain(message.text)} for message in messages]
        texts = [self._form(turns[: n + 1], n + 1 == len(turns)) for n in range(len(turns))]
        starts = ["", *texts[:-1]]
        if not all(text.startswith(start) for start, text in zip(starts, texts, strict=True)):  # a form that looks ahead
            return [self.encode(texts[-1])]
        return [self.encode(text[len(start) :]) for start, text in zip(starts, texts, strict=True)]

    def read(self, prompt: Sequence[Tokens]) -> State:
        """The state after the pieces of a prompt; those that the prompt before it began with are not read again."""
        same = 0
        while same < min(len(prompt), len(self._kept)) and self._kept[same][0] == prompt[same]:
            same += 1
        del self._kept[same:]
        for piece in prompt[same:]:
            self._kept.append((piece, self.advance(self._kept[-1][1] if self._kept else NOTHING, piece)))
        return self._kept[-1][1]

    @torch.inference_mode()
    def advance(self, state: State, tokens: Tokens) -> State:
        """The state after further tokens, at least one."""
        past = _cache(state)
        out = self.model(input_ids=torch.tensor([tokens]), past_key_values=past, use_cache=True, logits_to_keep=1)
        layers = tuple((layer.keys, layer.values) for layer in past.layers)
        return State(layers, out.logits[0, -1].float().log_softmax(-1))

    @torch.inference_mode()
    def likelihoods(self, state: State, options: Sequence[str]) -> list[float]:
        """Natural log-probability of each option as what comes next.

        Options of several tokens are read at once, as a tree in one row: each token sees the state and its own ancestors, and
        beginnings that options share are read once.
        """
        coded = [self.encode(option) for option in options]
        nodes: dict[Tokens, int] = {}
        for tokens in coded:
            for m in range(1, len(tokens)):
                nodes.setdefault(tokens[:m], len(nodes))
        found = [float(state.log_p[tokens[0]]) for tokens in coded]
        if not nodes:
            return found
        sees = torch.zeros(len(nodes), state.length + len(nodes), dtype=torch.bool)
        sees[:, : state.length] = True
        for path, n in nodes.items():
            sees[n, [state.length + nodes[path[:m]] for m in range(1, len(path) + 1)]] = True
        logits = self.model(
            input_ids=torch.tensor([[path[-1] for path in nodes]]),
            attention_mask=torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)[None, None],
            position_ids=torch.tensor([[state.length + len(path) - 1 for path in nodes]]),
            past_key_values=_cache(state),
            use_cache=True,
        ).logits[0]
        log_p = logits.float().log_softmax(-1)
        return [
            first + sum(float(log_p[nodes[tokens[:m]], tokens[m]]) for m in range(1, len(tokens)))
            for first, tokens in zip(found, coded, strict=True)
        ]

    @cached_property
    def text_tokens(self) -> tuple[Tensor, Tensor]:
        """Which tokens ``[vocabulary]`` may stand inside a JSON string, and which begin with the quote that ends it."""
        special = set(self.tokenizer.all_special_ids)
        size = int(self.model.config.vocab_size)
        texts = [self.tokenizer.decode([token]) for token in range(min(size, len(self.tokenizer)))]
        inside, ends = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        for token, text in enumerate(texts):
            whole = bool(text) and token not in special and text.isprintable() and "\ufffd" not in text
            inside[token] = whole and '"' not in text and "\\" not in text
            ends[token] = whole and text.startswith('"')
        return inside, ends

    def _plain(self, text: str) -> str:
        for mark in self.tokenizer.all_special_tokens:
            text = text.replace(mark, "")
        return text

    def _form(self, turns: list[dict[str, str]], last: bool) -> str:
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=last))


def _cache(state: State) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for n, (keys, values) in enumerate(state.layers):
        cache.update(keys, values, n)
    return cache
