"""Tokens: encoding, the cache, and the packed file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from musae.activations.tokens import Tokens, tokenize
from musae.corpora.track import Split
from musae.errors import UserError


def clips_of(corpus, limit, seconds=0.48):
    return corpus.clips(Split.TRAIN, seconds=seconds, limit=limit)


def test_codes_and_origin(corpus, generator, tmp_path):
    done = []
    tokens = tokenize(
        generator, corpus, clips_of(corpus, 25), cache=tmp_path, piece=10, batch=4, progress=lambda *x: done.append(x)
    )
    assert tokens.codes.shape == (25, 2, 12)
    assert tokens.codes.dtype == np.uint16
    assert (tokens.codes[:, 0] == np.arange(25)[:, None]).all()
    assert tokens.clips[7] == "t007@00000250"
    assert (tokens.tracks[7], tokens.groups[7], tokens.starts[7]) == ("t007", "g3", 0.25)
    assert tokens.corpus_revisions == {"fake": corpus.revision}
    assert done == [(10, 25), (20, 25), (25, 25)]


def test_cache_is_read_and_grows(corpus, generator, tmp_path):
    first = tokenize(generator, corpus, clips_of(corpus, 20), cache=tmp_path, piece=10)
    corpus.rendered.clear()
    assert tokenize(generator, corpus, clips_of(corpus, 20), cache=tmp_path, piece=10).digest == first.digest
    assert corpus.rendered == []
    tokenize(generator, corpus, clips_of(corpus, 25), cache=tmp_path, piece=10)
    assert corpus.rendered == [c.id for c in clips_of(corpus, 25)[20:]]


def test_interrupted_encoding_keeps_finished_pieces(corpus, generator, tmp_path, monkeypatch):
    whole, calls = generator.encode, []

    def fails_third(audio):
        calls.append(len(audio))
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return whole(audio)

    monkeypatch.setattr(generator, "encode", fails_third)
    with pytest.raises(RuntimeError, match="power cut"):
        tokenize(generator, corpus, clips_of(corpus, 30), cache=tmp_path, piece=10, batch=10)
    corpus.rendered.clear()
    tokenize(generator, corpus, clips_of(corpus, 30), cache=tmp_path, piece=10, batch=10)
    assert corpus.rendered == [c.id for c in clips_of(corpus, 30)[20:]]


@pytest.mark.parametrize("other", ["codec", "corpus", "duration"])
def test_cache_depends_on_codec_corpus_and_duration(corpus, generator, tmp_path, other):
    tokenize(generator, corpus, clips_of(corpus, 5), cache=tmp_path)
    corpus.rendered.clear()
    if other == "codec":
        generator.codec_revision = "c0dec00001"
    if other == "corpus":
        corpus.revision = "c0ffee0002"
    tokenize(generator, corpus, clips_of(corpus, 5, 0.4 if other == "duration" else 0.48), cache=tmp_path)
    assert len(corpus.rendered) == 5


def test_cache_survives_a_new_generator_on_the_same_codec(corpus, generator, tmp_path):
    tokenize(generator, corpus, clips_of(corpus, 5), cache=tmp_path)
    corpus.rendered.clear()
    generator.revision = "0ther00000"
    tokenize(generator, corpus, clips_of(corpus, 5), cache=tmp_path)
    assert corpus.rendered == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "text"])
def test_corrupt_cache_file_is_named_and_made_again(corpus, generator, tmp_path, damage):
    first = tokenize(generator, corpus, clips_of(corpus, 5), cache=tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[data.index(b"code_bytes.npy") + 40] ^= 0xFF
    path.write_bytes({"flip": bytes(data), "truncate": bytes(data[:-100]), "text": b"not a zip"}[damage])
    corpus.rendered.clear()
    with pytest.warns(UserWarning, match=path.name):
        again = tokenize(generator, corpus, clips_of(corpus, 5), cache=tmp_path)
    assert len(corpus.rendered) == 5
    assert again.digest == first.digest == Tokens.load_packed(path).digest


def test_bad_clips(corpus, generator, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no clips"):
        tokenize(generator, corpus, [], cache=tmp_path)
    mixed = [*clips_of(corpus, 2), *clips_of(corpus, 2, 0.4)]
    with pytest.raises(UserError, match=r"0\.4 to 0\.48 s"):
        tokenize(generator, corpus, mixed, cache=tmp_path)
    monkeypatch.setattr(corpus, "audio", lambda clips, rate: iter([np.full(480, np.nan, np.float32)]))
    with pytest.raises(UserError, match=r"t000@00000250.*NaN"):
        tokenize(generator, corpus, clips_of(corpus, 1), cache=tmp_path)
    monkeypatch.setattr(corpus, "audio", lambda clips, rate: iter([np.zeros(480, np.float32), np.zeros(3, np.float32)]))
    with pytest.raises(UserError, match=r"t001@00000250.*\(3,\).*480 samples"):
        tokenize(generator, corpus, clips_of(corpus, 2), cache=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(generator, "encode", lambda audio: np.int64(70_000) + generator.__class__.encode(generator, audio))
    with pytest.raises(UserError, match=r"0\.\.65535"):
        tokenize(generator, corpus, clips_of(corpus, 1), cache=tmp_path)
    assert not list(tmp_path.rglob("*.npz"))


def test_packed_file_round_trip_is_deterministic_and_small(make_tokens, tmp_path):
    tokens = make_tokens(200, 250)
    codes = np.random.default_rng(0).integers(0, 512, tokens.codes.shape).astype(np.uint16)
    tokens = dataclasses.replace(tokens, codes=codes)
    tokens.save_packed(tmp_path / "a.npz")
    tokens.save_packed(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = Tokens.load_packed(tmp_path / "a.npz")
    assert loaded.digest == tokens.digest
    for field in dataclasses.fields(Tokens):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(tokens, field.name))
    assert (tmp_path / "a.npz").stat().st_size < 1.05 * codes.size * 9 / 8 + 8000


def test_packed_file_of_another_kind_or_format_is_named(make_tokens, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"absent\.npz"):
        Tokens.load_packed(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz"):
        Tokens.load_packed(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", format=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"pickled\.npz"):
        Tokens.load_packed(tmp_path / "pickled.npz")
    monkeypatch.setattr("musae.activations.tokens.FORMAT", 2)
    make_tokens(2).save_packed(tmp_path / "new.npz")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"new\.npz: packed tokens of format 2"):
        Tokens.load_packed(tmp_path / "new.npz")


@pytest.mark.parametrize("field", ["clips", "tracks", "groups", "starts", "corpora", "revisions", "codec", "codes"])
def test_digest_sees_every_field(make_tokens, field):
    tokens = make_tokens(4)
    value = getattr(tokens, field)
    changed = {
        "codec": lambda: "other",
        "corpora": lambda: ("other",),
        "revisions": lambda: ("other",),
        "starts": lambda: value + 1,
        "codes": lambda: value + np.uint16(1),
    }.get(field, lambda: np.array(["x", *value[1:]]))()
    assert dataclasses.replace(tokens, **{field: changed}).digest != tokens.digest


def test_concat_and_take(make_tokens):
    a, b = make_tokens(3), dataclasses.replace(make_tokens(2), corpora=("second",), revisions=("r2",))
    both = Tokens.concat([a, b, a])
    assert both.corpora == ("fake", "second")
    assert both.corpus.tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert both.take([4, 0]).clips.tolist() == [b.clips[1], a.clips[0]]
    assert both.take([4, 0]).tensor().tolist() == [b.codes[1].tolist(), a.codes[0].tolist()]
    with pytest.raises(UserError, match="c0dec00000"):
        Tokens.concat([a, dataclasses.replace(b, codec="0ther")])
    with pytest.raises(UserError, match="c0ffee0001 and r2"):
        Tokens.concat([a, dataclasses.replace(a, revisions=("r2",))])
    with pytest.raises(UserError, match="clip length"):
        Tokens.concat([a, make_tokens(2, 13)])


def test_fields_that_do_not_fit_are_refused(make_tokens):
    with pytest.raises(ValueError, match="groups"):
        dataclasses.replace(make_tokens(3), groups=np.array(["g"]))
    with pytest.raises(ValueError, match="corpus"):
        dataclasses.replace(make_tokens(3), corpus=np.full(3, 1, np.uint8))
