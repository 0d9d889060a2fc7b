"""MAGNeT, a generator that is not autoregressive, through audiocraft, on small random checkpoints: against audiocraft itself."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import random_audiocraft
import torch
from click.testing import CliRunner
from random_audiocraft import BOOKS, HOP, LAYERS, MAGNET, RATE, WIDTH, WORDS
from torch import Tensor

from musae.cli import main
from musae.errors import UserError
from musae.generators import audiocraft
from musae.generators.audiocraft import magnet, package
from musae.generators.autoregressive import inverted
from musae.testing_generators import check_generator

if find_spec("audiocraft") is None:
    pytest.skip(package.INSTALL, allow_module_level=True)

FRAMES = 24
"""A multiple of the span, 3, and of 8, to which audiocraft aligns its masks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_audiocraft.save(tmp_path_factory.mktemp("checkpoints") / "magnet", MAGNET)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_audiocraft.save_text_encoder(tmp_path_factory.mktemp("t5"))


def some_codes(clips: int = 2, frames: int = FRAMES) -> Tensor:
    return torch.randint(WORDS, (clips, BOOKS, frames), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("step", ["", "#codebook=3,masked=0.25", "#codebook=2,masked=1"])
def test_the_contract_is_kept(folder: Path, step: str) -> None:
    source = f"{folder}{step}"
    check_generator(SimpleNamespace(CARD=audiocraft.card(source), load=lambda: audiocraft.load(source)))


def test_the_step_is_part_of_the_name_the_card_and_the_revision(folder: Path) -> None:
    models: list[Any] = [
        audiocraft.load(f"{folder}{step}") for step in ("", "#codebook=1", "#masked=0.6", "#masked=0.6,codebook=2")
    ]
    assert [str(model.step) for model in models] == [
        f"codebook={c},masked={m}" for c, m in ((1, 0.5), (1, 0.5), (1, 0.6), (2, 0.6))
    ]
    assert models[0].revision == models[1].revision
    assert len({model.revision for model in models}) == 3
    assert len({model.codec_revision for model in models}) == 1
    assert models[3].card.summary == "MAGNeT of 3 blocks, width 32, through audiocraft, at codebook=2,masked=0.6."
    assert (models[3].card.reading, models[3].card.frame_rate) == ("bidirectional", RATE / HOP)


@pytest.mark.parametrize(
    "step",
    ["codebook=0", "codebook=5", "masked=0", "masked=1.5", "masked=nan", "masked", "stage=1", "codebook=1.5", "", "masked=.5,"],
)
def test_a_step_that_does_not_exist_is_refused(folder: Path, step: str) -> None:
    if not step:
        assert str(audiocraft.load(f"{folder}#").step) == "codebook=1,masked=0.5"  # type: ignore[attr-defined]
        return
    with pytest.raises(UserError, match=r"is no decoding step; write #codebook=1,masked=0\.5 with a codebook from 1 to 4"):
        audiocraft.load(f"{folder}#{step}")
    with pytest.raises(UserError, match="all is masked, and every clip has the same stream"):
        audiocraft.card(f"{folder}#masked=1")


def audiocrafts_masks(network: Any) -> None:
    """Give audiocraft's own forward pass its attention masks, for `FRAMES`."""
    network.attn_mask_per_stage = [
        network._stage_attn_mask(stage, FRAMES, 4, torch.device("cpu"), torch.float32) for stage in range(BOOKS)
    ]


@pytest.mark.parametrize("codebook", [1, 2, 4])
def test_stream_and_loss_are_audiocrafts(folder: Path, codebook: int) -> None:
    """Layer l is what a hook on block l sees in audiocraft's own forward pass over what the step reads; so is the loss."""
    model: Any = audiocraft.load(f"{folder}#codebook={codebook},masked=0.5")
    network, codes, stage = model.network, some_codes(), codebook - 1
    audiocrafts_masks(network)
    masks = model.masks(codes)
    read = codes.clone()
    read[:, stage][masks] = WORDS
    read[:, codebook:] = WORDS
    hooked: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: hooked.append(out)) for block in network.transformer.layers]
    nothing = {"description": (torch.zeros(2, 3, WIDTH), torch.zeros(2, 3))}
    with torch.inference_mode():
        logits = network(read, conditions=[], condition_tensors=nothing, stage=stage)
    for hook in hooks:
        hook.remove()
    found = model.stream(codes, tuple(range(LAYERS + 1)))
    for layer in range(1, LAYERS + 1):
        torch.testing.assert_close(found[layer], hooked[layer - 1])
    losses = model.loss(codes)
    for clip in range(2):
        nats = torch.nn.functional.cross_entropy(logits[clip, stage][masks[clip]], codes[clip, stage][masks[clip]])
        torch.testing.assert_close(losses[clip, stage], nats)
    assert losses.count_nonzero() == 2


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("frames", [FRAMES, 23])
def test_masks_are_spans_that_each_clip_draws_for_itself(folder: Path, share: float, frames: int) -> None:
    model: Any = audiocraft.load(f"{folder}#codebook=2,masked={share}")
    codes = some_codes(40, frames)
    masks = model.masks(codes)
    assert torch.equal(masks, torch.cat([model.masks(clip[None]) for clip in codes]))
    padded = torch.nn.functional.pad(masks, (0, FRAMES - frames), value=False).view(40, 8, 3)
    assert set(padded[..., 0].sum(1).tolist()) == {int(share * 8)}
    assert torch.equal(padded[:, :7].all(-1), padded[:, :7].any(-1))
    if share < 1:
        assert len({tuple(mask.tolist()) for mask in masks}) > 15
        assert float(masks.float().mean(0).std()) < 0.15  # all positions are masked about as often
    shown = model.visible(codes).view(40, frames, BOOKS, -1)
    words = model.codec.codewords(codes)
    assert torch.equal(shown[:, :, 0], words[:, 0])
    assert torch.equal(shown[:, :, 1], words[:, 1].masked_fill(masks[..., None], 0))
    assert not shown[:, :, 2:].any()


@pytest.mark.parametrize("prompt", [None, "slow piano"])
def test_generation_is_audiocrafts(folder: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, prompt: str | None) -> None:
    """With the same random numbers, audiocraft's own decoding of every codebook gives the same codes, with guidance too."""
    options: dict[str, Any] = {"prompt": prompt, "guidance": 4.0, "text_encoder": str(encoder)} if prompt else {}
    model: Any = audiocraft.load(str(folder), **options)
    audiocrafts_masks(model.network)
    given = 7
    made = model.generate(some_codes(frames=given), FRAMES - given, seed=3)
    draw = torch.Generator().manual_seed(3)

    def sample(probabilities: Tensor, p: float) -> Tensor:
        assert p == magnet.NUCLEUS
        uniform = torch.rand(2, FRAMES, generator=draw, dtype=torch.float64)
        return inverted(magnet._nucleus(probabilities[:, 0]), uniform)[:, None, :, None]

    monkeypatch.setattr(package.audiocraft().utils.utils, "sample_top_p", sample)
    both = torch.cat([model.text.expand(2, -1, -1), model.no_text.expand(2, -1, -1)])
    guidance = {"max_cfg_coef": options.get("guidance", 1.0), "min_cfg_coef": 1.0}
    codes = torch.full((2, BOOKS, FRAMES), WORDS)
    codes[..., :given] = some_codes(frames=given)
    for stage, steps in enumerate((20, 10, 10, 10)):  # as audiocraft's MAGNeT sets it
        codes, _ = model.network._generate_stage(
            codes,
            {"description": (both, torch.ones(both.shape[:2]))},
            stage=stage,
            device=torch.device("cpu"),
            prompt_length=given,
            prompt=some_codes(frames=given),
            temp=3.0,
            top_p=0.9,
            timesteps=steps,
            **guidance,
        )
    assert torch.equal(made, codes)
    assert len(made[..., given:].unique()) > 8


def test_a_splice_is_made_for_the_steps_of_its_codebook(folder: Path) -> None:
    model: Any = audiocraft.load(f"{folder}#codebook=2")
    seen: list[tuple[int, ...]] = []

    def silence(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return torch.zeros_like(x)

    prompt = some_codes(frames=6)
    plain, spliced = (model.generate(prompt, 8, seed=1, layer=at, splice=s) for at, s in ((None, None), (2, silence)))
    assert seen == [(2, 14, WIDTH)] * magnet.LATER_STEPS
    assert torch.equal(plain[:, 0], spliced[:, 0])
    assert not torch.equal(plain[:, 1], spliced[:, 1])
    assert torch.equal(model.generate(prompt, 0, seed=1), prompt)
    assert model.generate(prompt[..., :0], 5, seed=1).shape == (2, BOOKS, 5)
    with pytest.raises(UserError, match="a splice needs a layer"):
        model.loss(prompt, splice=silence)


def test_the_untrained_control_keeps_codec_and_step(folder: Path) -> None:
    model: Any = audiocraft.load(f"{folder}#codebook=2,masked=0.25")
    control, codes = model.untrained(5), some_codes()
    assert (str(control.step), control.codec_revision) == (str(model.step), model.codec_revision)
    assert control.revision not in (model.revision, model.untrained(6).revision)
    assert not torch.allclose(control.stream(codes, (2,))[2], model.stream(codes, (2,))[2])
    torch.testing.assert_close(control.visible(codes), model.visible(codes))


def test_harvest_takes_the_step_in_the_name(folder: Path, tmp_path: Path) -> None:
    """`musae harvest audiocraft:FOLDER#codebook=2,masked=0.25`, as a user calls it."""
    arguments = ["harvest", f"audiocraft:{folder}#codebook=2,masked=0.25", "--corpus", "procedural", "--clips", "3"]
    result = CliRunner().invoke(main, [*arguments, "--seconds", "1", "--layer", "2", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "150 frames of width 32" in result.output
