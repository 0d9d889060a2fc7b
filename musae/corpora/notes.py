"""Corpora made of exact notes: tracks from a builder, audio from the renderer.

A corpus module supplies its card, its rules and a builder of tracks; `NoteCorpus` does what all of them share: the revision,
random clips, and audio. A clip's audio depends on the clip alone (`render.Segment`), never on what else is asked for.
"""

from __future__ import annotations

import hashlib
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from musae.card import CorpusCard
from musae.corpora import instruments, render
from musae.corpora.track import Clip, Split, Track
from musae.errors import UserError


class LazyTracks(Sequence[Track]):
    """Tracks that are built when asked for, each on its own, and not kept: an hour of exact notes takes about 5 MB."""

    def __init__(self, count: int, build: Callable[[int], Track]) -> None:
        self._indices, self._build = range(count), build

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Track: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Track]: ...
    def __getitem__(self, index: int | slice) -> Track | Sequence[Track]:
        if isinstance(index, slice):
            return [self._build(i) for i in self._indices[index]]
        return self._build(self._indices[index])


class NoteCorpus:
    """A corpus (`musae.corpora.track.Corpus`) whose tracks carry exact notes and are rendered on demand.

    Parameters
    ----------
    card: what the corpus is.
    rules: everything beside the source text that the tracks depend on (versions of libraries, tables); part of the revision.
    sources: files whose code makes the tracks; their code, without comments, is part of the revision.
    build: split -> its tracks in a fixed order; called once for each split.
    """

    def __init__(
        self, card: CorpusCard, *, rules: str, sources: Sequence[str], build: Callable[[Split], Sequence[Track]]
    ) -> None:
        self.card = card
        self._build = build
        self._tracks: dict[Split, Sequence[Track]] = {}
        digest = hashlib.sha256(f"{rules}\n{render.synthesiser()}".encode())
        for source in (*sources, render.__file__, instruments.__file__, __file__):
            digest.update(_code(Path(source)).encode())
        self._revision = digest.hexdigest()[:10]

    @property
    def revision(self) -> str:
        """Ten hex digits that change with the rules, the code that makes tracks and audio, the synthesiser or the soundfont."""
        return self._revision

    def tracks(self, split: Split) -> Sequence[Track]:
        """The tracks of a split, in a fixed order."""
        if split not in self._tracks:
            self._tracks[split] = self._build(split)
        return self._tracks[split]

    def clips(self, split: Split, *, seconds: float, per_track: int = 1, limit: int | None = None, seed: int = 0) -> list[Clip]:
        """Clips at random offsets: `per_track` of each track, in the corpus's order.

        A clip lies wholly in its track and starts on a whole millisecond; the starts depend on track id and seed only, and
        those of one track differ. A track shorter than `seconds` gives none; one with fewer possible starts gives them all.
        With a `limit`, each group gives a clip in turn, in the corpus's order, until there are so many.

        Raises UserError when `seconds` is not positive or no track is long enough.
        """
        if not seconds > 0:
            raise UserError(f"clips of {seconds} seconds: give a positive length.")
        by_group: dict[str, list[tuple[int, Clip]]] = defaultdict(list)
        for order, track in enumerate(self.tracks(split)):
            starts = clip_starts(track, seconds, per_track, seed)
            by_group[track.group] += [(order, Clip(track, start, seconds)) for start in starts]
            if limit is not None and sum(map(bool, by_group.values())) >= limit:
                break
        chosen = [clip for clips in by_group.values() for clip in enumerate(clips)]
        if not chosen:
            raise UserError(
                f"corpus {self.card.name!r} has no {split} track of {seconds} seconds or more; ask for shorter clips."
            )
        first_of_each_group_first = sorted(chosen, key=lambda c: c[0])[:limit]
        return [clip for _, (_, clip) in sorted(first_of_each_group_first, key=lambda c: (c[1][0], c[0]))]

    def audio(self, clips: Sequence[Clip], rate: int, workers: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Mono audio of each clip in order, `round(duration * rate)` samples in [-1, 1], by `workers` processes."""
        segments = (render.Segment(c.track.notes, c.track.voices, c.duration, c.start) for c in clips)
        return render.render_all(segments, rate, workers)

    def track_audio(self, tracks: Iterable[Track], rate: int, workers: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Mono audio of whole tracks, in order; tracks are drawn from the iterable a few ahead."""
        return render.render_all((render.Segment(t.notes, t.voices, t.duration) for t in tracks), rate, workers)


def clip_starts(track: Track, seconds: float, count: int, seed: int) -> list[float]:
    """At most `count` distinct start times in seconds, ascending, on whole milliseconds, uniform over where a clip fits."""
    latest = int(round((track.duration - seconds) * 1e6) // 1000)
    if latest < 0:
        return []
    key = hashlib.sha256(f"{seed}/{track.id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
    drawn = rng.choice(latest + 1, size=min(count, latest + 1), replace=False)
    return [float(start) / 1000 for start in sorted(drawn)]


def _code(source: Path) -> str:
    """A Python file's code without comments, docstrings and blank lines: what it does cannot change unless this does."""
    kept: list[str] = []
    statement: list[tokenize.TokenInfo] = []
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)
    with source.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in skipped:
                continue
            statement.append(token)
            if token.type == tokenize.NEWLINE:
                words = [t for t in statement if t.type not in (tokenize.INDENT, tokenize.DEDENT)]
                docstring = len(words) == 2 and words[0].type == tokenize.STRING
                kept += [t.string for t in statement if not docstring or t not in words]
                statement = []
    return " ".join(kept)
