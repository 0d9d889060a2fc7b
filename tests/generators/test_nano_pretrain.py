"""Pre-training of nano on a made-up corpus: resumption bit for bit, schedule, stages, baselines, and what is exported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from musae.activations.tokens import Tokens
from musae.card import CorpusCard
from musae.corpora.track import Annotations, Clip, Split, Track
from musae.errors import UserError
from musae.generators.nano import codec as codecs
from musae.generators.nano import data, pretrain
from musae.generators.nano.codec import Codec
from musae.generators.nano.pretrain import Settings

TINY = {"width": 32, "layers": 2, "heads": 2}


class Tones:
    """Tracks of 15 seconds, a random note each half second."""

    card = CorpusCard(name="tones", summary="", licence="CC0-1.0", source="", truth={})
    revision = "0123456789"

    def __init__(self) -> None:
        self.rendered = 0

    def tracks(self, split: Split) -> Sequence[Track]:
        count = 6 if split is Split.TRAIN else 2
        return [Track(f"{split}-{i}", f"{split}{i}", split, "CC0-1.0", 15.0, Annotations()) for i in range(count)]

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[NDArray[np.float32]]:
        for clip in clips:
            self.rendered += 1
            rng = np.random.default_rng(list(clip.track.id.encode()))
            pitch = np.repeat(110 * 2 ** (rng.integers(0, 36, round(2 * clip.duration)) / 12), rate // 2)
            yield (0.1 * np.sin(2 * np.pi * np.cumsum(pitch) / rate)).astype(np.float32)


class After:
    """Says stop from the n-th question on."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHUNK_SECONDS", 40.0)  # three tracks a chunk


def settings(**changes: object) -> Settings:
    tiny = Settings(hours={"tones": None}, codewords=32, codec_frames=1000, steps=8, batch=2, warmup=2, shape=TINY)
    return replace(tiny, **changes)  # type: ignore[arg-type]


def run(folder: Path, chosen: Settings, questions: int = 10**9, corpus: Tones | None = None) -> bool:
    made = corpus or Tones()
    folder.mkdir(exist_ok=True)
    return pretrain.pretrain(
        folder, chosen, stop=After(questions), destination=folder / "export", load_corpus=lambda name: made, say=lambda line: None
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)["weights"]


def test_training_in_pieces_equals_training_in_one_go(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", settings())
    calls = 0
    while not run(tmp_path / "pieces", settings(), questions=3):
        calls += 1
        assert calls < 20
    assert calls >= 2
    whole, pieces = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)
    untouched = weights(tmp_path / "whole")
    assert run(tmp_path / "whole", settings())  # complete: nothing is trained again
    assert all(torch.equal(untouched[name], w) for name, w in weights(tmp_path / "whole").items())
    for name in ("model.safetensors", "codec.safetensors", "card.json"):
        assert (tmp_path / "whole" / "export" / name).is_file()


def test_rendering_resumes_at_its_chunk_and_held_out_tracks_stay_out(tmp_path: Path) -> None:
    corpus = Tones()
    assert not run(tmp_path, settings(), questions=2, corpus=corpus)
    before = corpus.rendered
    assert 0 < before < 8
    assert run(tmp_path, settings(steps=1), corpus=corpus)
    assert corpus.rendered == 8
    codes = Tokens.load_packed(tmp_path / "export" / "training_codes.npz")
    assert codes.codes.shape == (4300, 4, 256)
    assert set(codes.groups) == {f"train{i}" for i in range(6)}
    assert codes.starts.min() >= 0
    assert codes.starts.max() <= 15 - 10.24
    assert codes.corpus_revisions == {"tones": Tones.revision}


def test_exported_codes_are_the_tracks_codes(tmp_path: Path) -> None:
    assert run(tmp_path, settings(steps=1))
    codec = Codec.load(tmp_path / "export" / "codec.safetensors")
    stored = Tokens.load_packed(tmp_path / "export" / "training_codes.npz")
    assert stored.codec == codec.revision
    corpus = Tones()
    track = next(t for t in corpus.tracks(Split.TRAIN) if t.id == stored.tracks[0])
    assert stored.clips[0] == Clip(track, stored.starts[0], 10.24).id
    (audio,) = corpus.audio([Clip(track, 0.0, track.duration)], codecs.RATE)
    first = round(stored.starts[0] * 25)
    anew = codec.encode(torch.from_numpy(audio)[None])[0, :, first : first + 256].numpy()
    assert (anew == stored.codes[0]).mean() > 0.98  # stored features are float16: a frame between two codewords may differ


def test_schedule_can_be_prolonged_or_cut_short_from_before_its_decay(tmp_path: Path) -> None:
    rate = settings(steps=100, warmup=10, peak=1.0).rate
    assert [rate(0), rate(9), rate(74), rate(99)] == pytest.approx([0.1, 1.0, 1.0, 0.04])
    assert run(tmp_path / "a", settings(steps=8))  # decays from step 6 on
    assert run(tmp_path / "a", settings(steps=12))  # goes on from step 6, not from the decayed weights of step 8
    assert run(tmp_path / "b", settings(steps=12))
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path, settings(steps=1))
    with pytest.raises(UserError, match="choose another folder"):
        run(tmp_path, settings(steps=4, batch=3))


def test_a_codec_serves_only_what_it_was_fitted_on(tmp_path: Path) -> None:
    chosen, revisions = settings(), {"tones": Tones.revision}
    name = pretrain.codec_name(chosen, revisions)
    assert name == pretrain.codec_name(settings(steps=99, peak=1.0), revisions)
    others = [settings(hours={"tones": 1.0}), settings(codec_frames=999), settings(codewords=16), settings(seed=1)]
    names = {pretrain.codec_name(other, revisions) for other in others} | {pretrain.codec_name(chosen, {"tones": "other"})}
    assert len(names) == 5
    assert name not in names
    assert run(tmp_path, settings(steps=1))
    assert (tmp_path / name).is_file()
    with pytest.raises(UserError, match=r"codec .*; choose another folder"):
        run(tmp_path, settings(steps=2, codec_frames=300))


def test_a_checkpoint_without_a_codec_goes_on_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, settings(steps=4))
    for name in ("checkpoint.pt", "stable.pt"):
        state = torch.load(tmp_path / name, weights_only=True)
        del state["codec"]
        torch.save(state, tmp_path / name)
    assert run(tmp_path, settings(steps=6))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["codec"]
    (tmp_path / "checkpoint.pt").write_bytes((tmp_path / "checkpoint.pt").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint\.pt: not a checkpoint, or damaged"):
        run(tmp_path, settings(steps=8))


def test_a_loss_that_is_not_finite_says_what_helps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"choose another --out folder and a lower --peak"):
        run(tmp_path, settings(steps=8, peak=float("inf")))


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path) -> None:
    assert run(tmp_path, settings(steps=100, peak=3e-3, batch=4))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [50, 100]
    card = json.loads((tmp_path / "export" / "card.json").read_text())
    losses = card["nats_per_codebook_heldout"]["tones"]
    assert entries[-1]["heldout"]["tones"][0] < np.log(32)
    assert losses["model"][0] < losses["unigram"][0]
    assert card["hours"]["tones"] == pytest.approx(6 * 15 / 3600, abs=0.01)


def test_baselines_on_a_chain_of_known_entropy() -> None:
    """Codebook 1 stays with probability 0.9, else moves on by one: the bigram's loss is that entropy, the unigram's log 8."""
    rng = np.random.default_rng(0)
    chain = np.cumsum(rng.random(60_000) < 0.1) % 8
    codes = torch.from_numpy(np.stack([chain, rng.integers(0, 8, 60_000)], axis=1)).to(torch.int16)
    tracks = data.Tracks(codes, torch.tensor([0, 60_000]), ("t",), ("g",))
    found = data.baselines(tracks, tracks, 256, 8)
    assert found["unigram"][0] == pytest.approx(np.log(8), abs=0.02)
    assert found["bigram"][0] == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), abs=0.02)
    assert found["bigram"][1] == pytest.approx(np.log(8), abs=0.02)


def test_crops_lie_in_one_track() -> None:
    codes = torch.arange(1000, dtype=torch.int16)[:, None]
    tracks = data.Tracks(codes, torch.tensor([0, 300, 320, 1000]), ("a", "b", "c"), ("a", "b", "c"))
    rows, track = tracks.crops(2000, 50, torch.Generator().manual_seed(0))
    assert set(track.tolist()) == {0, 2}
    assert ((rows >= tracks.bounds[track]) & (rows + 50 <= tracks.bounds[track + 1])).all()
    assert rows.min() == 0
    assert rows.max() == 950
    assert tracks.cut(rows[:3], 50)[:, 0, 0].tolist() == rows[:3].tolist()
