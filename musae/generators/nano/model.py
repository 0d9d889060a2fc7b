"""The weights of `nano`: the architecture from transformers, how it starts, its file. `musae.generators.decoder` runs it.

The decoder's cross-attention is skipped without text states: its weights, a quarter of a block's, are neither trained nor kept.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import MusicgenForCausalLM
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from musae.errors import UserError
from musae.files import atomic_path
from musae.generators.nano.codec import read


def build(
    *,
    width: int = 256,
    layers: int = 6,
    heads: int = 4,
    codebooks: int = 4,
    codewords: int = 512,
    positions: int = 1024,
    seed: int = 0,
) -> MusicgenForCausalLM:
    """A randomly initialised model, in evaluation mode; the default is the shipped architecture (4.8 M weights in use).

    Embeddings have standard deviation 0.3: the usual 0.02 would drown under sinusoidal positions of about 0.7.
    """
    config = MusicgenDecoderConfig(
        vocab_size=codewords,
        max_position_embeddings=positions,
        num_hidden_layers=layers,
        ffn_dim=4 * width,
        num_attention_heads=heads,
        hidden_size=width,
        num_codebooks=codebooks,
        layerdrop=0.0,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        use_cache=False,
        pad_token_id=codewords,
        bos_token_id=codewords,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MusicgenForCausalLM(config)
        for embedding in model.model.decoder.embed_tokens:
            torch.nn.init.normal_(embedding.weight, std=0.3)
    return model.eval()


def weights(model: MusicgenForCausalLM) -> dict[str, torch.nn.Parameter]:
    """The parameters in use, by name: all but the cross-attention's."""
    return {name: parameter for name, parameter in model.named_parameters() if ".encoder_attn" not in name}


def save(model: MusicgenForCausalLM, path: Path) -> None:
    """Write the weights in use as float16 safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({name: w.detach().half().contiguous() for name, w in weights(model).items()}, temporary)


def load(path: Path, **shape: int) -> MusicgenForCausalLM:
    """Read what `save` wrote into a float32 model built with `shape`.

    Raises UserError when it is missing, damaged or does not fit.
    """
    model = build(**shape)
    try:
        missing, unexpected = model.load_state_dict({k: v.float() for k, v in read(path).items()}, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"{path}: these weights are of another architecture; train them anew with `musae pretrain nano`."
        ) from error
    if unexpected or any(".encoder_attn" not in name for name in missing):
        raise UserError(f"{path}: these weights are of another architecture; train them anew with `musae pretrain nano`.")
    return model
