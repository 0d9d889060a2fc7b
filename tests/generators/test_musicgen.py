"""MusicGen through transformers, on small random checkpoints in the hub's layout: against transformers itself, and bad ones."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import random_musicgen
import torch
from click.testing import CliRunner
from random_musicgen import BOOKS, HOP, LAYERS, RATE, WIDTH, WORDS
from safetensors.torch import load_file, save_file
from torch import Tensor

from musae import registry
from musae.cli import main
from musae.errors import UserError
from musae.generators import musicgen
from musae.generators.autoregressive import delay, logits_of
from musae.generators.musicgen.adapter import MusicGen
from musae.testing_generators import check_generator

VARIANTS = {"mono": (1, False), "stereo": (2, False), "melody": (1, True), "stereo-melody": (2, True)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: random_musicgen.save(root / name, channels, melody=melody) for name, (channels, melody) in VARIANTS.items()}


@pytest.fixture(params=VARIANTS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def some_codes(model: MusicGen, frames: int = 11, seed: int = 0) -> Tensor:
    books = model.card.codebooks
    return torch.randint(WORDS, (2, books, frames), generator=torch.Generator().manual_seed(seed))


def test_the_contract_is_kept(folder: Path) -> None:
    source = str(folder)
    check_generator(SimpleNamespace(CARD=musicgen.card(source), load=lambda: musicgen.load(source)))


def test_the_card_is_the_configurations(folders: dict[str, Path]) -> None:
    card = musicgen.card(str(folders["stereo"]))
    assert (card.name, card.rate, card.frame_rate, card.codebooks) == ("stereo", RATE, RATE / HOP, 2 * BOOKS)
    assert (card.width, card.layers) == (WIDTH, LAYERS)
    assert musicgen.load(str(folders["stereo"])).times(3).tolist() == pytest.approx([0.02, 0.04, 0.06])


def forward(model: MusicGen, codes: Tensor, text: Tensor | None) -> Any:
    """transformers' own forward pass over delayed codes: the whole model, its text encoder's states given."""
    inputs = delay(codes, WORDS, model.delays).flatten(0, 1)
    n, width = len(codes), model.whole.text_encoder.config.hidden_size
    mask = torch.ones(n, 1) if text is None else torch.ones(n, text.shape[1])
    states = torch.zeros(n, 1, width) if text is None else text.expand(n, -1, -1)
    if model.whole.config.model_type == "musicgen":
        options = {"encoder_outputs": (states,), "attention_mask": mask if text is not None else 0 * mask}
        return model.whole(decoder_input_ids=inputs, output_hidden_states=True, **options)
    condition = model.condition.prefix
    assert condition is not None
    return model.whole.decoder(input_ids=inputs, encoder_hidden_states=condition.expand(n, -1, -1), output_hidden_states=True)


@pytest.mark.parametrize("prompt", [None, "slow piano"])
def test_layers_and_loss_are_transformers(folder: Path, prompt: str | None) -> None:
    """Layer l is hidden_states[l], or what a hook on block l sees: the last hidden state is after the final norm."""
    model = musicgen.load(str(folder), prompt=prompt)
    codes = some_codes(model)
    hooked: list[Tensor] = []
    last = model.network.model.decoder.layers[-1]
    hook = last.register_forward_hook(lambda _m, _i, out: hooked.append(out[0] if isinstance(out, tuple) else out))
    text = None
    if prompt is not None:
        ids = random_musicgen.tokenizer()(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            text = model.whole.text_encoder(input_ids=ids).last_hidden_state
    with torch.inference_mode():
        output = forward(model, codes, text)
    hook.remove()
    states = output.get("decoder_hidden_states", output.get("hidden_states"))
    found = model.stream(codes, tuple(range(LAYERS + 1)))
    for layer in range(LAYERS + 1):
        expected = hooked[0] if layer == LAYERS else states[layer]
        torch.testing.assert_close(found[layer], expected[:, -11:])
    logs = output.logits.view(2, model.card.codebooks, -1, WORDS)[:, :, -11:].log_softmax(-1)
    for j, late in enumerate(model.delays):  # row f predicts frame f + 1 - late
        nats = [-logs[:, j, f].gather(1, codes[:, j, f + 1 - late, None])[:, 0] for f in range(11) if 0 <= f + 1 - late < 11]
        torch.testing.assert_close(model.loss(codes)[:, j], torch.stack(nats).mean(0))


def test_a_prompt_changes_the_stream_and_the_revision(folder: Path) -> None:
    plain, slow, fast = (musicgen.load(str(folder), prompt=prompt) for prompt in (None, "slow piano", "fast drums"))
    codes = some_codes(plain)
    assert len({model.revision for model in (plain, slow, fast)}) == 3
    assert len({model.codec_revision for model in (plain, slow, fast)}) == 1
    streams = [model.stream(codes, (LAYERS,))[LAYERS] for model in (plain, slow, fast)]
    assert not torch.allclose(streams[0], streams[1])
    assert not torch.allclose(streams[1], streams[2])


@pytest.mark.parametrize("name", ["mono", "stereo"])
def test_delays_are_those_of_transformers(folders: dict[str, Path], name: str) -> None:
    model = musicgen.load(str(folders[name]))
    codes = some_codes(model)
    begun = torch.nn.functional.pad(codes, (1, 0), value=WORDS).flatten(0, 1)
    _, pattern = model.network.build_delay_pattern_mask(begun, pad_token_id=WORDS, max_length=11 + BOOKS)
    assert torch.equal(delay(codes, WORDS, model.delays), pattern.view(2, model.card.codebooks, -1)[..., :12])


def test_codes_and_audio_are_encodecs(folders: dict[str, Path]) -> None:
    model = musicgen.load(str(folders["mono"]))
    audio = torch.randn(2, 9 * HOP + 30, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    with torch.inference_mode():
        expected = model.whole.audio_encoder.encode(audio[:, None, : 9 * HOP]).audio_codes[0]
        sound = model.whole.audio_encoder.decode(expected[None], [None]).audio_values
    codes = model.encode(audio)
    assert torch.equal(codes, expected)
    assert len(codes.unique()) > 4
    torch.testing.assert_close(model.decode(codes), sound[:, 0, : 9 * HOP])
    assert model.encode(audio[:, : HOP - 1]).shape == (2, BOOKS, 0)


def test_stereo_interleaves_the_codes_of_its_channels(folders: dict[str, Path]) -> None:
    model = musicgen.load(str(folders["stereo"]))
    left, right = torch.randn(2, 1, 6 * HOP, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    both = model.encode(torch.stack([left, right], 1))
    assert torch.equal(both[:, ::2], model.encode(left)[:, ::2])
    assert torch.equal(both[:, 1::2], model.encode(right)[:, ::2])
    assert torch.equal(model.encode(left)[:, ::2], model.encode(left)[:, 1::2])
    channels = model.decode_channels(both)
    assert channels.shape == (1, 2, 6 * HOP)
    torch.testing.assert_close(model.decode(both), channels.mean(1))


def test_a_row_shows_the_codewords_that_it_has_just_read(folder: Path) -> None:
    model = musicgen.load(str(folder))
    codes = some_codes(model)
    shown = model.visible(codes).view(2, 11, model.card.codebooks, -1)
    book = model.whole.audio_encoder.quantizer.layers[1].codebook.embed
    second = len(model.delays) // BOOKS  # the first codebook of the second residual, delayed by one
    assert torch.equal(shown[0, 5, second], book[codes[0, second, 4]])
    assert not shown[0, 0, second].any()


def sharp(model: MusicGen) -> MusicGen:
    """All but greedy: the likeliest code is always drawn."""
    for head in model.network.lm_heads:
        head.weight.data *= 1e4
    return model


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_generation_under_guidance_is_transformers(folders: dict[str, Path], guidance: float) -> None:
    """Greedily, with transformers' own doubled batch, codes are the same up to its tail, whose inputs it pads."""
    model = sharp(musicgen.load(str(folders["mono"]), prompt="fast drums", guidance=guidance))
    ids = random_musicgen.tokenizer()("fast drums", return_tensors="pt").input_ids
    heard: list[Tensor] = []
    decoding = model.whole.audio_encoder.decode

    def listen(audio_codes: Tensor, *args: Any, **options: Any) -> Any:
        heard.append(audio_codes)
        return decoding(audio_codes, *args, **options)

    model.whole.audio_encoder.decode = listen
    options = {"guidance_scale": guidance if guidance > 1 else None, "decoder_start_token_id": WORDS, "pad_token_id": WORDS}
    model.whole.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12 + BOOKS - 1, **options
    )
    expected = heard[0][0]
    made = model.generate(torch.zeros(1, BOOKS, 0, dtype=torch.int64), expected.shape[-1], seed=0)
    assert made.shape == expected.shape
    assert torch.equal(made[..., : 1 - BOOKS], expected[..., : 1 - BOOKS])


def test_generation_with_a_cache_equals_full_passes(folder: Path) -> None:
    model = sharp(musicgen.load(str(folder), prompt="slow"))
    made = model.generate(some_codes(model, 5), 6, seed=0)
    with torch.inference_mode():
        logits = logits_of(model.heads, model.hidden(model.stream(made, (LAYERS,))[LAYERS]))
    for j, late in enumerate(model.delays):
        choices = logits[:, j].argmax(-1)
        for frame in range(5, 11):
            if frame - 1 + late < 11:
                assert torch.equal(choices[:, frame - 1 + late], made[:, j, frame])


def test_the_untrained_control_keeps_the_codec(folder: Path) -> None:
    model = musicgen.load(str(folder))
    control, other = model.untrained(5), model.untrained(6)  # the checkpoint itself is what seed 0 draws
    codes = some_codes(model)
    assert control.codec_revision == model.codec_revision
    assert len({model.revision, control.revision, other.revision}) == 3
    assert not torch.allclose(control.stream(codes, (2,))[2], model.stream(codes, (2,))[2])
    torch.testing.assert_close(control.stream(codes, (2,))[2], model.untrained(5).stream(codes, (2,))[2])
    torch.testing.assert_close(control.visible(codes), model.visible(codes))


def test_bfloat16_hands_out_float32(folders: dict[str, Path]) -> None:
    exact = musicgen.load(str(folders["mono"]))
    half = MusicGen.load(str(folders["mono"]), dtype="bfloat16")
    codes = some_codes(exact)
    found, expected = half.stream(codes, (2,))[2], exact.stream(codes, (2,))[2]
    assert found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < 0.02
    assert half.revision != exact.revision
    assert torch.equal(half.encode(torch.ones(1, RATE) / 2), exact.encode(torch.ones(1, RATE) / 2))


def damaged(folder: Path, to: Path, change: Callable[[Path], None]) -> str:
    """A copy of a checkpoint after `change`."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    change(to)
    return str(to)


def without_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.model.decoder.layers.1.fc1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reshaped(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.lm_heads.0.weight"] = tensors["decoder.lm_heads.0.weight"][:-1].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "transformers cannot read it"),
        (lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": "t5"})), "model_type is 't5'"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), r"no \*.safetensors file"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 40), "weights cannot be loaded"),
        (without_tensor, r"tensors are missing.*layers\.1\.fc1\.weight; download"),
        (reshaped, r"another shape.*lm_heads\.0\.weight"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    folders: dict[str, Path], tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    source = damaged(folders["mono"], tmp_path / "copy", change)
    with pytest.raises(UserError, match=says):
        musicgen.load(source)


def test_what_cannot_be_found_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: dict[str, Path]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source, says in (
        ("facebook/no-such-musicgen", "not in the local cache"),
        ("nothing-here", "neither a folder nor a hub id"),
        ("../up/there/../x", "neither a folder nor a hub id"),
    ):
        with pytest.raises(UserError, match=says):
            musicgen.card(source)
    with pytest.raises(UserError, match="give a prompt"):
        musicgen.load(str(folders["mono"]), guidance=3.0)
    bare = damaged(folders["mono"], tmp_path / "bare", lambda folder: (folder / "tokenizer.json").unlink())
    with pytest.raises(UserError, match="a prompt needs its tokenizer"):
        musicgen.load(bare, prompt="slow")


def test_names_carry_an_argument(folders: dict[str, Path]) -> None:
    name = f"musicgen:{folders['melody']}"
    assert registry.find("generators", name).card == musicgen.card(str(folders["melody"]))
    assert registry.make("generators", name).card.name == "melody"
    with pytest.raises(UserError, match="'nano' takes no argument"):
        registry.find("generators", "nano:small")
    with pytest.raises(UserError, match="nothing follows its colon"):
        registry.find("generators", "musicgen:")


def test_published_sizes_are_known_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    large, stereo = musicgen.card("facebook/musicgen-large@main"), musicgen.card("facebook/musicgen-stereo-melody")
    assert (large.name, large.width, large.layers, large.codebooks) == ("musicgen-large", 2048, 48, 4)
    assert (stereo.name, stereo.width, stereo.layers, stereo.codebooks) == ("musicgen-stereo-melody", 1536, 48, 8)
    assert musicgen.card(musicgen.DEFAULT).model_dump(exclude={"name", "summary", "argument"}) == musicgen.CARD.model_dump(
        exclude={"name", "summary", "argument"}
    )


@pytest.mark.slow
def test_compiled_blocks_say_the_same(folders: dict[str, Path]) -> None:
    """Compilation of one block takes half a minute."""
    plain, compiled = musicgen.load(str(folders["mono"])), musicgen.load(str(folders["mono"]), compile=True)
    codes = some_codes(plain)
    torch.testing.assert_close(compiled.stream(codes, (1,))[1], plain.stream(codes, (1,))[1], rtol=1e-4, atol=1e-5)
    assert compiled.network.model.decoder.layers[0]._compiled_call_impl is not None


def test_options_of_the_generator_reach_it(folders: dict[str, Path], tmp_path: Path) -> None:
    start = ["harvest", f"musicgen:{folders['mono']}", "--corpus", "procedural", "--clips", "2", "--seconds", "1"]
    start += ["--layer", "1", "--root", str(tmp_path)]
    lines = []
    for options in ([], ["--with", "dtype=bfloat16"], ["--with", "prompt=slow jazz", "--with", "guidance=2"]):
        result = CliRunner().invoke(main, [*start, *options])
        assert result.exit_code == 0, result.output
        lines.append(result.stdout)
    assert len(set(lines)) == 3  # stores of other streams lie elsewhere
    for options, says in (
        ("devise=cpu", "did you mean 'device'"),
        ("dtype=int4", "must be 'float16' or 'bfloat16' or 'float32', or none"),
        ("device=cuda:99", "device 'cuda:99' is not there"),
        ("device", "write NAME=VALUE, as in --with device=cuda"),
    ):
        result = CliRunner().invoke(main, [*start, "--with", options])
        assert result.exit_code == 2
        assert says in result.stderr
    result = CliRunner().invoke(main, ["harvest", "nano", "--with", "dtype=bfloat16"])
    assert (result.exit_code, "nano has no option named 'dtype'; it has none." in result.stderr) == (2, True)


def test_harvest_reads_a_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    """`musae harvest musicgen:FOLDER`, as a user calls it, two layers in one pass."""
    arguments = ["harvest", f"musicgen:{folders['mono']}", "--corpus", "procedural", "--clips", "3", "--seconds", "1"]
    arguments += ["--layer", "1", "--layer", "3", "--root", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "150 frames of width 32" in result.output
    wrong = CliRunner().invoke(main, [*arguments, "--layer", "9"])
    assert wrong.exit_code == 2
    assert "has layers 0 to 3" in wrong.output
