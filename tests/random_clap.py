"""A small random CLAP, saved in the hub's layout as `save_pretrained` of model and processor writes it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

RATE, SECONDS = 8000, 1


def save(folder: Path, *, fusion: bool = False, seed: int = 0) -> Path:
    """A model of windows of 1 s at 8 kHz and 24 dimensions."""
    torch.manual_seed(seed)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {w: n for n, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}
    raw = Tokenizer(models.BPE(words, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 514,
        "pad_token_id": 1,
        "initializer_factor": 10.0,
    }
    audio = {
        "num_mel_bins": 16,
        "spec_size": 64,
        "window_size": 4,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "enable_fusion": fusion,
        "fusion_type": "aff_2d" if fusion else None,
        "initializer_factor": 10.0,
    }
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=24)
    ClapModel(config).save_pretrained(folder, safe_serialization=True)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=160,
        max_length_s=SECONDS,
        fft_window_size=256,
        frequency_max=RATE // 2,
        truncation="fusion" if fusion else "rand_trunc",
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
