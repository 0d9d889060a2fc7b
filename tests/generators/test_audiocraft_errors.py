"""Checkpoints that audiocraft's generator cannot read: one sentence each."""

import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import random_audiocraft
import torch
from random_audiocraft import CODEC, LANGUAGE_MODEL

from musae import registry
from musae.errors import UserError
from musae.generators import audiocraft
from musae.generators.audiocraft.package import INSTALL

if find_spec("audiocraft") is None:
    pytest.skip(INSTALL, allow_module_level=True)

LM, SOUND = "state_dict.bin", "compression_state_dict.bin"


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_audiocraft.save(tmp_path_factory.mktemp("checkpoints") / "mono")


@pytest.fixture
def folder(sound_folder: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    for name in (LM, SOUND):
        (tmp_path / name).write_bytes((sound_folder / name).read_bytes())
    return tmp_path


class Command:
    """What a malicious pickle holds: a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never run",))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Load a file, change what it holds, save it."""
    package = torch.load(path, weights_only=True)
    change(package)
    torch.save(package, path)


def configure(path: Path, original: dict[str, Any], **changes: Any) -> None:
    """Change the configuration alone."""
    from omegaconf import OmegaConf

    edit(path, lambda package: package.update({"xp.cfg": OmegaConf.to_yaml(OmegaConf.create(original | changes))}))


def lm(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: configure(folder / LM, LANGUAGE_MODEL, **changes)


MELODY = {"self_wav": {"model": "chroma_stem", "chroma_stem": {}}, **LANGUAGE_MODEL["conditioners"]}
CLAP = {"description": {"model": "clap", "clap": {}}}
SHAPE = LANGUAGE_MODEL["transformer_lm"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / LM).unlink(), r"no state_dict\.bin; give a folder with state_dict\.bin and compression"),
        (lambda folder: (folder / SOUND).unlink(), r"no compression_state_dict\.bin; give"),
        (lambda folder: truncate(folder / LM), r"state_dict\.bin: is damaged.*download it again"),
        (lambda folder: truncate(folder / SOUND), r"compression_state_dict\.bin: is damaged"),
        (lambda folder: (folder / LM).write_bytes(b""), "is damaged"),
        (lambda folder: (folder / LM).write_text("<html>not found</html>" * 9), "is damaged, or no checkpoint"),
        (lambda folder: (folder / LM).write_bytes(pickle.dumps(Command(), protocol=2)), "Python objects besides tensors"),
        (lambda folder: torch.save({"best_state": Command(), "xp.cfg": ""}, folder / LM), "may run code when they are read"),
        (lambda folder: torch.save([torch.ones(2)], folder / LM), "holds no best_state and xp.cfg"),
        (lambda folder: torch.save({"sample_rate": 1, "n_bands": 4}, folder / LM), "holds no best_state"),
        (lambda folder: edit(folder / LM, lambda p: p.update({"xp.cfg": "a: [1"})), "xp.cfg, cannot be read"),
        (lambda folder: edit(folder / LM, lambda p: p.update({"xp.cfg": "just words"})), "lm_model is None"),
        (lm(lm_model="flow_matching"), "lm_model is 'flow_matching', and this generator reads transformer_lm"),
        (lm(transformer_lm={"dim": 32}), r"says nothing of transformer_lm\.n_q"),
        (lm(fuser={}), r"says nothing of fuser\.cross"),
        (lm(lm_model="transformer_lm_magnet"), r"says nothing of masking\.span_len"),
        (lambda folder: configure(folder / SOUND, CODEC, seanet={}), r"says nothing of seanet\.ratios"),
        (lm(conditioners=MELODY), "conditions on a melody.*musicgen:facebook/musicgen-melody"),
        (lm(conditioners=CLAP), r"conditions on description \(clap\), and this generator reads"),
        (lm(codebooks_pattern={"modeling": "unroll"}), "UnrolledPatternProvider"),
        (lm(codebooks_pattern={"modeling": "parallel", "parallel": {"empty_initial": -1}}), "ParallelPatternProvider"),
        (lm(codebooks_pattern={"modeling": "delay", "delay": {"flatten_first": 2}}), "DelayedPatternProvider"),
        (lm(conditioners={}), "conditions on nothing that it names, and"),
        (lm(interleave_stereo_codebooks={"use": True, "per_timestep": True}), "left and right alternate in time"),
        (lm(transformer_lm=SHAPE | {"num_heads": 5}), "audiocraft cannot build a model"),
        (lm(transformer_lm=SHAPE | {"num_layers": 4}), r"tensors are not those of its configuration \(Missing.*layers\.3"),
        (lm(transformer_lm=SHAPE | {"card": 15}), "tensors are not those"),
        (lambda folder: edit(folder / LM, lambda p: p["best_state"].pop("out_norm.bias")), r"Missing.*out_norm\.bias"),
        (lambda folder: configure(folder / SOUND, CODEC, compression_model="dac"), "reads a mono EnCodec"),
        (lambda folder: configure(folder / SOUND, CODEC, encodec=CODEC["encodec"] | {"channels": 2}), "reads a mono EnCodec"),
        (lambda folder: configure(folder / SOUND, CODEC, rvq=CODEC["rvq"] | {"bins": 8}), "tensors are not those"),
        (lambda folder: edit(folder / SOUND, lambda p: p["best_state"].clear()), "tensors are not those"),
        (lambda folder: torch.save({"pretrained": "../../etc"}, folder / SOUND), "its codec is '../../etc'"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], says: str
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=says) as caught:
        audiocraft.load(str(folder))
    assert "\n" not in str(caught.value)
    assert "never run" not in capsys.readouterr().out


def test_files_of_two_checkpoints_do_not_go_together(folder: Path) -> None:
    stereo = random_audiocraft.save(folder / "other", random_audiocraft.STEREO | {"interleave_stereo_codebooks": {"use": False}})
    with pytest.raises(UserError, match="has 4 codebooks of 16 codewords, and the language model reads 8 of 16"):
        audiocraft.load(str(stereo))


def test_what_cannot_be_found_or_done_says_so(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source, says in (
        ("facebook/no-such-musicgen", "audiocraft:facebook/no-such-musicgen: not in the local cache"),
        (f"{folder}/missing", "neither a folder nor a hub id"),
        (f"{folder}#codebook=1", "it is autoregressive.*leave out #codebook=1"),
    ):
        with pytest.raises(UserError, match=says):
            audiocraft.card(source)
    with pytest.raises(UserError, match="nothing follows its colon"):
        registry.find("generators", "audiocraft:")
    with pytest.raises(UserError, match="give a prompt"):
        audiocraft.load(str(folder), guidance=3.0)
    with pytest.raises(UserError, match="a prompt needs the text encoder t5-base, which cannot be read"):
        audiocraft.load(str(folder), prompt="slow")
    with pytest.raises(UserError, match="layer 4 does not exist"):
        audiocraft.load(str(folder)).stream(torch.zeros(1, 4, 3, dtype=torch.int64), (4,))


@pytest.mark.parametrize(
    ("conditioners", "says"),
    [
        (None, "was trained without texts"),
        ({"description": {"model": "lut", "lut": {}}}, "splits or normalises texts with spaCy"),
        ({"description": {"model": "t5", "t5": {"name": "t5-base", "normalize_text": True}}}, "normalises texts with spaCy"),
        ({"description": {"model": "t5", "t5": {"name": "/etc", "normalize_text": False}}}, "its text encoder is '/etc'"),
    ],
)
def test_a_prompt_that_cannot_be_read(folder: Path, conditioners: Any, says: str) -> None:
    fused = LANGUAGE_MODEL["fuser"] | ({} if conditioners else {"cross": []})
    if conditioners is None:
        edit(folder / LM, lambda p: [p["best_state"].pop(k) for k in list(p["best_state"]) if "cross" in k])
    configure(folder / LM, LANGUAGE_MODEL, conditioners=conditioners, fuser=fused)
    with pytest.raises(UserError, match=says):
        audiocraft.load(str(folder), prompt="slow")


def test_a_text_encoder_of_another_width_is_refused(folder: Path, tmp_path: Path) -> None:
    edit(
        folder / LM,
        lambda p: p["best_state"].update({"condition_provider.conditioners.description.output_proj.weight": torch.ones(32, 7)}),
    )
    encoder = random_audiocraft.save_text_encoder(tmp_path / "t5")
    with pytest.raises(UserError, match="has width 24, and the model reads 7"):
        audiocraft.load(str(folder), prompt="slow", text_encoder=str(encoder))
    edit(folder / LM, lambda p: p["best_state"].update({"condition_provider.conditioners.description.t5.x": torch.ones(1)}))
    with pytest.raises(UserError, match="was trained along"):
        audiocraft.load(str(folder), prompt="slow", text_encoder=str(encoder))
