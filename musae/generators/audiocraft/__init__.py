"""`audiocraft`: MusicGen and MAGNeT through audiocraft, from the hub or a folder.

``audiocraft:path/to/folder`` and ``audiocraft:owner/name[@revision]`` read the two files that audiocraft's models come in. MAGNeT
(Ziv et al. 2024, arXiv:2401.04577) is not autoregressive: its stream is that of one decoding step, stated at the end of the name,
``audiocraft:facebook/magnet-small-10secs#codebook=1,masked=0.5`` (the default): codebooks below are known, that share of it is
masked, codebooks above are masked whole. `package` imports audiocraft, `checkpoint` finds and reads, `model` builds, `codec` is
EnCodec, `adapter` is what `musicgen` and `magnet` have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from musae.card import GeneratorCard

if TYPE_CHECKING:
    from musae.generators.generator import Generator

CARD = GeneratorCard(
    name="audiocraft",
    summary="MusicGen or MAGNeT through audiocraft: audiocraft:FOLDER, audiocraft:HUB-ID[@REVISION][#codebook=1,masked=0.5].",
    licence="CC-BY-NC-4.0",
    rate=32_000,
    frame_rate=50.0,
    codebooks=4,
    width=1024,
    layers=24,
    argument="a folder with state_dict.bin and compression_state_dict.bin, or a hub id with @REVISION if need be",
)

DEFAULT = "facebook/musicgen-small"


def card(source: str) -> GeneratorCard:
    """The card of a checkpoint, from its configuration. Raises UserError where it is missing, damaged or of another model."""
    from musae.generators.audiocraft import checkpoint

    return checkpoint.Checkpoint.open(source).card


def load(
    source: str = DEFAULT,
    *,
    prompt: str | None = None,
    guidance: float = 1.0,
    text_encoder: str | None = None,
    device: str | None = None,
    dtype: Literal["float16", "bfloat16", "float32"] | None = None,
) -> Generator:
    """A checkpoint, by default on the first CUDA device in float16 (as audiocraft runs it), or on the CPU in float32.

    Args:
        prompt: a text that all clips are conditioned on; none by default, as in arXiv:2505.18186.
        guidance: the scale of classifier-free guidance in `generate`, which needs a prompt; MAGNeT lets it fall to 1 as masks are
            lifted.
        text_encoder: a folder or hub id of the T5 that encodes the prompt; by default the one that the configuration names.
        device, dtype: of the language model; the codec runs in float32.

    Raises UserError for what cannot be found or loaded, and for a device that is not there.
    """
    from musae.generators.audiocraft import adapter

    return adapter.load(source, prompt=prompt, guidance=guidance, text_encoder=text_encoder, device=device, dtype=dtype)
