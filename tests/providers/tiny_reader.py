"""A random model of 2 layers whose tokens are bytes and a few longer pieces: it has no idea of JSON."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from musae.providers.reader import Reader

FORM = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_reader(seed=0, context=2048):
    """A reader; another seed has other weights."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), 'Ġ"', '",', '"}', "Ġt", "or", "aj", "ajor"]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    merges = [("Ġ", '"'), ('"', ","), ('"', "}"), ("Ġ", "t"), ("o", "r"), ("a", "j"), ("aj", "or")]
    raw = Tokenizer(models.BPE(vocabulary, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"], chat_template=FORM
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 5,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.5,
    )
    return Reader(tokenizer, LlamaForCausalLM(config))
