"""The architecture of `nano`: MusicGen's decoder (arXiv:2306.05284) from transformers, its delay pattern, its loss, its file.

Delay. Codes are ``[n, K, T]``. The model's input has T + 1 positions: at position p, codebook j (from 0) reads
``codes[:, j, p - 1 - j]``, or the padding token (= the vocabulary's size) where that lies before the clip. Position p predicts
``codes[:, j, p - j]``. So position f + 1 has just read codebook 0 of frame f and codebook j of frame f - j: it is row f of the
stream that adapters hand out. transformers applies the same pattern in `generate` only (`build_delay_pattern_mask`), and pads
a clip's tail where we stop.

The decoder's cross-attention is skipped without text states: its weights, a quarter of a block's, are neither trained nor kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import MusicgenForCausalLM
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from musae.errors import UserError
from musae.files import atomic_path
from musae.generators.nano.codec import read

IGNORE = -100
"""Target where a position predicts a frame outside the clip."""


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


def delay(codes: Tensor, pad: int) -> Tensor:
    """The model's input for codes ``[n, K, T]`` -> ``[n, K, T + 1]``."""
    n, codebooks, frames = codes.shape
    inputs = codes.new_full((n, codebooks, frames + 1), pad)
    for j in range(codebooks):
        inputs[:, j, 1 + j :] = codes[:, j, : max(frames - j, 0)]
    return inputs


def targets(codes: Tensor) -> Tensor:
    """What each of the T + 1 positions is to predict ``[n, K, T + 1]``; `IGNORE` outside the clip."""
    n, codebooks, frames = codes.shape
    wanted = codes.new_full((n, codebooks, frames + 1), IGNORE)
    for j in range(codebooks):
        wanted[:, j, j : j + frames] = codes[:, j, : min(frames, frames + 1 - j)]
    return wanted


def cross_entropy(model: MusicgenForCausalLM, stream: Tensor, wanted: Tensor) -> Tensor:
    """Nats per clip and codebook ``[n, K]`` from the last block's stream ``[n, P, d]`` and targets ``[n, K, P]``."""
    hidden = model.model.decoder.layer_norm(stream)
    losses = []
    for j, head in enumerate(model.lm_heads):
        logits, goal = head(hidden).float().flatten(0, 1), wanted[:, j]
        nats = torch.nn.functional.cross_entropy(logits, goal.flatten(), ignore_index=IGNORE, reduction="none")
        losses.append(nats.view(goal.shape).sum(1) / (goal != IGNORE).sum(1))
    return torch.stack(losses, dim=1)


def embed(model: MusicgenForCausalLM, inputs: Tensor, past: int = 0) -> Tensor:
    """Stream at layer 0 ``[n, P, d]`` for delayed inputs ``[n, K, P]`` that follow `past` positions."""
    decoder = model.model.decoder
    stream: Tensor = decoder.embed_positions(inputs, past) + sum(
        embedding(inputs[:, j]) for j, embedding in enumerate(decoder.embed_tokens)
    )
    return stream


def run_block(model: MusicgenForCausalLM, index: int, stream: Tensor, *, cache: Any = None, mask: Tensor | None = None) -> Tensor:
    """Stream after block `index` (from 0) ``[n, P, d]``.

    Scaled-dot-product attention is causal by itself; with a cache, `stream` holds one position that follows the cached ones (or
    all of the first ones). Training asks transformers for its plain ("eager") attention, whose backward pass is twice as fast on
    CPUs, and must give `causal_mask`.
    """
    output = model.model.decoder.layers[index](stream, mask, past_key_values=cache)
    after: Tensor = output[0] if isinstance(output, tuple) else output  # older transformers return a tuple
    return after


def causal_mask(positions: int, dtype: torch.dtype) -> Tensor:
    """Additive mask ``[1, 1, P, P]``: minus infinity above the diagonal."""
    return torch.full((positions, positions), -torch.inf, dtype=dtype).triu(1)[None, None]


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
