"""Data sets of mirdata, through its own loaders, from small indexes and folders in the real layouts (mirdata_layouts.py).

Importing mirdata takes most of the time.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mirdata_layouts as layouts
import numpy as np
import pytest
from click.testing import CliRunner

from musae import labelled, registry
from musae.cli import main
from musae.corpora import folder, mirdata, mirdata_labels
from musae.corpora.export import export
from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.mirdata_sets import SETS
from musae.corpora.track import Clip, Span, Split, Track, Truth
from musae.errors import UserError
from musae.files import cache_root
from musae.testing_corpora import check_corpus

needs_mirdata = pytest.mark.skipif(importlib.util.find_spec("mirdata") is None, reason="mirdata is not installed")
EVERY = {*FAMILIES, DRUMS}
Made = Callable[..., mirdata.MirData]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Writes a set and its index, with checksums, and loads it by mirdata."""

    def make(name: str, *, version: str = "", load: bool = True, **options: object) -> mirdata.MirData | Path:
        root = tmp_path / name
        rows = getattr(layouts, name)(root, **options)
        write_index(name, root, rows, tmp_path / "indexes", monkeypatch, version)
        asked = f"{name}@{version}" if version else name
        return mirdata.load(f"{asked}={root}") if load else root

    return make  # type: ignore[return-value]


def write_index(
    name: str, root: Path, rows: layouts.Rows, folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = ""
) -> None:
    """The index of a set as mirdata downloads it, where mirdata then looks for it."""
    indexes = importlib.import_module(f"mirdata.datasets.{name}").INDEXES
    version = version or indexes["default"]
    monkeypatch.setattr(indexes[version], "indexes_dir", str(folder))

    def stamped(path: str | None) -> list[str | None]:
        file = root / (path or "")
        return [path, hashlib.md5(file.read_bytes()).hexdigest() if path and file.is_file() else path and "0" * 32]

    index: dict[str, object] = {"version": version}
    for kind, entries in rows.items():
        if kind == "metadata":
            index[kind] = {key: stamped(path) for key, path in entries.items()}
        else:
            index[kind] = {
                entry: {key: path if isinstance(path, list) else stamped(path) for key, path in files.items()}
                for entry, files in entries.items()
            }
    folder.mkdir(exist_ok=True)
    (folder / indexes[version].filename).write_text(json.dumps(index), encoding="utf-8")


def tracks(corpus: mirdata.MirData) -> dict[str, Track]:
    """By their audio's name without its ending."""
    return {Path(track.source).stem: track for split in Split for track in corpus.tracks(split)}


def reasons(corpus: mirdata.MirData) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file, reason in corpus.left_out:
        found.setdefault(file, []).append(reason)
    return found


@needs_mirdata
def test_guitarset(made: Made) -> None:
    corpus = made("guitarset")
    found = tracks(corpus)
    comp, solo = found["00_BN1-120-Eb_comp_mic"], found["00_BN1-120-Eb_solo_mic"]
    a = comp.annotations
    assert a.chords == (Span(0, 2, "Eb:maj"), Span(2, 4, "Ab:7"))  # the lead sheet's, cut at the end of the audio
    assert a.keys == (Span(0, 4, "Eb major"),)
    assert a.tempo == 120
    assert a.beats == tuple(np.arange(8) / 2)
    assert a.beat_positions == (1, 2, 3, 4) * 2
    assert a.instruments == {"guitar"}
    assert not a.unobserved
    assert a.truth == dict.fromkeys(("chords", "key", "tempo", "beats"), Truth.ANNOTATED) | {"instruments": Truth.EXACT}
    assert not solo.annotations.chords  # the chords of a solo are not heard in it
    assert "chords" not in solo.annotations.truth
    assert solo.annotations.keys
    groups = {track.group for name, track in found.items() if "BN1" in name}
    assert groups == {"bn1-120-eb"}  # two players, comp and solo
    assert len({track.group for track in found.values()}) == 10
    assert comp.licence == "MIT"
    assert "chords go on to 5.00 s" in " ".join(reasons(corpus)["00_BN1-120-Eb_comp"])


@needs_mirdata
def test_giantsteps_and_beatport_keys(made: Made) -> None:
    giant = made("giantsteps_key")
    found = list(tracks(giant).values())
    assert [t.annotations.keys for t in found if t.annotations.keys] == [
        (Span(0, found[0].duration, "D major"),),
        (Span(0, found[0].duration, "Bb minor"),),
    ]
    assert sorted(t.group for t in found) == ["geck-o", "jason sparks", "jason sparks"]
    assert sorted(str(t.annotations.truth.get("tempo")) for t in found) == ["None", "estimated", "estimated"]
    assert reasons(giant)["2"] == ["key left out: 'unreadable key' is no key"]
    beatport = made("beatport_key")
    assert [t.annotations.keys[0].label for t in tracks(beatport).values() if t.annotations.keys] == ["D minor"]
    assert reasons(beatport) == {"2": ["key left out: several keys of the whole track: F minor, C minor"]}


@needs_mirdata
def test_ballroom(made: Made) -> None:
    corpus = made("ballroom")
    found = tracks(corpus)
    assert found["Media-105901"].annotations.tempo == 120
    assert found["Media-105901"].annotations.beats[-1] == 3.5  # those after the end are cut
    assert found["Albums-Latin_Jam-01"].group == found["Albums-Latin_Jam-02"].group == "albums-latin_jam"
    assert found["Albums-Latin_Jam-02"].annotations.tempo is None
    assert "tempo" not in found["Albums-Latin_Jam-02"].annotations.truth
    assert "tempo left out: 60 beats a minute, and the beats are at 120.0 a minute" in reasons(corpus)["Albums-Latin_Jam-02"]


@needs_mirdata
def test_groove_midi(made: Made) -> None:
    corpus = made("groove_midi")
    held, train = corpus.tracks(Split.HELDOUT), corpus.tracks(Split.TRAIN)
    assert [t.group for t in held] == ["funk/groove1"] * 2  # one groove by two drummers
    assert len({t.id for t in held}) == 2
    only, six = train
    assert only.annotations.tempo == 120
    assert only.annotations.beats == tuple(np.arange(8) / 2)
    assert only.annotations.instruments == {DRUMS}
    assert only.annotations.truth == {"tempo": "exact", "beats": "derived", "instruments": "exact"}
    assert six.annotations.beats == tuple(np.arange(6) * 0.75)  # 6/8: dotted beats, neither counted nor timed as quarters are
    assert (six.annotations.beat_positions, six.annotations.tempo) == ((), None)
    assert reasons(corpus)["drummer1/session1/8"] == ["the set has no audio of it"]


@needs_mirdata
def test_irmas(made: Made) -> None:
    corpus = made("irmas")
    train = {t.group: t.annotations for t in corpus.tracks(Split.TRAIN)}
    assert set(train) == {"0189", "0020"}
    assert train["0189"].instruments == {"reed"}
    assert train["0189"].unobserved == EVERY - {"reed"}  # what else may sound is not named
    assert train["0020"].instruments == set()  # a voice is of no family
    assert train["0020"].truth == {"instruments": "annotated"}
    held = corpus.tracks(Split.HELDOUT)
    assert {t.group for t in held} == {"02 - and the body will die"}
    assert held[0].annotations.instruments == {"guitar"}
    assert EVERY - held[0].annotations.unobserved == {"strings", "reed", "pipe", "guitar", "organ", "piano", "brass"}


@needs_mirdata
def test_medley_solos_db(made: Made) -> None:
    corpus = made("medley_solos_db")
    assert [set(t.annotations.instruments) for t in corpus.tracks(Split.TRAIN)] == [{"piano"}]
    held = corpus.tracks(Split.HELDOUT)
    assert [set(t.annotations.instruments) for t in held] == [set(), {"reed"}, {"strings"}]
    assert [set(t.annotations.unobserved) for t in held] == [{"ensemble"}, set(), set()]
    assert [t.group for t in held] == ["4", "5", "6"]  # validation and test


@needs_mirdata
def test_openmic_says_what_was_not_observed(made: Made, tmp_path: Path) -> None:
    corpus = made("openmic2018")
    found = tracks(corpus)
    first, second, third = (found[name].annotations for name in ("000046_3840", "000135_483840", "000139_119040"))
    assert first.instruments == {"guitar"}
    assert EVERY - first.unobserved == {"guitar", "reed"}  # both reeds were looked for; the flute's listeners were of two minds
    assert second.instruments == set()
    assert EVERY - second.unobserved == set()  # a cello was not heard, nor was a violin looked for; lead or pad, who knows
    assert third.instruments == set()
    assert EVERY - third.unobserved == {"strings", "synth lead", "synth pad"}  # banjos are not all that is ethnic
    assert third.truth == {"instruments": "annotated"}
    # an artist in both of the official splits is held out
    assert [t.group for t in corpus.tracks(Split.TRAIN)] == ["nicky cook"]
    assert reasons(corpus) == {"split": ["1 groups that the official split divides are held out: abominog"]}
    rows = labelled._labels(first, np.array([0.1, 0.2]), 0.1, {}, ["guitar", "reed", "pipe"])
    assert [rows[f"instrument {f}"].tolist() for f in ("guitar", "reed", "pipe")] == [[1, 1], [0, 0], [-1, -1]]
    clip = Clip(found["000139_119040"], 1.0, 2.0)
    assert clip.annotations.unobserved == third.unobserved
    for split in Split:
        export(corpus, tmp_path / "out", split, rate=16_000)
    exported = folder.load(str(tmp_path / "out"))
    again = {Path(t.source).stem[:-4]: t.annotations for split in Split for t in exported.tracks(split)}
    for name, a in (("000046_3840", first), ("000135_483840", second), ("000139_119040", third)):
        assert (again[name].instruments, again[name].unobserved, again[name].truth) == (a.instruments, a.unobserved, a.truth)


@needs_mirdata
def test_slakh(made: Made) -> None:
    corpus = made("slakh")
    [train], [held] = corpus.tracks(Split.TRAIN), corpus.tracks(Split.HELDOUT)
    assert reasons(corpus) == {"Track00049": ["in the split 'omitted', which is not used"]}
    assert train.group == "track00001"
    assert held.annotations.instruments == {"piano", DRUMS}  # the stem without audio is not heard
    assert held.annotations.truth == {"instruments": "exact"}
    assert [(n.onset, n.pitch) for n in held.notes] == [(0.0, 60), (2.0, 38)]
    assert Clip(held, 0.0, 1.5).annotations.instruments == {"piano"}
    assert Clip(held, 1.5, 1.5).annotations.instruments == {DRUMS}
    [file, *_] = sorted((cache_root() / "mirdata").iterdir())
    file.write_bytes(b"damaged")
    root = Path(corpus.paths[held.id]).parents[3]
    again = mirdata.load(f"slakh={root}")  # from the cache, but for one that is read anew
    assert again.tracks(Split.HELDOUT) == [held]
    assert again.tracks(Split.TRAIN) == [train]
    assert again.revision == corpus.revision
    baby = made("slakh", version="baby", top="babyslakh_16k", splits=False)
    assert baby.card.name == "mirdata-slakh-baby"
    assert len(tracks(baby)) == 1  # all are called mix.flac
    assert sum(len(baby.tracks(split)) for split in Split) == 3


@needs_mirdata
def test_maestro(made: Made) -> None:
    corpus = made("maestro")
    assert {t.group for t in corpus.tracks(Split.TRAIN)} == {"alban berg|sonata op. 1"}  # two recordings of a composition
    [held] = corpus.tracks(Split.HELDOUT)
    assert held.annotations.instruments == {"piano"}
    assert held.annotations.truth == {"instruments": "exact"}
    assert held.licence == "CC BY-NC-SA 4.0"


@needs_mirdata
def test_gtzan(made: Made) -> None:
    corpus = made("gtzan_genre")
    found = tracks(corpus)
    assert found["country.00000"].annotations.tempo == 120
    assert found["country.00000"].annotations.beat_positions == (1, 2, 3, 4) * 2
    assert found["hiphop.00000"].annotations.tempo == 120
    assert found["hiphop.00000"].annotations.beats == (0.1, 0.6, 1.1)
    assert not found["hiphop.00000"].annotations.beat_positions  # one column only
    assert not corpus.left_out
    assert not found["jazz.00003"].annotations.truth
    assert found["jazz.00003"].licence == "not stated"


@needs_mirdata
def test_beatles(made: Made) -> None:
    corpus = made("beatles")
    a = tracks(corpus)["11_-_Do_You_Want_To_Know_A_Secret"].annotations
    assert a.chords == (Span(0, 1.5, "N"), Span(1.5, 2.6, "E:min"), Span(2.6, 3, "E:min/b3"), Span(3, 4, "B:7"))
    assert a.keys == (Span(1.5, 3, "E major"), Span(3, 4, "A other"))
    assert a.tempo == 150  # of the beats, which are steady
    assert set(a.truth.values()) == {Truth.ANNOTATED}
    other = tracks(corpus)["CD2_-_12_-_Revolution_9"].annotations
    assert set(other.truth) == {"chords"}


@needs_mirdata
def test_others(made: Made) -> None:
    assert [t.annotations.keys[0].label for t in tracks(made("fma_keys")).values()] == ["C# major", "A minor"]
    candombe = tracks(made("candombe")).values()
    assert {t.group for t in candombe} == {"csic.1995_ansina1"}
    assert {t.annotations.tempo for t in candombe} == {133.333}
    assert [t.annotations.tempo for t in tracks(made("giantsteps_tempo")).values()] == [137, 68.5]  # the more confident
    [queen] = tracks(made("queen")).values()
    assert (queen.group, queen.annotations.keys[0].label) == ("01 bohemian rhapsody", "Bb major")
    assert queen.annotations.chords == (Span(0, 1, "N"), Span(1, 4, "Bb:maj6"))
    billboard = tracks(made("billboard")).values()
    assert {t.group for t in billboard} == {"bourgeois tagg|i don't mind at all"}
    [popular] = tracks(made("rwc_popular")).values()
    assert popular.annotations.tempo == 150
    assert popular.annotations.beat_positions == (1, 2, 3, 4, 1, 2, 3, 4, 1, 2)
    for name in ("compmusic_carnatic_rhythm", "compmusic_hindustani_rhythm"):
        both = list(tracks(made(name)).values())
        assert [t.group for t in both] == ["k v narayanaswamy"] * 2
        assert all(t.annotations.tempo == 120 and t.annotations.beat_positions == (1, 2, 3, 4) * 2 for t in both)
    [cuidado] = tracks(made("cuidado")).values()
    assert (cuidado.annotations.tempo, cuidado.annotations.beat_positions) == (120, ())
    corpus = made("medleydb_pitch")
    stems = [t.annotations for split in Split for t in corpus.tracks(split)]
    assert [set(a.instruments) for a in stems] == [{"strings"}, set(), set()]
    assert [set(a.unobserved) for a in stems] == [set(), {"bass", "strings"}, set()]  # plucked or bowed
    assert [set(a.truth) for a in stems] == [{"instruments"}, {"instruments"}, set()]
    assert reasons(corpus)["AClassicEducation_NightOwl_STEM_02"] == [
        "instruments left out: 'theremin' is no class of instruments of this set"
    ]


@needs_mirdata
@pytest.mark.parametrize("name", [name for name in SETS if hasattr(layouts, name)])
def test_each_set_sounds_and_keeps_its_card(made: Made, name: str) -> None:
    corpus = made(name)
    everything = [track for split in Split for track in corpus.tracks(split)]
    assert len({track.id for track in everything}) == len(everything)
    levels = {(concept, str(level)) for track in everything for concept, level in track.annotations.truth.items()}
    assert levels == {(concept, level) for concept, of in corpus.card.truth.items() for level in of}
    assert {track.licence for track in everything} == {SETS[name].licence}
    clips = [clip for split in Split if corpus.tracks(split) for clip in corpus.clips(split, seconds=2.0)]
    assert {clip.group for clip in clips} == {track.group for track in everything}
    for audio in corpus.audio(clips, 8_000):
        assert audio.shape == (16_000,)
        assert np.abs(audio).max() > 0.2
    assert not corpus.checks()


@needs_mirdata
def test_conformance(made: Made, tmp_path: Path) -> None:
    made("guitarset", load=False)
    argument = f"guitarset={tmp_path / 'guitarset'}"
    entry = registry.find("corpora", f"mirdata:{argument}")
    module = SimpleNamespace(CARD=entry.card, load=lambda: registry.make("corpora", f"mirdata:{argument}"))
    check_corpus(module)  # type: ignore[arg-type]


@needs_mirdata
def test_doctor_of_a_sound_set(made: Made) -> None:
    root = made("irmas", load=False)
    result = CliRunner().invoke(main, ["corpus", "doctor", f"mirdata:irmas={root}"])
    assert result.exit_code == 0, result.output
    assert "heldout: 2 tracks, 0.00 hours  (CC BY-NC-SA 3.0: 2)" in result.output
    assert "nothing is wrong" in result.output


@needs_mirdata
def test_what_is_missing_or_damaged_is_left_out(made: Made, tmp_path: Path) -> None:
    root = made("guitarset", load=False)
    assert isinstance(root, Path)
    (root / "audio_mono-mic" / "00_BN1-120-Eb_comp_mic.wav").unlink()
    (root / "audio_mono-mic" / "00_BN1-120-Eb_solo_mic.wav").write_text("no audio")
    (root / "annotation" / "01_Rock2-120-F_comp.jams").write_text("{")
    (root / "annotation" / "01_BN1-120-Eb_comp.jams").unlink()
    before = mirdata.load(f"guitarset={root}").revision
    corpus = mirdata.load(f"guitarset={root}")
    assert corpus.revision == before
    found = reasons(corpus)
    assert found["00_BN1-120-Eb_comp"] == ["audio_mono-mic/00_BN1-120-Eb_comp_mic.wav is missing"]
    assert "libsndfile" in found["00_BN1-120-Eb_solo"][0]
    assert {r.split(":")[0] for r in found["01_Rock2-120-F_comp"]} == {f"{c} left out" for c in ("chords", "key", "beats")}
    assert tracks(corpus)["01_Rock2-120-F_comp_mic"].annotations.tempo == 120
    wrong = dict(corpus.checks())
    assert set(wrong) == {"annotation/01_Rock2-120-F_comp.jams", "annotation/01_BN1-120-Eb_comp.jams"}
    assert wrong["annotation/01_BN1-120-Eb_comp.jams"] == "missing"
    assert wrong["annotation/01_Rock2-120-F_comp.jams"].startswith("its MD5 is f95b70fdc3088560732a5ac135644506, and ")
    result = CliRunner().invoke(main, ["corpus", "doctor", f"mirdata:guitarset={root}", "--reasons", str(tmp_path / "r.csv")])
    assert result.exit_code == 1
    assert "wrong: annotation/01_Rock2-120-F_comp.jams: its MD5 is" in result.output
    assert "left out: 00_BN1-120-Eb_comp: audio_mono-mic/00_BN1-120-Eb_comp_mic.wav is missing" in result.output
    shutil.rmtree(root / "audio_mono-mic")
    with pytest.raises(UserError, match=r"none of 12 recordings .* is missing\); run `musae corpus fetch mirdata:guitarset=/"):
        mirdata.load(f"guitarset={root}")


@needs_mirdata
def test_a_missing_index_or_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = importlib.import_module("mirdata.datasets.guitarset").INDEXES["1.1.0"]
    monkeypatch.setattr(index, "indexes_dir", str(tmp_path))
    with pytest.raises(UserError, match=r"index .* is missing; .*`musae corpus fetch mirdata:guitarset=/"):
        mirdata.load(f"guitarset={tmp_path}")
    (tmp_path / index.filename).write_text("{")
    with pytest.raises(UserError, match="index cannot be read"):
        mirdata.load(f"guitarset={tmp_path}")
    with pytest.raises(UserError, match="no such folder"):
        mirdata.load(f"guitarset={tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="Invalid version 9"):
        mirdata.load(f"guitarset@9={tmp_path}")


@needs_mirdata
def test_the_index_cannot_point_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "here"
    rows = layouts.guitarset(root)
    layouts.sound(tmp_path, "outside.wav")
    rows["tracks"]["00_BN1-120-Eb_comp"]["audio_mic"] = "../outside.wav"
    write_index("guitarset", root, rows, tmp_path / "indexes", monkeypatch)
    assert "lies outside" in reasons(mirdata.load(f"guitarset={root}"))["00_BN1-120-Eb_comp"][0]


@needs_mirdata
def test_fetch(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """mirdata downloads what is read of a set; what fails, or cannot be downloaded, is one sentence."""
    root = made("guitarset", load=False)
    asked: list[object] = []
    module = importlib.import_module("mirdata.datasets.guitarset")
    monkeypatch.setattr(module.Dataset, "download", lambda self, *parts: asked.append((self.data_home, *parts)))
    name = f"mirdata:guitarset={root}"
    result = CliRunner().invoke(main, ["corpus", "fetch", name])
    assert result.exit_code == 0, result.output
    assert asked == [(str(root), ["annotations", "audio_mic"])]
    assert f"guitarset lies in {root}. Check it: musae corpus doctor {name}" in result.output

    def fail(self: object, *parts: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(module.Dataset, "download", fail)
    for corpus, message in ((name, "the download failed (no network)"), ("chorales", "has nothing to download")):
        result = CliRunner().invoke(main, ["corpus", "fetch", corpus])
        assert result.exit_code == 2
        assert message in result.output
    with pytest.raises(UserError, match="name a data set"):
        mirdata.fetch("")
    monkeypatch.setattr(importlib.import_module("mirdata.datasets.beatles").Dataset, "download", lambda self: None)
    assert "the audio is the user's own, and is named as in mirdata's index" in mirdata.fetch("beatles")


@needs_mirdata
def test_audio_may_be_a_link_to_another_disk(made: Made, tmp_path: Path) -> None:
    root = made("guitarset", load=False)
    assert isinstance(root, Path)
    (root / "audio_mono-mic").rename(tmp_path / "elsewhere")
    (root / "audio_mono-mic").symlink_to(tmp_path / "elsewhere")
    assert len(tracks(mirdata.load(f"guitarset={root}"))) == 12


@needs_mirdata
def test_the_table_names_what_the_loaders_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes of every set are those of its loader's class, and mirdata knows every set."""
    datasets = importlib.import_module("mirdata").list_datasets()
    for name, entry in SETS.items():
        assert name in datasets
        index = importlib.import_module("mirdata").initialize(name)._index_data
        assert index.remote is not None, f"{name}: mirdata knows no place to download its index from"
        module = importlib.import_module(f"mirdata.datasets.{name}")
        kind = module.MultiTrack if entry.stems else module.Track
        source = Path(module.__file__).read_text(encoding="utf-8")
        wanted = {entry.split, *entry.of, *(a for labels in entry.labels.values() for a in labels.attribute.split())} - {""}
        for attribute in wanted:
            known = hasattr(kind, attribute) or f"self.{attribute} = " in source or attribute in ("track_id", "mtrack_id")
            assert known, f"{name}: {attribute}"
        for key in () if entry.stems else (entry.audio, *entry.files):
            assert f'get_path("{key}")' in source, f"{name}: {key}"
        assert set(entry.remotes) <= set(module.REMOTES or ())
        assert set(entry.sounds) | {f for of in entry.classes.values() for f in of} <= EVERY


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("D major", "D major"),
        ("Bb:minor", "Bb minor"),
        ("F#", "F# major"),
        ("C Major", "C major"),
        ("a minor\t1\n", "A minor"),
        ("G:dorian", "G other"),
        ("N", ""),
        ("x", ""),
        ("Unknown", ""),
        ("", ""),
    ],
)
def test_keys(text: str, label: str) -> None:
    assert mirdata_labels.key(text) == label


@pytest.mark.parametrize("text", ["H major", "D minor / F major", "D blues", "D major minor"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        mirdata_labels.key(text)


def test_cards_and_names() -> None:
    assert mirdata.card("openmic2018").truth == {"instruments": ("annotated",)}
    assert mirdata.card("groove_midi=/tmp").name == "mirdata-groove_midi"
    with pytest.raises(UserError, match="did you mean 'guitarset'"):
        mirdata.card("guitar_set")
    with pytest.raises(UserError, match="name a data set"):
        mirdata.load()
    with pytest.raises(UserError, match="is no version"):
        mirdata.card("slakh@ba by")
    for name in SETS:
        assert set(mirdata.card(name).truth) <= set(mirdata.CARD.truth)
        for concept, levels in mirdata.card(name).truth.items():
            assert set(levels) <= set(mirdata.CARD.truth[concept])
