"""MusicSet from small manifests and audio in the published layout."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import mir_eval
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from musae import registry
from musae.cli import main
from musae.corpora import musicset
from musae.corpora.musicset_labels import FAMILIES, QUALITIES, harte
from musae.corpora.track import Clip, Span, Split, Track, Truth
from musae.errors import UserError
from musae.testing_corpora import check_corpus

RATE = 16_000
VIDEOS = ["-0SdAVK79lg", "ckOe-8qdaew", "sUjAb0SfppQ", "abcdefghi_1", *(f"video{i:06d}" for i in range(20))]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(path: Path, seconds: float = 2.0, pitch: float = 440.0, **options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE), RATE, **options)


def jamendo(root: Path, rows: list[tuple[str, ...]], name: str = "autotagging.tsv") -> None:
    header = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "data" / name).write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))


def musiccaps(root: Path, videos: list[str], seconds: int = 2) -> None:
    root.mkdir(parents=True, exist_ok=True)
    columns = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval"
    with (root / "musiccaps-public.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.split(","))
        for video in videos:
            writer.writerow(
                [video, 30, 30 + seconds, "/m/04rlf,/m/05pd6", "['calm', 'piano']", 'A "calm"\npiano.', 4, False, True]
            )


def line(location: str, **changes: object) -> dict[str, object]:
    """As the hub shows MusicBench's rows."""
    return {
        "dataset": "MusicBench",
        "location": location,
        "main_caption": "The song is in Adagio.",
        "alt_caption": "",
        "prompt_aug": "",
        "prompt_ch": "The chord sequence is Bb6.",
        "prompt_bt": "The beat is 2.",
        "prompt_bpm": "This song is in Adagio.",
        "prompt_key": "",
        "beats": [[0.28, 0.78, 1.28, 1.78], [2, 1, 2, 1]],
        "bpm": 120.0,
        "chords": ["Bb6", "G/D", "N"],
        "chords_time": [0.464399092, 1.0, 1.5],
        "key": ["Ab", "major"],
        "keyprob": [0.59],
        "is_audioset_eval_mcaps": False,
    } | changes


def musicbench(root: Path, lines: list[dict[str, object]], name: str = "MusicBench_train.json") -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(json.dumps(entry) + "\n" for entry in lines))


def whole(root: Path) -> None:
    """All three parts, the originals of MusicBench beside MusicCaps' own copies."""
    for number in range(12):
        write(root / "jamendo" / "audio" / f"{number:02d}" / f"10{number:02d}.mp3", 3.0, 300 + 20 * number)
    rows = [
        (f"track_00010{n:02d}", f"artist_0000{n // 3:02d}", "album_000001", f"{n:02d}/10{n:02d}.mp3", "3.0", "instrument---piano")
        for n in range(12)
    ]
    jamendo(root / "jamendo", rows)
    musiccaps(root / "musiccaps", VIDEOS)
    for video in VIDEOS:
        write(root / "musiccaps" / "audio" / f"[{video}]-[30-32].wav", pitch=500)
        write(root / "musicbench" / "datashare" / "data" / f"{video}.wav", pitch=501)
        for n in (1, 2):
            write(root / "musicbench" / "datashare" / "data_aug2" / f"{video}_{n}.wav", pitch=501 + n)
    clips = [f"data/{video}.wav" for video in VIDEOS] + [f"data_aug2/{video}_{n}.wav" for video in VIDEOS for n in (1, 2)]
    musicbench(root / "musicbench", [line(clip) for clip in clips])
    musicbench(root / "musicbench", [line(clips[0])], "MusicBench_test_A.json")


def tracks(corpus: musicset.MusicSet) -> dict[str, Track]:
    return {track.id: track for split in Split for track in corpus.tracks(split)}


def reasons(corpus: musicset.MusicSet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file, reason in corpus.left_out:
        found.setdefault(file, []).append(reason)
    return found


def test_all_parts_split_by_source(tmp_path: Path) -> None:
    """Ninety short files, and the conformance suite: a few seconds."""
    whole(tmp_path)
    corpus = musicset.load(str(tmp_path))
    assert not corpus.left_out
    found = tracks(corpus)
    assert len(found) == 12 + 4 * len(VIDEOS)
    for video in VIDEOS:
        names = [
            f"musiccaps-{video}",
            *(f"musicbench-{n}" for n in (f"data_{video}", f"data_aug2_{video}_1", f"data_aug2_{video}_2")),
        ]
        twins = [found[name] for name in names]
        assert {twin.group for twin in twins} == {video}
        assert len({twin.split for twin in twins}) == 1
        pitches = []
        for twin in twins:
            [audio] = corpus.audio([Clip(twin, 0.0, 2.0)], RATE)
            pitches.append(np.abs(np.fft.rfft(audio)).argmax() / 2)
        assert pitches == [500, 501, 502, 503], "each entry has its own file"
    artists = {found[f"jamendo-track_00010{n:02d}"].group for n in range(12)}
    assert len(artists) == 4
    groups = [{track.group for track in corpus.tracks(split)} for split in Split]
    assert not groups[0] & groups[1]
    parts = {track.id.partition("-")[0] for track in corpus.tracks(Split.TRAIN)[:20]}
    assert parts == {"jamendo", "musiccaps", "musicbench"}, "the parts are mixed"
    check_corpus(SimpleNamespace(CARD=musicset.card(str(tmp_path)), load=lambda: musicset.load(str(tmp_path))))  # type: ignore[arg-type]


def test_no_label_is_ground_truth(tmp_path: Path) -> None:
    write(tmp_path / "data_aug2" / "-0SdAVK79lg_1.wav")
    musicbench(tmp_path, [line("data_aug2/-0SdAVK79lg_1.wav")])
    write(tmp_path / "48" / "948.low.mp3")
    jamendo(
        tmp_path, [("track_0000948", "artist_000087", "album_000149", "48/948.mp3", "212.7", "instrument---harp", "genre---rock")]
    )
    both = ["instrument---electricguitar", "instrument---synthesizer"]
    jamendo(
        tmp_path, [("track_0000948", "artist_000087", "album_000149", "48/948.mp3", "212.7", *both)], "autotagging_instrument.tsv"
    )
    (tmp_path / "audio_licenses.txt").write_text(
        "48/948.mp3\nA by B from Jamendo: http://www.jamendo.com/track/948\n"
        "Available under a Creative Commons Attribution license: http://creativecommons.org/licenses/by/3.0/\n\n"
    )
    found = tracks(musicset.load(str(tmp_path)))
    bench, song = found["musicbench-data_aug2_-0SdAVK79lg_1"], found["jamendo-track_0000948"]
    a = bench.annotations
    assert a.chords == (Span(0.464399092, 1.0, "Bb:maj6"), Span(1.0, 1.5, "G:maj/5"), Span(1.5, 2.0, "N"))
    assert a.keys == (Span(0.0, 2.0, "Ab major"),)
    assert (a.tempo, a.beats, a.beat_positions) == (120.0, (0.28, 0.78, 1.28, 1.78), (2, 1, 2, 1))
    assert set(a.truth) == {"chords", "key", "tempo", "beats"}
    assert song.annotations.instruments == {"strings", "guitar"}
    assert set(a.truth.values()) | set(song.annotations.truth.values()) == {Truth.ESTIMATED}
    assert (song.licence, song.group) == ("http://creativecommons.org/licenses/by/3.0/", "artist_000087")
    assert all(set(levels) == {"estimated"} for levels in musicset.CARD.truth.values())


def test_chordino_s_chords_are_harte_s() -> None:
    """Pitch classes and bass by mir_eval against the qualities' own notes."""
    tones = {"": "047", "m": "037", "dim": "036", "aug": "048", "6": "0479", "m6": "0379", "7": "047t", "maj7": "047e"}
    tones |= {"m7": "037t", "dim7": "0369", "m7b5": "036t"}
    assert set(tones) == set(QUALITIES)
    for quality, digits in tones.items():
        root, bitmap, bass = mir_eval.chord.encode(harte(f"F#{quality}"))
        assert (root, bass) == (6, 0)
        assert set(np.flatnonzero(bitmap)) == {"0123456789te".index(digit) for digit in digits}
    for chord, pitch_class in (("Bm7b5/A", 9), ("G/D", 2), ("C#/E#", 5), ("Ab/Cb", 11), ("C#maj7/B#", 0)):
        root, _, bass = mir_eval.chord.encode(harte(chord))
        assert (root + bass) % 12 == pitch_class
    assert harte("N") == "N"
    for strange in ("", "H", "Csus4add9", "C:maj", "C/H"):
        with pytest.raises(ValueError, match="no chord of Chordino's"):
            harte(strange)
    assert len(FAMILIES) + 7 == 41  # the tags of autotagging_instrument.tsv: seven have no family


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "set"
    musiccaps(root, [*VIDEOS[:5], "short"])
    write(root / "audio" / f"{VIDEOS[0]}.wav")
    write(root / "audio" / f"{VIDEOS[1]}.wav", 9.0)
    (root / "audio" / f"{VIDEOS[2]}.wav").write_text("this is no audio")
    write(root / "audio" / "stranger.wav")
    bad = [
        line(
            f"data/{VIDEOS[0]}.wav", chords=["Bb6"], chords_time=[0.1, 0.2], key=["H", "dur"], bpm="fast", beats=[[0.1], [1, 2]]
        ),
        line(f"data/{VIDEOS[1]}.wav", chords=["Cxyz", "D", "E"], beats=[[0.3, 0.2], [1, 2]], bpm=None, key=[]),
        line("data/tune.wav"),
        line(f"data/{VIDEOS[2]}.wav", chords=[], chords_time=[], beats=[[], []], beat_positions=[]),
    ]
    musicbench(root, bad)
    with (root / "MusicBench_train.json").open("a") as file:
        file.write("{ no json\n" + json.dumps({"dataset": "MusicBench"}) + "\n[]\n\n")
    for video in VIDEOS[:3]:
        write(root / "data" / f"{video}.wav")
    corpus = musicset.load(str(root))
    found, why = tracks(corpus), reasons(corpus)
    assert set(found) == {f"musiccaps-{VIDEOS[0]}", *(f"musicbench-data_{video}" for video in VIDEOS[:3])}
    assert why["MTG-Jamendo"] == ["no *.tsv of it below the folder: this part is missing"]
    assert why["MusicCaps"] == [f"2 of 5 clips have no audio here: {VIDEOS[3]}, {VIDEOS[4]}"]
    assert why["audio"] == ["1 of 7 files are in no manifest, stranger.wav among them"]
    assert why[f"audio/{VIDEOS[1]}.wav"] == ["9.0 s of a clip of 2 s: cut it out"]
    assert "libsndfile" in why[f"audio/{VIDEOS[2]}.wav"][0]
    assert any("'short' is no id of a YouTube video" in reason for file in why for reason in why[file] if "musiccaps" in file)
    lines = {file: reason for file, [reason, *_] in why.items() if file.startswith("MusicBench_train.json:")}
    assert list(lines) == [f"MusicBench_train.json:{n}" for n in (3, 5, 6, 7)]
    assert "'tune' is no id" in lines["MusicBench_train.json:3"]
    assert lines["MusicBench_train.json:7"] == "skipped: no JSON object"
    assert "no 'location' in it" in lines["MusicBench_train.json:6"]
    first, second = why[f"data/{VIDEOS[0]}.wav"], why[f"data/{VIDEOS[1]}.wav"]
    assert [reason.partition(":")[0] for reason in first] == [
        "chords left out",
        "tempo left out",
        "beats left out",
        "key left out",
    ]
    assert second == [
        "chords left out: 'Cxyz' is no chord of Chordino's",
        "beats left out: times must ascend from 0, and positions count from 1",
    ]
    assert found[f"musicbench-data_{VIDEOS[0]}"].annotations.truth == {}
    assert found[f"musicbench-data_{VIDEOS[2]}"].annotations.truth == {"key": Truth.ESTIMATED, "tempo": Truth.ESTIMATED}


def test_folders_without_a_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        musicset.load(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no manifest of any part .*musiccaps-public\.csv"):
        musicset.load(str(tmp_path))
    (tmp_path / "other.tsv").write_text("a\tb\n")
    with pytest.raises(UserError, match="no manifest of any part"):
        musicset.load(str(tmp_path))
    musiccaps(tmp_path, VIDEOS[:1])
    with pytest.raises(UserError, match=r"no clip of any manifest can be used .*1 of 1 clips have no audio here"):
        musicset.load(str(tmp_path))
    (tmp_path / "musiccaps-public.csv").write_text("id,caption\n")
    with pytest.raises(UserError, match=r"musiccaps-public\.csv: no column 'ytid'"):
        musicset.load(str(tmp_path))
    (tmp_path / "musiccaps-public.csv").write_bytes(b"ytid,start_s,end_s\n\xff\xfe\n")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        musicset.load(str(tmp_path))
    (tmp_path / "musiccaps-public.csv").write_text("ytid,start_s,end_s\n" + "x" * 200_000 + ",0,10\n")
    with pytest.raises(UserError, match=r"musiccaps-public\.csv: no CSV after line 1"):
        musicset.load(str(tmp_path))
    with pytest.raises(UserError, match="name a folder with manifests"):
        registry.make("corpora", "musicset")


def test_a_split_does_not_change_as_parts_are_added(tmp_path: Path) -> None:
    musiccaps(tmp_path, VIDEOS)
    for video in VIDEOS:
        write(tmp_path / f"{video}.wav")
    first = musicset.load(str(tmp_path))
    again = musicset.load(str(tmp_path))
    assert again.revision == first.revision
    before = {track.group: track.split for track in tracks(first).values()}
    write(tmp_path / "data_aug2" / f"{VIDEOS[5]}_7.wav")
    musicbench(tmp_path, [line(f"data_aug2/{VIDEOS[5]}_7.wav")])
    more = musicset.load(str(tmp_path))
    assert {track.group: track.split for track in tracks(more).values()} == before
    assert more.revision != first.revision
    assert set(before.values()) == set(Split)


def test_describe_and_doctor(tmp_path: Path) -> None:
    whole(tmp_path)
    result = CliRunner().invoke(main, ["corpus", "describe", f"musicset:{tmp_path}"])
    assert result.exit_code == 0, result.output
    assert "musicset@" in result.output
    assert "groups in more than one split: 0" in result.output
    assert CliRunner().invoke(main, ["corpus", "doctor", f"musicset:{tmp_path}"]).exit_code == 0
    (tmp_path / "jamendo" / "data" / "autotagging.tsv").unlink()
    result = CliRunner().invoke(main, ["corpus", "doctor", f"musicset:{tmp_path}"])
    assert result.exit_code == 1
    assert "left out: MTG-Jamendo: no *.tsv" in result.output
    assert "left out: audio: 12 of 108 files are in no manifest" in result.output
