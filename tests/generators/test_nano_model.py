"""nano's model and adapter, on a tiny random model: delay, alignment of rows and tokens, layers, splice, loss, generation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from musae.activations.tokens import Tokens
from musae.errors import UserError
from musae.generators.autoregressive import IGNORE, delay, targets
from musae.generators.nano import model
from musae.generators.nano.adapter import PACKAGE, Nano
from musae.generators.nano.codec import FEATURES, Codec

VOCABULARY, WIDTH, LAYERS, CODEBOOKS = 24, 32, 3, 4
DELAYS = range(CODEBOOKS)


@pytest.fixture(scope="module")
def nano() -> Nano:
    generator = torch.Generator().manual_seed(1)
    books = torch.randn(CODEBOOKS, VOCABULARY, FEATURES, generator=generator)
    codec = Codec(torch.full((FEATURES,), 2.0), torch.ones(FEATURES), books)
    return Nano(model.build(width=WIDTH, layers=LAYERS, heads=2, codewords=VOCABULARY, seed=3), codec)


def some_codes(n: int = 2, frames: int = 11, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (n, CODEBOOKS, frames), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(4, 20), seed=st.integers(0, 99))
def test_delay_is_that_of_transformers(nano: Nano, frames: int, seed: int) -> None:
    codes = some_codes(2, frames, seed)
    begun = torch.nn.functional.pad(codes, (1, 0), value=VOCABULARY).reshape(2 * CODEBOOKS, frames + 1)
    _, pattern = nano.network.build_delay_pattern_mask(begun, pad_token_id=VOCABULARY, max_length=frames + CODEBOOKS)
    assert torch.equal(delay(codes, VOCABULARY, DELAYS), pattern.view(2, CODEBOOKS, -1)[..., : frames + 1])


def test_targets_are_the_next_inputs() -> None:
    codes = some_codes()
    inputs, wanted = delay(codes, VOCABULARY, DELAYS), targets(codes, DELAYS)
    assert torch.equal(wanted[..., :-1], torch.where(inputs[..., 1:] == VOCABULARY, IGNORE, inputs[..., 1:]))
    last = torch.stack([torch.full((2,), IGNORE)] + [codes[:, j, -j] for j in range(1, CODEBOOKS)], dim=1)
    assert torch.equal(wanted[..., -1], last)


def test_layers_are_transformers_hidden_states(nano: Nano) -> None:
    codes = some_codes()
    inputs = delay(codes, VOCABULARY, DELAYS)
    hooked: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: hooked.append(out)) for block in nano.network.model.decoder.layers]
    with torch.inference_mode():
        states = nano.network(input_ids=inputs.flatten(0, 1), output_hidden_states=True).hidden_states
    for hook in hooks:
        hook.remove()
    found = nano.stream(codes, (0, 1, 2, 3))
    for layer in range(LAYERS):  # the last of transformers' hidden states has gone through the final norm
        torch.testing.assert_close(found[layer], states[layer][:, 1:])
    for layer in range(1, LAYERS + 1):
        torch.testing.assert_close(found[layer], hooked[layer - 1][:, 1:])
    assert found[2].shape == (2, 11, WIDTH)
    assert found[2].dtype == torch.float32


def test_stream_runs_only_the_blocks_it_needs(nano: Nano) -> None:
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda _m, _i, _o, index=index: ran.append(index))
        for index, block in enumerate(nano.network.model.decoder.layers)
    ]
    nano.stream(some_codes(), (0, 2))
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize("codebook", range(CODEBOOKS))
def test_a_token_moves_the_rows_from_its_step_on_and_visible_shows_it_there(nano: Nano, codebook: int) -> None:
    codes, frame = some_codes(1), 5
    other = codes.clone()
    other[0, codebook, frame] = (other[0, codebook, frame] + 1) % VOCABULARY
    step = frame + codebook
    for layer in range(LAYERS + 1):
        moved = (nano.stream(codes, (layer,))[layer] != nano.stream(other, (layer,))[layer]).any(-1)[0]
        assert not moved[:step].any()
        assert moved[step]
        if layer == 0:
            assert moved.sum() == 1
    seen = (nano.visible(codes) != nano.visible(other))[0].view(-1, CODEBOOKS, FEATURES).any(-1)
    assert seen.nonzero().tolist() == [[step, codebook]]
    word = nano.visible(codes)[0, step].view(CODEBOOKS, FEATURES)[codebook]
    assert torch.equal(word, nano.codec.codebooks[codebook, codes[0, codebook, frame]])


def test_visible_is_zero_before_the_clip(nano: Nano) -> None:
    shown = nano.visible(some_codes()).view(2, 11, CODEBOOKS, FEATURES)
    for step in range(CODEBOOKS):
        assert (shown[:, step].abs().sum(-1) > 0).tolist() == [[j <= step for j in range(CODEBOOKS)]] * 2


def test_times_are_the_ends_of_frames(nano: Nano) -> None:
    assert nano.times(3).tolist() == pytest.approx([0.04, 0.08, 0.12])


def test_loss_is_the_cross_entropy_of_transformers_logits(nano: Nano) -> None:
    codes = some_codes()
    with torch.inference_mode():
        logits = nano.network(input_ids=delay(codes, VOCABULARY, DELAYS).flatten(0, 1)).logits
    logs = logits.view(2, CODEBOOKS, -1, VOCABULARY).log_softmax(-1)
    for n in range(2):
        for j in range(CODEBOOKS):  # position p >= 1 predicts frame p - j
            nats = [-logs[n, j, p, codes[n, j, p - j]].item() for p in range(1, 12) if 0 <= p - j < 11]
            assert nano.loss(codes)[n, j].item() == pytest.approx(sum(nats) / len(nats), rel=1e-5)


@pytest.mark.parametrize("layer", range(LAYERS + 1))
def test_splice(nano: Nano, layer: int) -> None:
    codes = some_codes()
    given: list[Tensor] = []

    def identity(stream: Tensor) -> Tensor:
        given.append(stream.clone())
        return stream

    assert torch.equal(nano.loss(codes, layer, identity), nano.loss(codes))
    assert torch.equal(given[0], nano.stream(codes, (layer,))[layer])
    zeroed = nano.loss(codes, layer, torch.zeros_like)
    assert (zeroed - nano.loss(codes)).abs().min() > 1e-6
    if layer == LAYERS:  # logits of a zero row after the norm's bias (zero): uniform
        torch.testing.assert_close(zeroed, torch.full((2, CODEBOOKS), VOCABULARY).float().log())


def test_splice_at_a_row_changes_only_later_predictions(nano: Nano) -> None:
    codes = some_codes(1)

    def late(stream: Tensor) -> Tensor:
        return torch.cat([stream[:, :8], 2 * stream[:, 8:]], dim=1)

    early = nano.loss(codes[..., :8])
    assert torch.equal(nano.loss(codes[..., :8], 1, lambda s: late(s) if s.shape[1] > 8 else s), early)
    assert not torch.equal(nano.loss(codes, 1, late), nano.loss(codes))


def test_generation_keeps_the_prompt_and_is_a_function_of_its_seed(nano: Nano) -> None:
    prompt = some_codes()
    made = nano.generate(prompt, 7, seed=5)
    assert made.shape == (2, CODEBOOKS, 18)
    assert torch.equal(made[..., :11], prompt)
    assert torch.equal(made, nano.generate(prompt, 7, seed=5))
    assert not torch.equal(made, nano.generate(prompt, 7, seed=6))
    assert 0 <= made.min() <= made.max() < VOCABULARY
    assert torch.equal(made[..., :14], nano.generate(prompt, 3, seed=5))
    assert nano.generate(prompt[..., :0], 3, seed=0).shape == (2, CODEBOOKS, 3)


def test_generation_samples_the_model(nano: Nano) -> None:
    """The next frame's first codebook, drawn many times after a prompt, follows the full pass's probabilities."""
    prompt = some_codes(1)
    with torch.inference_mode():
        logits = nano.network(input_ids=delay(prompt, VOCABULARY, DELAYS).flatten(0, 1)).logits
    expected = logits.view(CODEBOOKS, -1, VOCABULARY)[0, -1].softmax(-1)
    drawn = nano.generate(prompt.expand(4000, -1, -1), 1, seed=0)[:, 0, -1]
    found = torch.bincount(drawn, minlength=VOCABULARY) / 4000
    assert (found - expected).abs().max() < 0.03


def test_generation_with_a_cache_equals_full_passes(nano: Nano) -> None:
    """A model made all but greedy must choose what a full pass over its own choices chooses."""
    sharp = nano.untrained(3)
    for head in sharp.network.lm_heads:
        head.weight.data *= 1e4
    made = sharp.generate(some_codes(), 6, seed=0)
    with torch.inference_mode():
        logits = sharp.network(input_ids=delay(made, VOCABULARY, DELAYS).flatten(0, 1)).logits.view(2, CODEBOOKS, -1, VOCABULARY)
    for j in range(CODEBOOKS):
        frames = torch.arange(11, 17)
        frames = frames[frames + j <= 17]
        assert torch.equal(logits[:, j, frames + j].argmax(-1), made[:, j, frames])


def test_generation_with_a_splice(nano: Nano) -> None:
    prompt = some_codes()
    plain = nano.generate(prompt, 6, seed=1)
    assert torch.equal(nano.generate(prompt, 6, seed=1, layer=2, splice=lambda s: s), plain)
    assert not torch.equal(nano.generate(prompt, 6, seed=1, layer=2, splice=lambda s: 20 * torch.ones_like(s).cumsum(-1)), plain)


def test_weights_travel_as_float16_without_cross_attention(nano: Nano, tmp_path: Path) -> None:
    model.save(nano.network, tmp_path / "m.safetensors")
    nano.codec.save(tmp_path / "c.safetensors")
    again = Nano(
        model.load(tmp_path / "m.safetensors", width=WIDTH, layers=LAYERS, heads=2, codewords=VOCABULARY),
        Codec.load(tmp_path / "c.safetensors"),
    )
    assert not any("encoder_attn" in name for name in model.weights(nano.network))
    torch.testing.assert_close(again.stream(some_codes(), (3,))[3], nano.stream(some_codes(), (3,))[3], atol=5e-3, rtol=1e-2)
    assert torch.equal(again.codec.codebooks, nano.codec.codebooks)
    with pytest.raises(UserError, match="another architecture"):
        model.load(tmp_path / "m.safetensors", width=WIDTH, layers=LAYERS + 1, heads=2, codewords=VOCABULARY)
    with pytest.raises(UserError, match=r"none\.safetensors.*missing"):
        model.load(tmp_path / "none.safetensors")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 11557432\n"


@pytest.mark.parametrize("content", [POINTER, b"", None], ids=["git-lfs pointer", "empty", "cut short"])
def test_damaged_files_are_named_with_a_remedy(nano: Nano, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.safetensors"
    for save, load in ((nano.codec.save, Codec.load), (lambda path: model.save(nano.network, path), model.load)):
        save(path)
        path.write_bytes(path.read_bytes()[:5000] if content is None else content)
        with pytest.raises(
            UserError, match=r"weights\.safetensors: not a safetensors file, or damaged .*restore it .*git lfs pull"
        ):
            load(path)
    model.save(nano.network, path)
    with pytest.raises(UserError, match=r"weights\.safetensors: holds .* which is no codec; restore it"):
        Codec.load(path)
    if content is not None:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"weights\.safetensors: not readable .*restore the file"):
            Tokens.load_packed(path)


def test_untrained_control_and_revisions(nano: Nano) -> None:
    control = nano.untrained(0)
    assert control.codec is nano.codec
    assert control.depth == nano.depth
    assert control.revision == nano.untrained(0).revision
    assert control.codec_revision == nano.codec_revision
    assert len({nano.revision, control.revision, nano.untrained(1).revision}) == 3
    assert len(nano.revision) == 10


def test_bad_input_is_named(nano: Nano) -> None:
    codes = some_codes()
    for call, message in (
        (lambda: nano.stream(codes, (LAYERS + 1,)), "layer 4 does not exist"),
        (lambda: nano.loss(codes, 1), "give both or neither"),
        (lambda: nano.loss(codes[..., :1]), "no next token"),
        (lambda: nano.stream(codes + VOCABULARY, (0,)), "codes range from"),
        (lambda: nano.stream(codes[:, :3], (0,)), r"shape \[2, 3, 11\]"),
        (lambda: nano.encode(torch.zeros(16000)), r"shape \[16000\]"),
    ):
        with pytest.raises(UserError, match=message):
            call()


@pytest.mark.skipif(not (PACKAGE / "card.json").is_file(), reason="the weights are not trained yet")
def test_shipped_weights() -> None:
    """They fit their card, weigh at most 16 MB with the codec, and predict codes better by far than random weights do."""
    shipped = Nano.shipped()
    assert shipped.depth == shipped.card.layers
    assert sum((PACKAGE / name).stat().st_size for name in ("model.safetensors", "codec.safetensors")) <= 16e6
    stored = Tokens.load_packed(PACKAGE / "training_codes.npz").tensor(slice(None, None, 430))
    assert Tokens.load_packed(PACKAGE / "training_codes.npz").codec == shipped.codec_revision
    assert shipped.stream(stored[:1], (4,))[4].shape == (1, 256, shipped.card.width)
    assert (shipped.loss(stored).mean(0) < shipped.untrained(0).loss(stored).mean(0) - 1.0).all()
