"""`musicgen`: MusicGen (Copet et al. 2023, arXiv:2306.05284) through transformers, from the hub or a folder.

``musicgen`` alone is facebook/musicgen-small; ``musicgen:facebook/musicgen-large``, ``musicgen:path/to/folder`` are others, and
``musicgen:facebook/musicgen-large@<revision>`` pins one commit of the hub. Small, medium, large, melody and the stereo variants
of all of them are read. `checkpoint` finds and loads, `codec` is EnCodec, `adapter` the generator's contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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

PUBLISHED = {"small": (1024, 24), "medium": (1536, 48), "large": (2048, 48), "melody": (1536, 48), "melody-large": (2048, 48)}
"""Width and blocks of facebook/musicgen-*, and of facebook/musicgen-stereo-*, which have twice as many codebooks."""


def card(source: str) -> GeneratorCard:
    """The card of a checkpoint, from its configuration alone; of facebook's own, without asking the hub.

    Raises UserError where the configuration is missing, or no MusicGen's.
    """
    place, _, _ = source.partition("@")
    size = place.removeprefix("facebook/musicgen-").removeprefix("stereo-")
    if place.startswith("facebook/musicgen-") and size in PUBLISHED:
        width, layers = PUBLISHED[size]
        found = {
            "name": place.removeprefix("facebook/"),
            "summary": f"MusicGen of {layers} blocks, width {width}, through transformers.",
            "codebooks": 8 if "-stereo-" in place else 4,
            "width": width,
            "layers": layers,
            "argument": "",
        }
        return CARD.model_copy(update=found)
    from musae.generators.musicgen import checkpoint

    return checkpoint.card_of(checkpoint.configuration(source), source)


def load(
    source: str = DEFAULT,
    *,
    prompt: str | None = None,
    guidance: float = 1.0,
    device: str | None = None,
    dtype: Literal["float16", "bfloat16", "float32"] | None = None,
    compile: bool = False,
) -> MusicGen:
    """A checkpoint, by default on the first CUDA device in float16 (as audiocraft runs it), or on the CPU in float32.

    Args:
        prompt: a text that all clips are conditioned on; none by default, as in arXiv:2505.18186.
        guidance: the scale of classifier-free guidance in `generate`, which needs a prompt.
        device, dtype: of the decoder; EnCodec runs in float32.
        compile: compile the blocks (`torch.compile`). On a CPU it gained nothing (blocks of musicgen-small, 2 cores: 2.8 to 4.4 s
            a batch against 2.9 to 3.3 s, after half a minute of compilation), and on GPUs it is not measured: hence off.

    Raises UserError for what cannot be found or loaded, and for a device that is not there.
    """
    from musae.generators.musicgen.adapter import MusicGen

    return MusicGen.load(source, prompt=prompt, guidance=guidance, device=device, dtype=dtype, compile=compile)
