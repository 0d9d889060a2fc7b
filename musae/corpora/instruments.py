"""General MIDI programs and their families.

Programs are numbered from 0, as on the wire (0 = acoustic grand piano). The General MIDI level 1 sound set groups its 128
programs in 16 families of eight; drum kits (MIDI channel 10) are a family of their own here.
"""

from __future__ import annotations

from musae.errors import UserError

DRUMS = "drums"
"""Family of every drum kit."""

FAMILIES = (
    "piano",
    "chromatic percussion",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "synth lead",
    "synth pad",
    "synth effects",
    "ethnic",
    "percussive",
    "sound effects",
)
"""Family of programs 8 i to 8 i + 7, for i = 0 to 15."""


def family(program: int, *, drums: bool = False) -> str:
    """Family of a General MIDI program (0-127); `DRUMS` for a drum kit. Raises UserError when there is no such program."""
    if not 0 <= program < 128:
        raise UserError(f"there is no General MIDI program {program}; programs are numbered from 0 to 127.")
    return DRUMS if drums else FAMILIES[program // 8]
