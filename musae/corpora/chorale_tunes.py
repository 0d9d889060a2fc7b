"""Which chorales harmonise the same tune: groups by melody, whatever its key.

A tune is the soprano's pitch classes on the beats, repeated notes taken once: that leaves out passing notes and most of what
differs in rhythm between versions in three and in four. Two chorales share a tune when

- their openings (the first `OPENING` notes, about two phrases) differ, in the best of 12 transpositions, by at most
  `OPENING_EDITS` insertions, deletions and replacements, where either may go on longer than the other; or
- their whole melodies, both ending on the same note, differ in at most `WHOLE_EDITS` of the longer one's notes; or
- music21's list of Riemenschneider's chorales gives them one title.

Groups are the connected components of these pairs. Over all pairs, the openings' distances have a gap at 3 (94, 85 and 46 pairs
at 1, 2, 3; then 178 and 706 at 4 and 5, which chance gives). The rule leans to joining: the same title with another tune, or a
stock opening, joins; a strongly ornamented version without a title may stay apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from musae.corpora.chorale_scores import EPSILON, Score

Ints = NDArray[np.int16]
Index = NDArray[np.intp]

OPENING = 16
OPENING_EDITS = 3
WHOLE = 96
"""Notes of a whole melody that are compared at most, from its end."""
WHOLE_EDITS = 0.3


def groups(scores: Sequence[Score]) -> list[int]:
    """For each score, the index of the first score with the same tune."""
    melodies = [_tune(score) for score in scores]
    left, right = np.triu_indices(len(scores), 1)
    same = np.zeros(len(left), bool)
    opening, lengths = _pad([m[:OPENING] for m in melodies])
    for shift in range(12):
        moved = (opening + shift) % 12
        needed = np.minimum(lengths[left], lengths[right]) - OPENING_EDITS
        near = np.flatnonzero(~same & (_common(moved, opening, lengths, left, right) >= needed))
        i, j = left[near], right[near]
        same[near] = _edits(moved[i], lengths[i], opening[j], lengths[j], prefix=True) <= OPENING_EDITS
    whole, lengths = _pad([[(p - m[-1]) % 12 for p in m[::-1][:WHOLE]] for m in melodies])
    longer = np.maximum(lengths[left], lengths[right])
    near = np.flatnonzero(~same & (_common(whole, whole, lengths, left, right) >= (1 - WHOLE_EDITS) * longer))
    i, j = left[near], right[near]
    same[near] = _edits(whole[i], lengths[i], whole[j], lengths[j], prefix=False) <= WHOLE_EDITS * longer[near]
    pairs = [(int(left[k]), int(right[k])) for k in np.flatnonzero(same)]
    first: dict[str, int] = {}
    for index, title in enumerate(_titles(scores)):
        if title:
            pairs.append((first.setdefault(title, index), index))
    return _components(len(scores), pairs)


def _tune(score: Score) -> list[int]:
    """The soprano's pitch classes on the beats, repeated notes once."""
    tune: list[int] = []
    melody = score.melody()
    for beat, _ in score.beats():
        pitch = next((n.pitch % 12 for n in melody if n.onset <= beat + EPSILON < n.onset + n.duration), None)
        if pitch is not None and tune[-1:] != [pitch]:
            tune.append(pitch)
    return tune


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Sequences as the rows of a matrix, and their lengths."""
    lengths = np.array([len(r) for r in rows], np.int16)
    matrix = np.zeros((len(rows), int(lengths.max())), np.int16)
    for row, values in zip(matrix, rows, strict=True):
        row[: len(values)] = values
    return matrix, lengths


def _common(a: Ints, b: Ints, lengths: Ints, left: Index, right: Index) -> Index:
    """How many notes rows `left` of `a` and `right` of `b` have in common, in any order: as many as can match at most."""
    counts = [np.stack([np.bincount(row[:n], minlength=12) for row, n in zip(m, lengths, strict=True)]) for m in (a, b)]
    common: Index = np.minimum(counts[0][left], counts[1][right]).sum(1)
    return common


def _edits(a: Ints, a_lengths: Ints, b: Ints, b_lengths: Ints, *, prefix: bool) -> Ints:
    """Edit distances of row pairs; with `prefix`, the least between one row and any beginning of the other."""
    count, width = b.shape
    columns, rows = np.arange(width + 1), np.arange(count)
    table = np.broadcast_to(columns.astype(np.int16), (count, width + 1))
    found = np.full(count, np.iinfo(np.int16).max, np.int16)
    for i in range(1, a.shape[1] + 1):
        before, table = table, np.empty((count, width + 1), np.int16)
        table[:, 0] = i
        table[:, 1:] = np.minimum(before[:, :-1] + (a[:, i - 1 : i] != b), before[:, 1:] + 1)
        for j in range(1, width + 1):
            np.minimum(table[:, j], table[:, j - 1] + 1, out=table[:, j])
        last = a_lengths == i
        if prefix:
            reached = np.where(columns <= b_lengths[last, None], table[last], found[last, None])
            found[last] = np.minimum(found[last], reached.min(1))
            found = np.where(i <= a_lengths, np.minimum(found, table[rows, b_lengths]), found)
        else:
            found[last] = table[last, b_lengths[last]]
    return found


def _titles(scores: Sequence[Score]) -> list[str]:
    """Titles in Riemenschneider's numbering, letters only; empty where there is none."""
    from music21.corpus import chorales  # two seconds to import

    numbered = {str(bwv): entry["title"] for bwv, entry in chorales.ChoraleListRKBWV().byBWV.items()}
    numbered |= {str(bwv): entry["title"] for bwv, entry in chorales.ChoraleList().byBWV.items()}
    plain = (unicodedata.normalize("NFKD", numbered.get(score.name.removeprefix("bwv"), "")) for score in scores)
    return [re.sub("[^a-z]", "", title.replace("ß", "ss").lower()) for title in plain]


def _components(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` items, the least item that a chain of pairs joins it to."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(item) for item in range(count)]
