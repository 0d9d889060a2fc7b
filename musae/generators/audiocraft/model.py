"""audiocraft's language model: how it is built from a checkpoint, embeds codes, runs a block, and is told of a text.

Attention runs without xformers: by torch's scaled dot product, audiocraft's default, where a model is causal, and by audiocraft's
plain one where it is not. Texts reach the blocks by cross-attention. Without one, blocks attend to a state of zeros: what
audiocraft makes of an empty text, which it masks.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.generators.audiocraft.checkpoint import LANGUAGE_MODEL, Checkpoint, reason
from musae.generators.audiocraft.package import audiocraft

CONDITIONER = "condition_provider.conditioners."
"""How the names of a conditioner's tensors begin."""


def text_condition(checkpoint: Checkpoint) -> str | None:
    """The name of the text condition that blocks attend to; None where there is none.

    Raises UserError where there are others: what stands for "nothing" would have to be computed from a melody or by CLAP.
    """
    conditioners = checkpoint.config.get("conditioners") or {}
    kinds = {str(name): conditioner.get("model") for name, conditioner in conditioners.items() if name != "args"}
    fused = [str(name) for name in checkpoint.config.fuser.cross]
    if "chroma_stem" in kinds.values():
        raise UserError(
            f"{checkpoint.name}: conditions on a melody (chroma), which needs torchaudio and demucs and is not available here; "
            f"read it through transformers instead, as musicgen:facebook/musicgen-melody."
        )
    if fused != list(kinds) or len(kinds) > 1 or not set(kinds.values()) <= {"t5", "lut"}:
        found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "nothing that it names"
        raise UserError(
            f"{checkpoint.name}: conditions on {found}, and this generator reads models with no condition, or one text that "
            f"blocks attend to; choose another checkpoint."
        )
    return next(iter(kinds), None)


def build(checkpoint: Checkpoint, *, initialise: bool) -> Any:
    """An `LMModel` or `MagnetLMModel` with random weights, float32 on the CPU, in evaluation mode; it holds no text encoder.

    `initialise`: as training began, rather than only to be overwritten. Raises UserError where the configuration does not do.
    """
    builders = audiocraft().models.builders
    omegaconf = importlib.import_module("omegaconf")
    text_condition(checkpoint)
    config = checkpoint.config.copy()
    config.device, config.dtype, config.conditioners = "cpu", "float32", {}
    shape = config.transformer_lm
    sparing = shape.get("memory_efficient") and shape.get("causal")
    shape.custom = bool(shape.get("custom") or shape.get("memory_efficient"))  # the same tensors, by the same names
    shape.memory_efficient, shape.checkpointing = False, "none"
    if not initialise:
        shape.weight_init, shape.depthwise_init, shape.zero_bias_init = None, None, False
    if config.lm_model == "transformer_lm_magnet":  # its masks are made where they are needed, for the length at hand
        shape.compression_model_framerate, shape.segment_duration, shape.span_len = 1, 1, config.masking.span_len
    else:
        for name in ("compression_model_framerate", "segment_duration", "span_len", "subcodes_context"):
            shape.pop(name, None)
    try:
        network = builders.get_lm_model(config).eval()
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, omegaconf.errors.OmegaConfBaseException) as error:
        raise UserError(
            f"{checkpoint.folder / LANGUAGE_MODEL}: audiocraft cannot build a model from its configuration ({error!r}); choose "
            f"another checkpoint."
        ) from error
    if sparing:
        _use_scaled_dot_product(network)
    return network


def _use_scaled_dot_product(network: Any) -> None:
    """What ``memory_efficient`` stands for in audiocraft, with its ``torch`` backend.

    It asks xformers for a causal mask there, of which it only looks whether there is one: for a single position there is none.
    """
    for block in network.transformer.layers:
        block.self_attn._get_mask = lambda positions, *_: None if positions == 1 else True
        for attention in filter(None, (block.self_attn, block.cross_attention)):
            attention.memory_efficient = True


def load(checkpoint: Checkpoint) -> Any:
    """The model with the checkpoint's weights. Raises UserError where tensors are missing, superfluous or of another shape."""
    with torch.random.fork_rng(devices=[]):
        network = build(checkpoint, initialise=False)
    state = {name: value for name, value in checkpoint.language_model["best_state"].items() if not name.startswith(CONDITIONER)}
    fill(network, state, f"{checkpoint.folder / LANGUAGE_MODEL}")
    return network


def fill(network: Any, state: Mapping[str, Tensor], where: str) -> None:
    """Load a state dictionary, all of it. Raises UserError, naming the file and a tensor, where it does not fit."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0] or reason(error)  # torch's headline names no tensor
        raise UserError(f"{where}: its tensors are not those of its configuration ({first[:200]}); download it again.") from error


def projection(checkpoint: Checkpoint, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias that map the text encoder's states to the decoder's width. Raises UserError where there is more."""
    state = checkpoint.language_model["best_state"]
    found = {key for key in state if key.startswith(f"{CONDITIONER}{name}.")}
    weight, bias = (f"{CONDITIONER}{name}.output_proj.{part}" for part in ("weight", "bias"))
    if found != {weight, bias}:
        raise UserError(
            f"{checkpoint.folder / LANGUAGE_MODEL}: a prompt needs output_proj of {name} and nothing else, and there are "
            f"{len(found)} tensors: its text encoder was trained along, which this generator does not read. Give no prompt."
        )
    return state[weight].float(), state[bias].float()


def delays(network: Any, name: str, *, start: bool) -> list[int]:
    """By how many positions each codebook is delayed, after a position of padding where `start`.

    Raises UserError for another pattern; without a start, for any delay.
    """
    provider = network.pattern_provider
    plain = isinstance(provider, audiocraft().modules.codebooks_patterns.DelayedPatternProvider) and not provider.flatten_first
    if not plain or (provider.empty_initial if start else provider.empty_initial >= 0 or any(provider.delays)):
        raise UserError(
            f"{name}: its codebooks follow a pattern ({type(provider).__name__}) that is not plain MusicGen's or MAGNeT's; "
            f"choose another checkpoint."
        )
    return [int(late) for late in provider.delays]


def embed(network: Any, inputs: Tensor, past: int = 0) -> Tensor:
    """Layer 0 ``[n, P, d]`` of tokens ``[n, K, P]`` that follow `past` positions. Positions are computed in float32."""
    tokens: Tensor = sum(table(inputs[:, j]).float() for j, table in enumerate(network.emb))
    transformer = network.transformer
    if transformer.positional_embedding in ("sin", "sin_rope"):
        positions = torch.arange(past, past + inputs.shape[-1], device=inputs.device).view(1, -1, 1)
        sines = audiocraft().modules.transformer.create_sin_embedding
        tokens = tokens + transformer.positional_scale * sines(positions, tokens.shape[-1], max_period=transformer.max_period)
    return tokens.to(network.emb[0].weight.dtype)


def run_block(
    network: Any,
    index: int,
    stream: Tensor,
    text: Tensor | None,
    *,
    mask: Tensor | None = None,
    cache: dict[int, dict[str, Tensor]] | None = None,
) -> Tensor:
    """Stream after block `index` (from 0) ``[n, P, d]``. `mask`: added to the attention's scores ``[P, P]``.

    `cache`: the keys and values of earlier positions, by block, which those of `stream` are added to (causal models only).
    """
    block = network.transformer.layers[index]
    attention = block.self_attn
    if cache is not None:
        attention._is_streaming, attention._streaming_state = True, cache.setdefault(index, {})
    try:
        after: Tensor = block(stream, src_mask=mask, cross_attention_src=text)
    finally:
        attention._is_streaming, attention._streaming_state = False, {}
    return after


def attended(network: Any, states: Tensor) -> Tensor:
    """What blocks attend to for a text's states ``[1, L, d]``: with positions where the model wants them."""
    (name,) = network.fuser.fuse2cond["cross"]
    nothing = states.new_zeros(1, 1, states.shape[-1])
    _, source = network.fuser(nothing, {name: (states, states.new_ones(states.shape[:2]))})
    found: Tensor = source
    return found
