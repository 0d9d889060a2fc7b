"""Streams on a generator whose numbers can be told by hand, and trainings over them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import FakeGenerator, make_tokens

from musae import streaming
from musae.activations.harvest import harvest
from musae.errors import UserError
from musae.methods.topk import Topk
from musae.streaming import Stream, train
from musae.training import CHECKPOINT, Trainer

RECIPE = {"batch_size": 50, "learning_rate": 1e-2, "dead_after": 0.1}


def stream(generator: FakeGenerator | None = None, layers: tuple[int, ...] = (1, 3), **options: object) -> Stream:
    """40 clips of 12 frames in pools of 5 clips, four clips a forward pass."""
    settings = {"buffer_frames": 60, "batch_clips": 4, "seed": 7} | options
    return Stream(generator or FakeGenerator(), make_tokens(40), layers, **settings)


def grid(source: Stream, folder: Path | None = None) -> list[Trainer]:
    """Two dictionaries of each layer."""
    return [
        Trainer(Topk(width=16, k=k, seed=k, **RECIPE), source.source(layer), folder=folder / f"L{layer}-k{k}" if folder else None)
        for layer in source.layers
        for k in (2, 3)
    ]


def hashes(trainers: list[Trainer]) -> list[str]:
    for trainer in trainers:
        trainer.finish()
    return [trainer.method.freeze().content_hash for trainer in trainers]


def test_every_frame_comes_once_and_layers_have_the_same_frames() -> None:
    found = list(stream().batches(50))
    assert [len(batch[1]) for batch in found] == [50] * 9 + [30]
    for batch in found:
        assert torch.equal(batch[1][:, :2], batch[3][:, :2])
        assert set(batch[1][:, 2].tolist()) == {1.0}
        assert set(batch[3][:, 2].tolist()) == {3.0}
    frames = torch.cat([batch[1] for batch in found])[:, :2].int().tolist()
    assert Counter(map(tuple, frames)) == Counter((clip, frame) for clip in range(40) for frame in range(12))


def test_the_generator_runs_once_for_all_layers_and_trainers() -> None:
    generator = FakeGenerator()
    source = stream(generator)
    trainers = grid(source)
    train(source, trainers)
    assert sum(clips for clips, _ in generator.calls) == 40
    assert {layers for _, layers in generator.calls} == {(1, 3)}
    assert all(clips <= 4 for clips, _ in generator.calls)


def test_memory_is_a_pool_of_each_layer() -> None:
    source = stream()
    next(source.batches(50))
    assert [buffer.shape for buffer in source._buffers] == [(5, 12, 8)] * 2
    assert all(buffer.dtype == torch.float16 for buffer in source._buffers)


def test_a_stream_gives_the_values_that_a_store_gives(tmp_path: Path) -> None:
    store = harvest(FakeGenerator(), make_tokens(40), (1,), tmp_path)[1]
    one = torch.cat([batch[1] for batch in stream(layers=(1,)).batches(50)])
    two = torch.cat(list(store.batches(50, seed=7)))
    order = [np.lexsort(x[:, :2].T.numpy()) for x in (one, two)]
    assert torch.equal(one[order[0]], two[order[1]])


def test_same_seed_same_dictionaries_and_another_order_others() -> None:
    found = []
    for seed in (7, 7, 8):
        source = stream(seed=seed)
        trainers = grid(source)
        train(source, trainers)
        found.append(hashes(trainers))
    assert found[0] == found[1]
    assert not set(found[0]) & set(found[2])


def test_training_together_equals_training_alone_in_the_same_order() -> None:
    source = stream()
    trainers = grid(source)
    train(source, trainers)
    method = Topk(width=16, k=2, seed=2, **RECIPE)
    alone = stream(layers=(3,))
    trainer = Trainer(method, alone.source(3))
    for batch in alone.batches(50):
        trainer.advance(batch[3])
    trainer.finish()
    assert method.freeze().content_hash == hashes(trainers)[2]


@pytest.mark.parametrize("calls", [3, 9, 14])
def test_resumed_at_different_steps_equals_uninterrupted(tmp_path: Path, calls: int) -> None:
    """The power is cut after so many of 16 forward passes; one training is set back further, to its start."""
    whole = stream()
    expected = grid(whole)
    train(whole, expected)
    generator = FakeGenerator()
    generator.fail_after = calls
    source = stream(generator)
    cut = grid(source, tmp_path)
    with pytest.raises(RuntimeError, match="power cut"):
        train(source, cut)
    (tmp_path / "L3-k3" / CHECKPOINT).unlink(missing_ok=True)
    generator.fail_after = None
    source = stream(generator)
    trainers = grid(source, tmp_path)
    assert trainers[-1].done == 0 < trainers[0].done
    train(source, trainers)
    assert hashes(trainers) == hashes(expected)


def test_pools_that_lie_before_are_not_computed() -> None:
    generator = FakeGenerator()
    source = stream(generator)
    late = list(source.batches(50, start_step=6))
    assert sum(clips for clips, _ in generator.calls) == 15  # frames 300 to 480: pools 6, 7, 8 of 8, counted from 1
    whole = list(stream().batches(50))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(late, whole[6:], strict=True))


def test_epochs_are_passes_in_another_order() -> None:
    generator = FakeGenerator()
    batches = [batch[1] for batch in stream(generator).batches(50, epochs=2)]
    assert len(batches) == 20
    assert sum(clips for clips, _ in generator.calls) == 80
    assert not torch.equal(batches[0], batches[10])


def test_sources_sample_the_first_pool() -> None:
    generator = FakeGenerator()
    source = stream(generator).source(3)
    x = source.sample(1000, seed=1)
    assert (source.d, source.frames, len(x)) == (8, 480, 60)
    assert torch.allclose(source.mean(), x.mean(0), atol=1e-3)
    assert torch.equal(source.sample(20, seed=1), x[:20])
    assert not torch.equal(source.sample(20, seed=2), x[:20])
    assert sum(clips for clips, _ in generator.calls) == 5


def test_a_sample_of_a_large_pool_is_its_beginning_and_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SAMPLED", 90)
    generator = FakeGenerator()
    source = stream(generator, buffer_frames=240)
    assert len(source.source(3).sample(1000, seed=1)) == 96
    assert [clips for clips, _ in generator.calls] == [4, 4]
    found = list(source.batches(50))
    assert sum(clips for clips, _ in generator.calls) == 40
    assert all(torch.equal(a[3], b[3]) for a, b in zip(found, stream(buffer_frames=240).batches(50), strict=True))


def test_identity_is_of_all_that_determines_the_frames() -> None:
    tokens = make_tokens(40)
    base = Stream(FakeGenerator(), tokens, (1, 3)).source(1).identity
    others = [
        Stream(FakeGenerator("5eed5eed00"), tokens, (1,)).source(1),
        Stream(FakeGenerator(), tokens, (1, 3)).source(3),
        Stream(FakeGenerator(), make_tokens(41), (1,)).source(1),
        Stream(FakeGenerator(), tokens, (1,), seed=1).source(1),
        Stream(FakeGenerator(), tokens, (1,), dtype="float32").source(1),
        Stream(FakeGenerator(), tokens, (1,), buffer_frames=24).source(1),
    ]
    assert Stream(FakeGenerator(), tokens, (1,)).source(1).identity == base
    assert len({base, *(source.identity for source in others)}) == 7


class Poisoned(FakeGenerator):
    def stream(self, codes: torch.Tensor, layers: tuple[int, ...]) -> dict[int, torch.Tensor]:
        found = super().stream(codes, layers)
        found[3][codes[:, 0, 0] == 17, 4] = float("nan")
        return found


def test_nan_activations_are_named_by_clip_and_layer() -> None:
    source = stream(Poisoned())
    with pytest.raises(UserError, match=r"clip t017@00000250, frame 4, layer 3.*NaN"):
        for _ in source.batches(50):
            pass


def test_one_training_that_diverges_ends_alone() -> None:
    source = stream()
    good = Trainer(Topk(width=16, k=2, seed=2, **RECIPE), source.source(1))
    bad = Trainer(Topk(width=16, k=2, seed=2, **RECIPE | {"learning_rate": float("inf")}), source.source(1))
    told: list[tuple[Trainer, str]] = []
    train(source, [bad, good], lambda trainer, error: told.append((trainer, str(error))))
    assert [trainer for trainer, _ in told] == [bad]
    assert "lower the learning rate" in told[0][1]
    assert good.done == good.steps == 10
    with pytest.raises(UserError, match="lower the learning rate"):
        train(source, [Trainer(Topk(width=16, k=2, **RECIPE | {"learning_rate": float("inf")}), source.source(1))])


def test_bad_combinations_are_refused() -> None:
    source = stream()
    with pytest.raises(UserError, match="layer 2 is not streamed"):
        source.source(2)
    with pytest.raises(UserError, match=r"batch_size \[50, 60\]"):
        train(source, [Trainer(Topk(width=16, k=2, batch_size=size), source.source(1)) for size in (50, 60)])
    with pytest.raises(UserError, match="not of this stream"):
        train(stream(), [Trainer(Topk(width=16, k=2), source.source(1))])
    with pytest.raises(UserError, match="choose 0 to 3"):
        stream(layers=(4,))
