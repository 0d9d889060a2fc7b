"""musae's embedded generator under another name."""

from musae.card import GeneratorCard
from musae.generators.nano.adapter import Nano

CARD = GeneratorCard(
    name="nano_again",
    summary="nano under another name",
    licence="CC0-1.0",
    rate=16_000,
    frame_rate=25.0,
    codebooks=4,
    width=256,
    layers=6,
)


class NanoAgain(Nano):
    card = CARD


def load() -> NanoAgain:
    loaded = NanoAgain.shipped()
    assert isinstance(loaded, NanoAgain)
    return loaded
