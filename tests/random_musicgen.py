"""Small random MusicGens, saved in the hub's layout as `save_pretrained` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyForConditionalGeneration,
    T5Config,
)
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig
from transformers.models.musicgen_melody.configuration_musicgen_melody import MusicgenMelodyDecoderConfig

WIDTH, LAYERS, BOOKS, WORDS = 32, 3, 4, 16
RATE, HOP = 3200, 64


def build(channels: int = 1, *, melody: bool = False, seed: int = 0) -> Any:
    """A model of 3 blocks over an EnCodec of 50 Hz at 3.2 kHz with codebooks (transformers leaves them 0)."""
    text = T5Config(vocab_size=120, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
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
        num_lstm_layers=1,
    )
    shape = {
        "vocab_size": WORDS,
        "max_position_embeddings": 128,
        "num_hidden_layers": LAYERS,
        "ffn_dim": 48,
        "num_attention_heads": 4,
        "hidden_size": WIDTH,
        "num_codebooks": BOOKS * channels,
        "audio_channels": channels,
        "dropout": 0.0,
        "pad_token_id": WORDS,
        "bos_token_id": WORDS,
        "initializer_factor": 0.3,
    }
    torch.manual_seed(seed)
    if melody:
        decoder = MusicgenMelodyDecoderConfig(**shape)
        config = MusicgenMelodyConfig(text_encoder=text, audio_encoder=audio, decoder=decoder, chroma_length=7)
        model: Any = MusicgenMelodyForConditionalGeneration(config)
    else:
        config = MusicgenConfig(text_encoder=text, audio_encoder=audio, decoder=MusicgenDecoderConfig(**shape))
        model = MusicgenForConditionalGeneration(config)
    _draw_codebooks(model.audio_encoder.eval())
    return model.eval()


@torch.no_grad()
def _draw_codebooks(codec: Any) -> None:
    """Residual vectors of noise, drawn at random: all codes occur."""
    residual = codec.encoder(torch.randn(1, 1, 400 * HOP))
    for layer in codec.quantizer.layers:
        rows = torch.randperm(residual.shape[-1])[:WORDS]
        layer.codebook.embed.copy_(residual[0, :, rows].T)
        residual = residual - layer.decode(layer.encode(residual))


def tokenizer() -> Any:
    """A word-level tokenizer in transformers' format."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", "slow", "fast", "piano", "drums"))}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def save(folder: Path, channels: int = 1, *, melody: bool = False, seed: int = 0) -> Path:
    """`build`, saved with its tokenizer."""
    build(channels, melody=melody, seed=seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
