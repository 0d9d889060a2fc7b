"""Small random MusicGens and MAGNeTs as audiocraft's export writes them, and the same MusicGen in transformers' format."""

from __future__ import annotations

import importlib
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from random_musicgen import tokenizer
from torch import Tensor, nn
from transformers import EncodecConfig, MusicgenConfig, MusicgenForConditionalGeneration, T5Config, T5EncoderModel
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from musae.generators.audiocraft.package import audiocraft

WIDTH, LAYERS, BOOKS, WORDS = 32, 3, 4, 16
RATE, HOP = 3200, 64
TEXT = 24
"""Width of the text encoder."""

CODEC: dict[str, Any] = {
    "sample_rate": RATE,
    "channels": 1,
    "compression_model": "encodec",
    "encodec": {
        "autoencoder": "seanet",
        "quantizer": "rvq",
        "sample_rate": "${sample_rate}",
        "channels": "${channels}",
        "causal": False,
        "renormalize": False,
    },
    "seanet": {
        "dimension": 12,
        "channels": "${channels}",
        "causal": "${encodec.causal}",
        "n_filters": 4,
        "n_residual_layers": 1,
        "ratios": [8, 4, 2],
        "activation": "ELU",
        "activation_params": {"alpha": 1.0},
        "norm": "weight_norm",
        "norm_params": {},
        "kernel_size": 7,
        "residual_kernel_size": 3,
        "last_kernel_size": 7,
        "dilation_base": 2,
        "pad_mode": "constant",
        "true_skip": True,
        "compress": 2,
        "lstm": 2,
        "disable_norm_outer_blocks": 0,
        "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
        "encoder": {},
    },
    "rvq": {"n_q": BOOKS, "q_dropout": False, "bins": WORDS, "decay": 0.99, "kmeans_init": True, "kmeans_iters": 50},
}
"""As in audiocraft's config/model/encodec, but small."""

LANGUAGE_MODEL: dict[str, Any] = {
    "solver": "musicgen",
    "lm_model": "transformer_lm",
    "dataset": {"segment_duration": 1},
    "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
    "attribute_dropout": {},
    "fuser": {
        "cross_attention_pos_emb": False,
        "cross_attention_pos_emb_scale": 1,
        "sum": [],
        "prepend": [],
        "cross": ["description"],
        "input_interpolate": [],
    },
    "conditioners": {
        "description": {"model": "t5", "t5": {"name": "t5-base", "finetune": False, "word_dropout": 0.3, "normalize_text": False}}
    },
    "codebooks_pattern": {
        "modeling": "delay",
        "delay": {"delays": [0, 1, 2, 3], "flatten_first": 0, "empty_initial": 0},
        "parallel": {"empty_initial": -1},
        "unroll": {"flattening": [0, 1, 2, 3], "delays": [0, 0, 0, 0]},
    },
    "interleave_stereo_codebooks": {"use": False, "per_timestep": False},
    "transformer_lm": {
        "dim": WIDTH,
        "num_heads": 4,
        "num_layers": LAYERS,
        "hidden_scale": 2,
        "n_q": BOOKS,
        "card": WORDS,
        "dropout": 0.0,
        "emb_lr": None,
        "activation": "gelu",
        "norm_first": True,
        "bias_ff": False,
        "bias_attn": False,
        "bias_proj": False,
        "past_context": None,
        "causal": True,
        "custom": False,
        "memory_efficient": True,
        "attention_as_float32": False,
        "layer_scale": None,
        "positional_embedding": "sin",
        "xpos": False,
        "checkpointing": "none",
        "weight_init": "gaussian",
        "depthwise_init": "current",
        "zero_bias_init": True,
        "norm": "layer_norm",
        "cross_attention": False,
        "qk_layer_norm": False,
        "qk_layer_norm_cross": False,
        "attention_dropout": None,
        "kv_repeat": 1,
        "two_step_cfg": False,
    },
}
"""As in audiocraft's config/model/lm/musicgen_lm and config/conditioner/text2music, but small."""

MAGNET: dict[str, Any] = {
    "solver": "magnet",
    "lm_model": "transformer_lm_magnet",
    "masking": {"span_len": 3},
    "codebooks_pattern": {**LANGUAGE_MODEL["codebooks_pattern"], "modeling": "parallel"},
    "transformer_lm": {
        **LANGUAGE_MODEL["transformer_lm"],
        "causal": False,
        "subcodes_context": 5,
        "compression_model_framerate": 50,
        "segment_duration": 0,
        "span_len": -1,
    },
}
"""What config/solver/magnet/magnet_32khz changes."""

STEREO: dict[str, Any] = {
    "codebooks_pattern": {"modeling": "delay", "delay": {"delays": [0, 0, 1, 1, 2, 2, 3, 3]}},
    "interleave_stereo_codebooks": {"use": True, "per_timestep": False},
    "transformer_lm": {**LANGUAGE_MODEL["transformer_lm"], "n_q": 2 * BOOKS},
}


def language_model(changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A configuration, and random weights by name: the text's projection among them, as in the released files."""
    omegaconf = importlib.import_module("omegaconf")
    config = deepcopy(LANGUAGE_MODEL) | deepcopy(changes)
    built = omegaconf.OmegaConf.create(deepcopy(config) | {"device": "cpu", "dtype": "float32", "conditioners": {}})
    built.transformer_lm.memory_efficient, built.transformer_lm.custom = False, True
    if "masking" in config:
        built.transformer_lm.segment_duration, built.transformer_lm.span_len = 1, 3
    state = audiocraft().models.builders.get_lm_model(built).state_dict()
    if config["conditioners"]:
        projection = nn.Linear(TEXT, WIDTH)
        state |= {f"condition_provider.conditioners.description.output_proj.{k}": v for k, v in projection.state_dict().items()}
    return config, state


@torch.no_grad()
def codec() -> dict[str, Tensor]:
    """Random weights of an EnCodec whose codes all occur: its codebooks are residual vectors of noise."""
    omegaconf = importlib.import_module("omegaconf")
    config = omegaconf.OmegaConf.create(CODEC | {"device": "cpu"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of the weight norm that audiocraft uses
        network = audiocraft().models.builders.get_compression_model(config).eval()
    residual = network.encoder(torch.randn(1, 1, 400 * HOP))
    for layer in network.quantizer.vq.layers:
        book = layer._codebook
        book.embed.copy_(residual[0].T[torch.randperm(residual.shape[-1])[:WORDS]])
        book.embed_avg.copy_(book.embed)
        book.inited.fill_(1)
        residual = residual - layer.decode(layer.encode(residual))
    state: dict[str, Tensor] = network.state_dict()
    return state


def export(path: Path, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    """As `audiocraft.utils.export` writes it."""
    omegaconf = importlib.import_module("omegaconf")
    text = omegaconf.OmegaConf.to_yaml(omegaconf.OmegaConf.create(config))
    torch.save({"best_state": state, "xp.cfg": text, "version": "1.3.0", "exported": True}, path)


def save(folder: Path, changes: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A checkpoint of both files."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        export(folder / "state_dict.bin", *language_model(changes or {}))
        export(folder / "compression_state_dict.bin", CODEC, codec())
    return folder


def save_text_encoder(folder: Path) -> Path:
    """A T5 encoder with its tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        text = T5Config(vocab_size=120, d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
        T5EncoderModel(text).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


RENAMED = (
    ("emb.", "model.decoder.embed_tokens."),
    ("transformer.", "model.decoder."),
    ("cross_attention", "encoder_attn"),
    ("linear1", "fc1"),
    ("linear2", "fc2"),
    ("norm1", "self_attn_layer_norm"),
    ("norm_cross", "encoder_attn_layer_norm"),
    ("norm2", "final_layer_norm"),
    ("out_norm", "model.decoder.layer_norm"),
    ("linears", "lm_heads"),
)
"""The published mapping of names: convert_musicgen_transformers.py, which transformers ships in its sources only."""


def converted_language_model(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dictionaries of transformers' decoder and of its projection of texts."""
    decoder, projection = dict[str, Tensor](), dict[str, Tensor]()
    for name, value in state.items():
        if name.startswith("condition_provider."):
            projection[name.rpartition("output_proj.")[2]] = value
            continue
        for old, new in RENAMED:
            name = name.replace(old, new)
        if "in_proj_weight" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                decoder[name.replace("in_proj_weight", f"{part}_proj.weight")] = rows
        else:
            decoder[name] = value
    return decoder, projection


def converted_codec(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dictionary of transformers' EnCodec: convert_encodec_checkpoint_to_pytorch.py's mapping, for any depth."""
    renamed = dict[str, Tensor]()
    for name, value in state.items():
        new = name.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")
        new = new.replace("coder.model.", "coder.layers.").replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
        for old, kept in (("weight_g", "original0"), ("weight_v", "original1")):  # as torch's newer weight norm names them
            new = new.replace(f".{old}", f".parametrizations.weight.{kept}")
        renamed[new] = value
    return renamed


def to_transformers(folder: Path, text_encoder: Path, to: Path) -> Path:
    """A checkpoint of `save` with no changes and a text encoder, converted and saved by `save_pretrained`."""
    lm, sound = (torch.load(folder / f"{name}.bin", weights_only=True) for name in ("state_dict", "compression_state_dict"))
    audio = EncodecConfig(
        sampling_rate=RATE,
        upsampling_ratios=[8, 4, 2],
        num_filters=4,
        hidden_size=12,
        codebook_size=WORDS,
        codebook_dim=12,
        target_bandwidths=[4 * BOOKS * 50 / 1000],
        use_causal_conv=False,
        norm_type="weight_norm",
        num_lstm_layers=2,
        pad_mode="constant",
        use_conv_shortcut=False,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=WORDS,
        max_position_embeddings=128,
        num_hidden_layers=LAYERS,
        ffn_dim=2 * WIDTH,
        num_attention_heads=4,
        hidden_size=WIDTH,
        num_codebooks=BOOKS,
        dropout=0.0,
        pad_token_id=WORDS,
        bos_token_id=WORDS,
        tie_word_embeddings=False,
    )
    text = T5EncoderModel.from_pretrained(text_encoder)
    config = MusicgenConfig(text_encoder=text.config, audio_encoder=audio, decoder=decoder)
    model: Any = MusicgenForConditionalGeneration(config).eval()
    model.text_encoder.load_state_dict(text.state_dict())
    weights, projection = converted_language_model(lm["best_state"])
    missing, unexpected = model.decoder.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("embed_positions" in name for name in missing)
    model.enc_to_dec_proj.load_state_dict(projection)
    model.audio_encoder.load_state_dict(converted_codec(sound["best_state"]))
    model.save_pretrained(to)
    tokenizer().save_pretrained(to)
    return to
