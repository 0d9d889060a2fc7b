"""`musicgen`: MusicGen (Copet et al. 2023, arXiv:2306.05284) through transformers, from the hub or a folder.

``musicgen`` alone is facebook/musicgen-small; ``musicgen:facebook/musicgen-large``, ``musicgen:path/to/folder`` are others, and
``musicgen:facebook/musicgen-large@<revision>`` pins one commit of the hub. Small, medium, large, melody and the stereo variants
of all of them are read. `checkpoint` finds and loads, `codec` is EnCodec, `adapter` the generator's contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from musae.card import GeneratorCard

if TYPE_CHECKING:
    from musae.generators.musicgen.adapter import MusicGen

CARD = GeneratorCard(
    name="musicgen",
    summary="MusicGen through transformers: facebook/musicgen-small, or musicgen:HUB-ID[@REVISION], musicgen:FOLDER.",
    licence="CC-BY-NC-4.0",
    rate=32_000,
    frame_rate=50.0,
    codebooks=4,
    width=1024,
    layers=24,
    argument="a hub id, with @REVISION if need be, or a folder that `save_pretrained` wrote",
)

DEFAULT = "facebook/musicgen-small"


def card(source: str) -> GeneratorCard:
    """The card of a checkpoint, from its configuration alone. Raises UserError where that is missing or no MusicGen's."""
    from musae.generators.musicgen import checkpoint

    return checkpoint.card_of(checkpoint.configuration(source), source)


def load(source: str = DEFAULT, *, prompt: str | None = None, guidance: float = 1.0) -> MusicGen:
    """A checkpoint, on the first CUDA device in float16 (as audiocraft runs it) or on the CPU in float32.

    `prompt`: a text that all clips are conditioned on; none by default, as in arXiv:2505.18186. `guidance`: the scale of
    classifier-free guidance in `generate`, which needs a prompt. Raises UserError for what cannot be found or loaded.
    """
    from musae.generators.musicgen.adapter import MusicGen

    return MusicGen.load(source, prompt=prompt, guidance=guidance)
