"""Descriptions add up, and exported files say what the corpus says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jams
import numpy as np
import pytest
import soundfile
from rich.console import Console

from musae.corpora import procedural
from musae.corpora.describe import describe, tables
from musae.corpora.export import export, to_jams
from musae.corpora.notes import LazyTracks, NoteCorpus
from musae.corpora.procedural import compose, perform
from musae.corpora.track import Annotations, Clip, Span, Split, Track
from musae.errors import UserError


@pytest.fixture(scope="module")
def corpus() -> NoteCorpus:
    return NoteCorpus(
        procedural.CARD, rules="small", sources=(), build=lambda split: LazyTracks(24, lambda i: perform(compose(split, i)))
    )


def test_description_adds_up(corpus: NoteCorpus) -> None:
    description = describe(corpus)
    for split in Split:
        figures = description.splits[split.value]
        seconds = figures.hours * 3600
        assert (figures.tracks, figures.groups, round(seconds)) == (24, 24, 720)
        for distribution in (figures.keys, figures.chord_roots, figures.chord_qualities):
            assert sum(distribution.values()) == pytest.approx(seconds)
        for counts in (figures.tempi, figures.meters, figures.licences, *figures.truth.values()):
            assert sum(counts.values()) == 24
        assert set(figures.truth) == {"chords", "key", "tempo", "beats", "instruments"}
    assert len(description.splits["heldout"].keys) == 24
    assert description.shared_groups == 0
    assert description.model_validate_json(description.model_dump_json()) == description


def test_enharmonics_are_one_and_shared_groups_are_counted() -> None:
    annotations = Annotations(chords=(Span(0, 1, "C#:7/3"), Span(1, 3, "Db"), Span(3, 4, "N")), keys=(Span(0, 4, "Cb major"),))
    tracks = [Track("a", "same", Split.TRAIN, "CC0-1.0", 4.0, annotations)]
    description = describe(NoteCorpus(procedural.CARD, rules="", sources=(), build=lambda split: tracks))
    train = description.splits["train"]
    assert train.chord_roots == {"Db": 3.0, "N": 1.0}
    assert train.chord_qualities == {"maj": 2.0, "7": 1.0, "N": 1.0}
    assert train.keys == {"B major": 4.0}
    assert description.shared_groups == 1


def test_tables_show_counts_and_remarks(corpus: NoteCorpus) -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    description = describe(corpus).model_copy(update={"remarks": ("BWV 1 lacks a bar.",)})
    console.print(tables(description))
    text = console.export_text()
    for words in ("procedural@", "heldout", "24", "chord root", "exact 100.0", "BWV 1 lacks a bar."):
        assert words in text


def test_exported_files_say_what_the_corpus_says(corpus: NoteCorpus, tmp_path: Path) -> None:
    paths = export(corpus, tmp_path, Split.HELDOUT, limit=2, seconds=3.0, rate=16_000)
    clips = corpus.clips(Split.HELDOUT, seconds=3.0, limit=2)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".jams", ".jams", ".wav", ".wav"]
    for path, clip in zip(paths, clips, strict=True):
        audio, rate = soundfile.read(path.with_suffix(".wav"), dtype="float32")
        assert (rate, audio.shape) == (16_000, (48_000,))
        np.testing.assert_allclose(audio, next(corpus.audio([clip], 16_000, workers=1)), atol=1e-4)
        sheet = jams.load(str(path), validate=True, strict=True)
        a = clip.annotations
        chords = sheet.search(namespace="chord")[0]
        assert [o.value for o in chords.data] == [s.label for s in a.chords]
        np.testing.assert_allclose([o.time for o in chords.data], [s.start for s in a.chords])
        assert [o.value for o in sheet.search(namespace="beat")[0].data] == list(a.beat_positions)
        assert sheet.search(namespace="tempo")[0].data[0].value == a.tempo
        assert sheet.search(namespace="key_mode")[0].data[0].value == a.keys[0].label.replace(" ", ":")
        assert {o.value for o in sheet.search(namespace="tag_open")[0].data} == a.instruments
        assert chords.annotation_metadata.data_source == "exact"
        assert sheet.sandbox.group == clip.group


def test_export_resumes_and_refuses_other_settings(corpus: NoteCorpus, tmp_path: Path) -> None:
    export(corpus, tmp_path, Split.HELDOUT, limit=1, seconds=1.0, rate=8000)
    (first,) = tmp_path.glob("*.wav")
    first.write_bytes(b"kept")
    export(corpus, tmp_path, Split.HELDOUT, limit=2, seconds=1.0, rate=8000)
    assert first.read_bytes() == b"kept"
    assert len(list(tmp_path.glob("*.jams"))) == 2
    with pytest.raises(UserError, match="its rate is 8000, not 16000"):
        export(corpus, tmp_path, Split.HELDOUT, limit=1, seconds=1.0, rate=16_000)
    sheet = first.with_suffix(".jams")
    sheet.write_text(json.dumps({"sandbox": json.loads(sheet.read_text())["sandbox"] | {"revision": "0000000000"}}))
    with pytest.raises(UserError, match="its revision is '0000000000'"):
        export(corpus, tmp_path, Split.HELDOUT, limit=1, seconds=1.0, rate=8000)
    sheet.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        export(corpus, tmp_path, Split.HELDOUT, limit=1, seconds=1.0, rate=8000)


def test_whole_tracks_keep_their_id_and_unsafe_ids_are_refused(corpus: NoteCorpus, tmp_path: Path) -> None:
    track = corpus.tracks(Split.HELDOUT)[0]
    short = [dataclasses.replace(track, duration=1.0, id=name) for name in ("safe-1", "../up")]
    small = NoteCorpus(procedural.CARD, rules="", sources=(), build=lambda split: short)
    assert export(small, tmp_path, Split.HELDOUT, limit=1, rate=8000) == [tmp_path / "safe-1.jams"]
    with pytest.raises(UserError, match="no safe file name"):
        export(small, tmp_path, Split.HELDOUT, rate=8000)


def test_concepts_without_truth_are_left_out(corpus: NoteCorpus) -> None:
    track = Track("a", "a", Split.TRAIN, "CC0-1.0", 2.0, Annotations())
    assert len(to_jams(Clip(track, 0.0, 2.0), corpus, 8000).annotations) == 0
