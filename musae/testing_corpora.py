"""Conformance suite of a corpus (`musae.corpora.track.Corpus`), for third parties too::

    from musae.testing_corpora import check_corpus
    from my_package import my_corpus

    def test_conformance():
        check_corpus(my_corpus)

`check_corpus` takes a module with ``CARD`` and ``load()``, runs all checks and raises AssertionError with a sentence that says
what is wrong; `corpus_checks` gives them one by one. Chords and keys are read by mir_eval.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import ModuleType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from musae.card import CorpusCard
from musae.conformance import Check, run
from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.track import CONCEPTS, Annotations, Clip, Corpus, Span, Split, Track, Truth
from musae.errors import UserError
from musae.scores import mir

RATE = 16_000
"""Sampling rate in Hz at which audio is asked for."""

SECONDS = 1.5
"""Length of the clips that are asked for; every split must have tracks as long as that."""

SLACK = 1e-6
"""Seconds by which a time may lie beyond the track's end, for rounding."""

SOUNDING = {*FAMILIES, DRUMS}
"""What may be called an instrument."""

Tracks = dict[Split, list[Track]]


def check_corpus(module: ModuleType, limit: int | None = None) -> None:
    """Raise AssertionError, naming what is wrong, unless a corpus keeps its contract.

    Groups lie in one split, ids are unique and safe in a path, annotations are within their track and in the field's syntax,
    truth levels are those of the card, clips depend on their arguments alone, and the audio of a clip on the clip alone.

    `limit`: look at no more tracks of each split, evenly spaced; all of them where None.
    """
    run(corpus_checks(module, limit))


def corpus_checks(module: ModuleType, limit: int | None = None) -> list[Check]:
    """The checks of `check_corpus`, by name."""
    card = cast(CorpusCard, module.CARD)
    corpus = cache(lambda: cast(Corpus, module.load()))
    tracks = cache(lambda: _tracks(corpus(), limit))

    def every() -> Iterable[Track]:
        return itertools.chain(*tracks().values())

    return [
        Check("it loads, and its card is the module's", lambda: _check_load(card, corpus()), vital=True),
        Check("tracks of each split", lambda: _check_splits(card, tracks()), vital=True),
        Check("ids are unique and safe in a path", lambda: _check_ids(card, tracks())),
        Check("a group lies in one split", lambda: _check_groups(card, tracks())),
        Check("annotations lie within the track", lambda: _each(_check_times, card, every())),
        Check("labels are in the field's syntax", lambda: _check_labels(card, every())),
        Check("levels of truth are those of the card", lambda: _each(_check_truth, card, every())),
        Check("notes are playable", lambda: _each(_check_notes, card, every())),
        Check("loaded again, it is the same", lambda: _check_again(card, corpus(), cast(Corpus, module.load()), tracks())),
        Check("clips", lambda: _check_clips(card, corpus(), tracks())),
        Check("a clip's audio depends on the clip alone", lambda: _check_audio(card, corpus())),
    ]


def _tracks(corpus: Corpus, limit: int | None) -> Tracks:
    """Tracks by split, at most `limit` of each, evenly spaced."""
    found = {}
    for split in Split:
        tracks = corpus.tracks(split)
        kept = min(len(tracks), limit or len(tracks))
        found[split] = [tracks[i * len(tracks) // kept] for i in range(kept)]
    return found


def _check_load(card: CorpusCard, corpus: Corpus) -> None:
    assert corpus.card == card, f"{card.name}: load() gives a corpus whose card is not the module's CARD"
    revision = corpus.revision
    is_digest = isinstance(revision, str) and re.fullmatch("[0-9a-f]{10}", revision)
    assert is_digest, f"{card.name}: the revision must be ten hex digits, not {revision!r}"
    assert corpus.revision == revision, f"{card.name}: the revision changes from one look to the next"
    unknown = sorted(set(card.truth) - set(CONCEPTS))
    assert not unknown, f"{card.name}: the card's truth names {unknown[0]!r}, which is no concept; known: {', '.join(CONCEPTS)}"
    levels = {level for levels in card.truth.values() for level in levels}
    wrong = sorted(levels - {str(level) for level in Truth})
    assert not wrong, f"{card.name}: the card's truth names the level {wrong[0]!r}; known: {', '.join(Truth)}"


def _check_splits(card: CorpusCard, tracks: Tracks) -> None:
    for split, members in tracks.items():
        assert members, f"{card.name}: the split {split} has no tracks"
        for track in members:
            assert track.split is split, f"{card.name}: track {track.id!r} is among those of {split}, and says {track.split}"
            assert track.duration > 0, f"{card.name}: track {track.id!r} lasts {track.duration} s"
            assert track.licence, f"{card.name}: track {track.id!r} names no licence"
        longest = max(track.duration for track in members)
        assert longest >= SECONDS, f"{card.name}: no {split} track lasts {SECONDS} s"


def _check_ids(card: CorpusCard, tracks: Tracks) -> None:
    counts = Counter(track.id for members in tracks.values() for track in members)
    [(most, count)] = counts.most_common(1)
    assert count == 1, f"{card.name}: {count} tracks have the id {most!r}"
    for name in counts:
        safe = re.fullmatch(r"[A-Za-z0-9._-]+", name) and name not in (".", "..")
        assert safe, f"{card.name}: the id {name!r} may hold only letters, digits and ._-"


def _check_groups(card: CorpusCard, tracks: Tracks) -> None:
    train, heldout = ({track.group for track in tracks[split]} for split in Split)
    assert "" not in train | heldout, f"{card.name}: a track has no group"
    shared = sorted(train & heldout)
    assert not shared, f"{card.name}: the group {(shared or [''])[0]!r} has tracks in both splits: training would hear the test"


def _each(check: Callable[[str, Track, CorpusCard], None], card: CorpusCard, tracks: Iterable[Track]) -> None:
    for track in tracks:
        check(f"{card.name}: track {track.id!r}", track, card)


def _check_times(where: str, track: Track, card: CorpusCard) -> None:
    a = track.annotations
    for concept, spans in (("chord", a.chords), ("key", a.keys)):
        _check_spans(where, concept, spans, track.duration)
    outside = [t for t in a.beats if not 0 <= t <= track.duration + SLACK]
    assert not outside, f"{where}: a beat at {outside[0]} s, and the track lasts from 0 to {track.duration} s"
    assert list(a.beats) == sorted(set(a.beats)), f"{where}: its beats do not ascend"
    assert len(a.beat_positions) in (0, len(a.beats)), f"{where}: {len(a.beats)} beats with {len(a.beat_positions)} positions"
    assert all(p >= 1 for p in a.beat_positions), f"{where}: a beat's position in the bar is below 1"
    assert a.tempo is None or 0 < a.tempo < 1000, f"{where}: its tempo is {a.tempo} beats a minute"


def _check_spans(where: str, concept: str, spans: Sequence[Span], duration: float) -> None:
    end = 0.0
    for span in spans:
        place = f"{where}: its {concept} {span.label!r}, from {span.start} to {span.end} s,"
        assert span.start < span.end, f"{place} has no length"
        assert span.start >= end - SLACK, f"{place} begins before the one before it ends, at {end} s"
        assert span.end <= duration + SLACK, f"{place} ends after the track, which lasts {duration} s"
        end = span.end


def _check_labels(card: CorpusCard, tracks: Iterable[Track]) -> None:
    chords: dict[str, str] = {}
    keys: dict[str, str] = {}
    for track in tracks:
        chords |= {span.label: track.id for span in track.annotations.chords}
        keys |= {span.label: track.id for span in track.annotations.keys}
        strange = sorted(track.annotations.instruments - SOUNDING)
        assert not strange, f"{card.name}: track {track.id!r}: {strange[0]!r} is no General MIDI family"
        doubtful = sorted(track.annotations.instruments & track.annotations.unobserved)
        assert not doubtful, f"{card.name}: track {track.id!r}: {doubtful[0]!r} sounds, and is among what nobody observed"
    for label, track_id in chords.items():
        try:
            mir.chord_classes([label], "root")
        except Exception as error:
            raise AssertionError(
                f"{card.name}: track {track_id!r}: the chord {label!r} is not in Harte syntax: {error}"
            ) from error
    for label, track_id in keys.items():
        try:
            mir.key_index(label)
        except Exception as error:
            raise AssertionError(f"{card.name}: track {track_id!r}: mir_eval cannot read the key {label!r}: {error}") from error


def _check_truth(where: str, track: Track, card: CorpusCard) -> None:
    present = _concepts(track.annotations)
    levels = {concept: str(level) for concept, level in track.annotations.truth.items()}
    for concept in sorted(present - set(levels)):
        raise AssertionError(f"{where}: it has {concept}, and truth does not say how they are known")
    for concept, level in levels.items():
        assert concept in CONCEPTS, f"{where}: truth names {concept!r}, which is no concept; known: {', '.join(CONCEPTS)}"
        known = ", ".join(card.truth.get(concept, ())) or "nothing"
        assert level in card.truth.get(concept, ()), f"{where}: its {concept} is {level}, and the card says {known}"


def _concepts(a: Annotations) -> set[str]:
    """The concepts that are annotated."""
    given = {"chords": a.chords, "key": a.keys, "tempo": a.tempo, "beats": a.beats, "instruments": a.instruments}
    return {concept for concept, value in given.items() if value}


def _check_notes(where: str, track: Track, card: CorpusCard) -> None:
    onsets = [note.onset for note in track.notes]
    assert onsets == sorted(onsets), f"{where}: its notes are not sorted by onset"
    for note in track.notes:
        sound = 0 <= note.onset < track.duration and note.duration > 0 and 0 <= note.pitch <= 127 and 1 <= note.velocity <= 127
        assert sound, f"{where}: no MIDI note within the track: {note}"
        assert 0 <= note.voice < len(track.voices), f"{where}: a note of voice {note.voice}, and there are {len(track.voices)}"
    for voice in track.voices:
        assert 0 <= voice.program <= 127, f"{where}: General MIDI has no program {voice.program}"
        assert voice.family in SOUNDING, f"{where}: {voice.family!r} is no General MIDI family"


def _check_again(card: CorpusCard, first: Corpus, second: Corpus, tracks: Tracks) -> None:
    assert first.revision == second.revision, f"{card.name}: two loads have different revisions"
    for split, members in tracks.items():
        again = second.tracks(split)
        assert len(again) == len(first.tracks(split)), f"{card.name}: two loads have different numbers of {split} tracks"
        for i in {0, len(members) - 1}:
            twin = again[i * len(again) // len(members)]
            assert twin == members[i], f"{card.name}: loaded again, the {split} track {members[i].id!r} is another"


def _check_clips(card: CorpusCard, corpus: Corpus, tracks: Tracks) -> None:
    name = card.name
    for split in Split:
        count = 6
        clips = corpus.clips(split, seconds=SECONDS, per_track=2, limit=count)
        assert 0 < len(clips) <= count, f"{name}: limit = {count} gives {len(clips)} {split} clips"
        for clip in clips:
            where = f"{name}: the clip {clip.id!r}"
            assert clip.track.split is split, f"{where} is not of the split {split}"
            assert clip.duration == SECONDS, f"{where} lasts {clip.duration} s, not the {SECONDS} s asked for"
            within = clip.start >= 0 and clip.start + SECONDS <= clip.track.duration + SLACK
            assert within, f"{where} does not lie within its track"
        ids = [clip.id for clip in clips]
        assert len(set(ids)) == len(ids), f"{name}: two {split} clips have one id"
        again = corpus.clips(split, seconds=SECONDS, per_track=2, limit=count)
        assert ids == [clip.id for clip in again], f"{name}: the same arguments give other {split} clips"
        groups = len({track.group for track in tracks[split] if track.duration >= SECONDS})
        spread = len({clip.group for clip in clips})
        assert spread >= min(groups, len(clips)), f"{name}: {len(clips)} {split} clips of {spread} groups, and there are {groups}"
    try:
        long = corpus.clips(Split.HELDOUT, seconds=1e6)
    except UserError:
        return
    assert not long, f"{name}: clips of 1e6 s must be refused by UserError, or be none"


def _check_audio(card: CorpusCard, corpus: Corpus) -> None:
    clips = list(corpus.clips(Split.HELDOUT, seconds=SECONDS, limit=3))
    together = _listen(card, corpus, clips)
    for clip, one in zip(clips, together, strict=True):
        where = f"{card.name}: the audio of the clip {clip.id!r}"
        samples = round(SECONDS * RATE)
        assert isinstance(one, np.ndarray), f"{where} is no array"
        right = one.dtype == np.float32 and one.shape == (samples,)
        assert right, f"{where} is {one.dtype} {one.shape}, not float32 ({samples},)"
        assert bool((np.abs(one) <= 1).all()), f"{where} must be finite, within -1 and 1"
    assert any(one.any() for one in together), f"{card.name}: the clips {', '.join(clip.id for clip in clips)} are silent"
    last, again = _listen(card, corpus, clips[-1:]), _listen(card, corpus, clips[-1:])
    assert np.array_equal(last[0], again[0]), f"{card.name}: the clip {clips[-1].id!r} sounds otherwise the second time"
    alike = np.array_equal(last[0], together[-1])
    assert alike, f"{card.name}: the clip {clips[-1].id!r} sounds otherwise where others are asked for with it"


def _listen(card: CorpusCard, corpus: Corpus, clips: Sequence[Clip]) -> list[NDArray[np.float32]]:
    audio = list(corpus.audio(clips, RATE))
    assert len(audio) == len(clips), f"{card.name}: audio of {len(audio)} clips, where {len(clips)} are asked for"
    return audio
