"""`nano`: a small MusicGen-style model over a light codec, embedded in the package so that nothing need be downloaded.

`codec` (audio <-> codes), `model` (architecture, delay), `adapter` (the generator's contract), `data` and `pretrain` (how it was
made). ``card.json`` beside this file says what the weights were trained on and how well they predict.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from musae.card import GeneratorCard

if TYPE_CHECKING:
    from musae.activations.tokens import Tokens
    from musae.generators.nano.adapter import Nano

CARD = GeneratorCard(
    name="nano",
    summary="MusicGen's architecture, small (6 blocks, width 256, 25 Hz), of procedural music and chorales; ships with musae.",
    licence="CC0-1.0",
    rate=16_000,
    frame_rate=25.0,
    codebooks=4,
    width=256,
    layers=6,
)


def load() -> Nano:
    """The shipped generator. Raises UserError when its weights are missing."""
    from musae.generators.nano.adapter import Nano

    return Nano.shipped()


def training_tokens() -> Tokens:
    """The shipped codes of training pieces, in random order. Raises UserError when they are missing."""
    from musae.activations.tokens import Tokens

    return Tokens.load_packed(Path(__file__).with_name("training_codes.npz"))
