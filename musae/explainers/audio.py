"""A multimodal model that hears the strongest excerpts, as in the paper (which asks Gemini 1.5 Flash; arXiv 2505.18186).

``audio:PROVIDER``, as ``audio:endpoint:https://.../v1#model``: a chat model that takes audio in OpenAI's form. It is sent the
strongest excerpts of a latent and as many silent ones, as mono WAV, in one message, and answers in the form of `Label`. No
metadata of clips are sent.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import soundfile
from numpy.typing import NDArray

from musae import registry
from musae.card import ExplainerCard
from musae.corpora.track import Clip as Window
from musae.corpora.track import Corpus
from musae.errors import UserError
from musae.explainers.chat import Chat, explanation
from musae.explainers.explainer import Case, Explanation
from musae.labels import prompts
from musae.labels.claims import answer_schema
from musae.labels.evidence import Evidence, Example
from musae.providers.provider import Clip, Message, Request, Sampling

CARD = ExplainerCard(
    name="audio",
    summary="a multimodal chat model that hears the strongest excerpts: audio:PROVIDER",
    reads="audio",
    argument="a provider that takes audio, as endpoint:URL#MODEL",
)

PROMPT = ("listen", 1)

RATE = 16_000
"""Hz of what is sent: what the encoders of such models hear."""

EXCERPTS = 5
"""Of each kind: half the paper's ten exemplars, and as many silent ones, which it does not show."""


class Audio(Chat):
    """A provider that hears, with the prompt."""

    @property
    def revision(self) -> str:
        provider = self.client.provider
        return f"{prompts.read(*PROMPT).tag} {provider.model} {provider.revision}"

    def requests(self, shown: Sequence[Evidence], case: Case) -> list[Request]:
        prompt, requests = prompts.read(*PROMPT), []
        for one in shown:
            active, silent = one.top[:EXCERPTS], one.random[:EXCERPTS]
            clips = iter(_wavs((*active, *silent), case))
            parts: list[str | Clip] = []
            for name, places in (("active", active), ("silent", silent)):
                for place in places:
                    parts += [f"{name}, {place.end - place.start:.1f} s:", next(clips)]
            system, user = prompt.messages()
            message = Message("user", (*parts, *user.parts))
            requests.append(Request((system, message), prompt.tag, answer_schema(), sampling=Sampling(max_tokens=512)))
        return requests

    def ask(self, shown: Sequence[Evidence], case: Case) -> list[Explanation]:
        return [explanation(answer) for answer in self.client.complete(self.requests(shown, case))]


def _wavs(places: Sequence[Example], case: Case) -> list[Clip]:
    """The excerpts as WAV files."""
    corpus: Corpus = registry.make("corpora", case.data.corpus)
    windows = [_window(case.data.clips[place.clip], place) for place in places]
    return [Clip(_wav(audio)) for audio in corpus.audio(windows, RATE)]


def _window(clip: Window, place: Example) -> Window:
    return replace(clip, start=clip.start + place.start, duration=place.end - place.start)


def _wav(audio: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def card(argument: str) -> ExplainerCard:
    """The card of a provider's labels."""
    return CARD.model_copy(update={"name": f"audio:{argument}"})


def load(argument: str = "") -> Audio:
    """The explainer. Raises UserError without a provider, and for one that hears no audio."""
    if not argument:
        raise UserError(f"explainer audio: it names no provider; give {CARD.argument}, after a colon.")
    found = registry.find("providers", argument).load()
    takes = inspect.signature(found.load).parameters
    provider = registry.make("providers", argument, {"audio": True} if "audio" in takes else None)
    if not provider.hears:
        raise UserError(f"explainer audio:{argument}: that provider hears no audio; name one that does, or use text:{argument}.")
    return Audio(provider, card(argument))
