import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.topk import Topk
from musae.metrics_log import JsonLines, tracker
from musae.recipe import Recipe
from musae.testing import sample_frames
from musae.training import CHECKPOINT, LOG, Trainer

SMALL = {"width": 32, "k": 3, "batch_size": 50, "epochs": 2, "dead_after": 0.05}


@pytest.fixture
def frames() -> TensorFrames:
    return TensorFrames(sample_frames(1000), identity="sample")


class Broken(TensorFrames):
    """A source that does something at a step."""

    def __init__(self, x: Tensor, step: int, action: object) -> None:
        super().__init__(x, identity="sample")
        self.step, self.action = step, action

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        batches = super().batches(batch_size, seed=seed, epochs=epochs, start_step=start_step)
        for step, x in enumerate(batches, start_step):
            yield self.action(x) if step == self.step else x


def crash(x: Tensor) -> Tensor:
    raise RuntimeError("power cut")


def interrupt(x: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGINT)
    return x


def poison(x: Tensor) -> Tensor:
    return x.index_fill(0, torch.tensor([3]), float("nan"))


@pytest.mark.parametrize(("action", "raises"), [(crash, RuntimeError), (interrupt, KeyboardInterrupt)])
def test_resumed_training_equals_uninterrupted_bit_for_bit(
    frames: TensorFrames, tmp_path: Path, action: object, raises: type[BaseException]
) -> None:
    whole = Topk(**SMALL).fit(frames, folder=tmp_path / "whole")
    with pytest.raises(raises):
        Topk(**SMALL).fit(Broken(frames._x, 27, action), folder=tmp_path / "cut")
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    resumed = Topk(**SMALL).fit(frames, folder=tmp_path / "cut")
    assert resumed.content_hash == whole.content_hash == Topk(**SMALL).fit(frames).content_hash
    steps = {kind: [json.loads(line)["step"] for line in (tmp_path / kind / LOG).open()] for kind in ("whole", "cut")}
    assert steps["cut"] == steps["whole"] == list(range(1, 41))


def test_an_interrupt_saves_the_step_that_was_being_done(frames: TensorFrames, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Topk(**SMALL).fit(Broken(frames._x, 9, interrupt), folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    read: list[int] = []
    original = frames.batches
    frames.batches = lambda *a, start_step, **b: (read.append(start_step), original(*a, start_step=start_step, **b))[1]
    Topk(**SMALL).fit(frames, folder=tmp_path)
    assert read == [10]


def test_a_finished_training_is_not_repeated(frames: TensorFrames, tmp_path: Path) -> None:
    first = Topk(**SMALL).fit(frames, folder=tmp_path)
    again = Topk(**SMALL).fit(Broken(frames._x, 0, crash), folder=tmp_path)
    assert again.content_hash == first.content_hash


def test_nan_frames_stop_with_step_and_shard_and_keep_the_checkpoint(frames: TensorFrames, tmp_path: Path) -> None:
    source = Broken(frames._x, 25, poison)
    source.locate_nonfinite = lambda: "shard 00007.safetensors, row 12"
    with pytest.raises(UserError, match=r"step 26.*00007\.safetensors.*" + CHECKPOINT):
        Topk(**SMALL).fit(source, folder=tmp_path)
    resumed = Topk(**SMALL).fit(frames, folder=tmp_path)
    assert resumed.content_hash == Topk(**SMALL).fit(frames).content_hash


def test_nan_frames_in_memory_are_located(frames: TensorFrames) -> None:
    frames._x[417, 2] = float("inf")
    with pytest.raises(UserError, match="row 417 of sample"):
        Topk(**SMALL).fit(frames)


def test_diverging_training_blames_the_learning_rate(frames: TensorFrames) -> None:
    with pytest.raises(UserError, match="lower the learning rate"):
        Topk(**{**SMALL, "learning_rate": float("inf")}).fit(frames)


@pytest.mark.parametrize(
    ("config", "identity"), [({**SMALL, "k": 4}, "sample"), ({**SMALL, "seed": 8}, "sample"), (SMALL, "another store")]
)
def test_a_checkpoint_of_another_training_is_refused(frames: TensorFrames, tmp_path: Path, config: dict, identity: str) -> None:
    Topk(**SMALL).fit(frames, folder=tmp_path)
    with pytest.raises(UserError, match="another training"):
        Topk(**config).fit(TensorFrames(frames._x, identity), folder=tmp_path)


def test_a_damaged_checkpoint_is_one_clear_error(frames: TensorFrames, tmp_path: Path) -> None:
    Topk(**SMALL).fit(frames, folder=tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=CHECKPOINT):
        Topk(**SMALL).fit(frames, folder=tmp_path)


def test_reports_carry_the_figures(frames: TensorFrames) -> None:
    lines: list[Mapping[str, float]] = []
    Topk(**SMALL).fit(frames, reports=[lines.append])
    assert len(lines) == 40
    assert set(lines[0]) == {"step", "steps", "seconds", "learning_rate", "loss", "fvu", "l0", "dead", "tokens_per_s"}
    assert lines[-1]["fvu"] < lines[0]["fvu"]
    assert 0 < lines[-1]["l0"] <= 3
    assert 0 <= lines[-1]["dead"] <= 1


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [Recipe(batch_size=1, learning_rate=2.0, warmup=0.1, decay=0.5).rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:51] == [2.0] * 42
    assert rates[75] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(2.0 / 50)
    assert all(r > 0 for r in rates)


def test_log_drops_lines_of_steps_that_will_be_repeated(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    for step in (1, 2, 3):
        log({"step": step, "loss": 0.5})
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')
    JsonLines(log.path, resume_at=2)({"step": 3, "loss": 0.25})
    assert [json.loads(line) for line in log.path.open()] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 0.25},
    ]


def test_trackers_receive_figures_or_say_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    fake = SimpleNamespace(init=lambda **a: seen.append(a), log=lambda figures, step: seen.append((step, figures)))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker("wandb", "project", "run", {"k": 3})({"step": 5, "loss": 1.0})
    assert seen == [{"project": "project", "name": "run", "config": {"k": 3}}, (5, {"loss": 1.0})]
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"musae\[trackio\]"):
        tracker("trackio", "project", "run")


def test_averages_of_rows_that_start_anew_start_there(frames: TensorFrames) -> None:
    """Otherwise a resampled atom would be frozen half-way to the dead direction that it had."""
    trainer = Trainer(Topk(**SMALL, ema=0.9), frames)
    for x in frames.batches(50, seed=0):
        trainer.advance(x)
    for name in ("W_enc", "b_enc", "W_dec"):
        with torch.no_grad():
            trainer.method.parameters[name][3] = 7
        trainer.moments[f"sq.{name}"][3] = 0
    before = trainer.averages["W_dec"].clone()
    trainer._average_anew()
    assert bool((trainer.averages["W_dec"][3] == 7).all())
    assert float(trainer.averages["b_enc"][3]) == 7
    assert torch.equal(trainer.averages["W_dec"][4:], before[4:])
