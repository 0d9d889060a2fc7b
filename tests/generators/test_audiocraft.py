"""MusicGen through audiocraft, on small random checkpoints as its export writes them: against audiocraft and transformers."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import random_audiocraft
import torch
from click.testing import CliRunner
from random_audiocraft import BOOKS, HOP, LAYERS, RATE, STEREO, WIDTH, WORDS
from torch import Tensor

from musae import registry
from musae.cli import main
from musae.errors import UserError
from musae.generators import audiocraft, musicgen
from musae.generators.audiocraft import package
from musae.generators.autoregressive import delay
from musae.testing_generators import check_generator

if find_spec("audiocraft") is None:  # importing it without stand-ins would fail
    pytest.skip(package.INSTALL, allow_module_level=True)

NO_TEXT: dict[str, Any] = {
    "conditioners": None,
    "fuser": {"sum": [], "prepend": [], "cross": [], "input_interpolate": []},
    "codebooks_pattern": {"modeling": None},
    "transformer_lm": {**random_audiocraft.LANGUAGE_MODEL["transformer_lm"], "bias_attn": True, "q_modeling": "delay"},
}
VARIANTS: dict[str, dict[str, Any]] = {"mono": {}, "stereo": STEREO, "no-text": NO_TEXT}
LARGEST = 1e-4
"""Difference from transformers that counts as rounding; 2.2e-6 was measured, of streams of up to 3."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few seconds: audiocraft and what it imports."""
    root = tmp_path_factory.mktemp("checkpoints")
    found = {name: random_audiocraft.save(root / name, changes) for name, changes in VARIANTS.items()}
    found["t5"] = random_audiocraft.save_text_encoder(root / "t5")
    found["transformers"] = random_audiocraft.to_transformers(found["mono"], found["t5"], root / "transformers")
    return found


def some_codes(books: int = BOOKS, frames: int = 11) -> Tensor:
    return torch.randint(WORDS, (2, books, frames), generator=torch.Generator().manual_seed(0))


def some_audio() -> Tensor:
    return torch.randn(2, 9 * HOP + 30, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_contract_is_kept(folders: dict[str, Path], name: str) -> None:
    source = str(folders[name])
    check_generator(SimpleNamespace(CARD=audiocraft.card(source), load=lambda: audiocraft.load(source)))


def test_the_card_is_the_configurations(folders: dict[str, Path]) -> None:
    card = audiocraft.card(str(folders["stereo"]))
    assert (card.name, card.rate, card.frame_rate, card.codebooks) == ("stereo", RATE, RATE / HOP, 2 * BOOKS)
    assert (card.width, card.layers, card.reading) == (WIDTH, LAYERS, "causal")
    assert audiocraft.load(str(folders["stereo"])).times(3).tolist() == pytest.approx([0.02, 0.04, 0.06])


@pytest.mark.parametrize("prompt", [None, "slow piano"])
def test_it_agrees_with_transformers_on_converted_weights(folders: dict[str, Path], prompt: str | None) -> None:
    """Streams at every layer, losses, codes, audio; and, under guidance, what is generated."""
    guidance = 3.0 if prompt else 1.0
    ours = audiocraft.load(str(folders["mono"]), prompt=prompt, guidance=guidance, text_encoder=str(folders["t5"]))
    theirs = musicgen.load(str(folders["transformers"]), prompt=prompt, guidance=guidance)
    codes, audio, layers = some_codes(frames=40), some_audio(), tuple(range(LAYERS + 1))
    found, expected = ours.stream(codes, layers), theirs.stream(codes, layers)
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], atol=LARGEST, rtol=0)
        assert float(found[layer].std()) > 0.3
    torch.testing.assert_close(ours.loss(codes), theirs.loss(codes), atol=LARGEST, rtol=0)
    encoded = ours.encode(audio)
    assert torch.equal(encoded, theirs.encode(audio))
    assert len(encoded.unique()) > 4
    torch.testing.assert_close(ours.decode(encoded), theirs.decode(encoded), atol=LARGEST, rtol=0)
    torch.testing.assert_close(ours.visible(encoded), theirs.visible(encoded))
    assert torch.equal(ours.generate(encoded, 8, seed=1), theirs.generate(encoded, 8, seed=1))


@pytest.mark.parametrize("name", VARIANTS)
def test_layers_and_delays_are_audiocrafts(folders: dict[str, Path], name: str) -> None:
    """Layer l is what a hook on block l sees in audiocraft's own forward pass over its own pattern; so are the logits."""
    model: Any = audiocraft.load(str(folders[name]))
    network, codes = model.network, some_codes(model.card.codebooks)
    pattern = network.pattern_provider.get_pattern(11)
    sequence, _, _ = pattern.build_pattern_sequence(codes, network.special_token_id)
    assert torch.equal(delay(codes, WORDS, model.delays), sequence[..., :12])
    hooked: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: hooked.append(out)) for block in network.transformer.layers]
    nothing = {"description": (torch.zeros(2, 3, WIDTH), torch.zeros(2, 3))} if name != "no-text" else {}
    with torch.inference_mode():
        logits = network(sequence[..., :12], conditions=[], condition_tensors=nothing)
    for hook in hooks:
        hook.remove()
    found = model.stream(codes, tuple(range(LAYERS + 1)))
    for layer in range(1, LAYERS + 1):
        torch.testing.assert_close(found[layer], hooked[layer - 1][:, 1:])
    with torch.inference_mode():
        heads = torch.stack([head(model.hidden(found[LAYERS])) for head in model.heads], 1)
    torch.testing.assert_close(heads, logits[:, :, 1:])


@pytest.mark.parametrize("name", ["mono", "stereo"])
def test_codes_and_audio_are_audiocrafts(folders: dict[str, Path], name: str) -> None:
    model: Any = audiocraft.load(str(folders[name]))
    encodec, channels = model.codec.network, model.codec.channels
    if channels == 2:
        encodec = package.audiocraft().models.encodec.InterleaveStereoCompressionModel(encodec)
    audio = some_audio()[:, None].expand(-1, channels, -1) * torch.tensor([1.0, 0.5])[:channels, None]
    with torch.inference_mode():
        expected = encodec.encode(audio[..., : 9 * HOP])[0]
        sound = encodec.decode(expected)[..., : 9 * HOP]
    codes = model.encode(audio)
    assert torch.equal(codes, expected)
    torch.testing.assert_close(model.decode(codes), sound.mean(1))
    assert model.encode(audio[..., : HOP - 1]).shape == (2, BOOKS * channels, 0)


def test_generation_with_a_cache_equals_full_passes(folders: dict[str, Path]) -> None:
    model: Any = audiocraft.load(str(folders["mono"]))
    for head in model.heads:  # all but greedy: the likeliest code is always drawn
        head.weight.data *= 1e4
    made = model.generate(some_codes(frames=5), 6, seed=0)
    with torch.inference_mode():
        hidden = model.hidden(model.stream(made, (LAYERS,))[LAYERS])
        logits = [head(hidden) for head in model.heads]
    for j, late in enumerate(model.delays):
        choices = logits[j].argmax(-1)
        for frame in range(5, 11 - late):
            assert torch.equal(choices[:, frame - 1 + late], made[:, j, frame])


def test_controls_prompts_and_precision_change_the_revision_only_of_the_stream(folders: dict[str, Path]) -> None:
    source, codes = str(folders["mono"]), some_codes()
    plain = audiocraft.load(source)
    models: list[Any] = [plain, audiocraft.load(source, prompt="slow piano", text_encoder=str(folders["t5"]))]
    models += [audiocraft.load(source, dtype="bfloat16"), models[0].untrained(5), models[0].untrained(6)]
    assert len({model.revision for model in models}) == 5
    assert len({model.codec_revision for model in models}) == 1
    streams = [model.stream(codes, (2,))[2] for model in models]
    assert all(stream.dtype == torch.float32 for stream in streams)
    assert float((streams[2] - streams[0]).norm() / streams[0].norm()) < 0.02
    assert not any(torch.allclose(streams[i], streams[j], atol=1e-2) for i in (0, 1, 3, 4) for j in (0, 1, 3, 4) if i < j)
    torch.testing.assert_close(streams[3], models[0].untrained(5).stream(codes, (2,))[2])
    torch.testing.assert_close(models[3].visible(codes), plain.visible(codes))


def test_a_codec_may_be_one_of_the_hubs(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``pretrained`` names an EnCodec in transformers' format: here in the hub's local cache, in its layout."""
    whole: Any = musicgen.load(str(folders["transformers"]))
    home = tmp_path / "hub" / "models--facebook--encodec_32khz"
    whole.codec.network.save_pretrained(home / "snapshots" / ("0" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    os.link(folders["mono"] / "state_dict.bin", folder / "state_dict.bin")
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True}, folder / "compression_state_dict.bin")
    model = audiocraft.load(str(folder))
    assert (model.card.rate, model.card.frame_rate) == (RATE, RATE / HOP)
    codes = model.encode(some_audio())
    assert torch.equal(codes, whole.encode(some_audio()))
    torch.testing.assert_close(model.decode(codes), whole.decode(codes))
    torch.save({"pretrained": "dac_44khz", "exported": True}, folder / "compression_state_dict.bin")
    with pytest.raises(UserError, match="its codec is 'dac_44khz'"):
        audiocraft.card(str(folder))


def test_harvest_reads_a_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    """`musae harvest audiocraft:FOLDER`, as a user calls it."""
    name = f"audiocraft:{folders['mono']}"
    assert registry.find("generators", name).card == audiocraft.card(str(folders["mono"]))
    arguments = ["harvest", name, "--corpus", "procedural", "--clips", "3", "--seconds", "1"]
    arguments += ["--layer", "1", "--layer", "3", "--root", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "150 frames of width 32" in result.output
    prompted = ["--with", "prompt=slow jazz", "--with", f"text_encoder={folders['t5']}", "--with", "dtype=bfloat16"]
    result = CliRunner().invoke(main, [*arguments, *prompted])
    assert result.exit_code == 0, result.output
    wrong = CliRunner().invoke(main, [*arguments, "--with", "device=cuda:99"])
    assert "audiocraft: device 'cuda:99' is not there" in wrong.output
    wrong = CliRunner().invoke(main, [*arguments, "--layer", "9"])
    assert wrong.exit_code == 2
    assert "has layers 0 to 3" in wrong.output


def test_stand_ins_are_gone_and_say_what_is_missing() -> None:
    found = package.audiocraft()
    absent = [name for name in package.STAND_INS if find_spec(name) is None]
    assert not set(absent) & set(sys.modules)
    if "torchaudio" in absent:
        with pytest.raises(UserError, match=r"melody \(chroma\) conditions and spectrograms needs torchaudio"):
            found.modules.chroma.torchaudio.transforms.Spectrogram(n_fft=8)


def test_without_audiocraft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flashy", None)
    with pytest.raises(UserError, match=r"need audiocraft.*--no-deps audiocraft==1\.3\.0, then pip install"):
        package.audiocraft.__wrapped__()
