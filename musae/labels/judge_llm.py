"""Judges that ask a language model, one example a question, on the judging pieces (Paulo et al. 2024, arXiv:2410.13928).

- *Detection*: is the label true of this excerpt? Of excerpts where the latent fires, and where it is silent.
- *Fuzzing*: an excerpt is told moment by moment and one moment is marked. Is the mark where the label says? The same moments are
  told twice: once the moment is marked at which the latent fires, once another at which it is silent.
- *Intruder*: four excerpts where the latent fires and one where it is silent, in a drawn order. Which is the odd one out? This
  reads no label: it asks whether the latent fires on anything that can be told.

The first two are answered by the log-odds of yes against no, and scored by AUROC, which needs no threshold, and by balanced
accuracy at even odds. The third is answered by the likeliest letter. Negatives are drawn at random, or are hard (`Evidence`), and
are scored apart. A model of excerpts in words is no listener: it judges what estimators, or annotations, say of them. What a
provider does not answer is left out and counted with its reason; a label that abstains is at chance, and is not asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from musae.labels import evidence, prompts, words
from musae.labels.claims import Label
from musae.labels.descriptors import Tables
from musae.labels.evidence import Evidence, Example, Firing
from musae.labels.outcomes import Outcome, discrimination
from musae.providers.client import Client
from musae.providers.provider import Answer, Request
from musae.scores import spread
from musae.scores.heldout import HeldOut

KINDS = ("random", "hard")
"""Kinds of negatives of detection and intruder."""

NEGATIVES = 5
"""Silent excerpts of each kind that detection shows of a latent: as many in all as the ten where it fires."""

SHIFTED = "shifted"
"""The negatives of fuzzing: the mark, moved in time to where the latent is silent."""

MOMENTS = 5
"""Moments of a clip that fuzzing tells."""

OPTIONS = ("yes", "no")
LETTERS = ("A", "B", "C", "D", "E")

TRIALS = 3
"""Questions of the intruder test for each latent and kind of negative."""

UNLABELLED = "(none)"
"""How an empty label is told: a null."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Question:
    """One question about one latent."""

    column: int
    """Which of the latents."""
    kind: str
    """Kind of negative; empty where the latent fires."""
    piece: int
    request: Request | None
    """None where it cannot be put."""
    hindrance: str = ""
    """Why it cannot."""
    intruder: str = ""
    """The right letter."""


def told(label: Label) -> str | None:
    """A label as a judge is told it, name and description; None where it abstains."""
    return ". ".join(part for part in (label.name, label.description) if part) if label.claims else None


def detect(
    client: Client,
    labels: Sequence[str | None],
    shown: Sequence[Evidence],
    data: HeldOut,
    progress: Progress = lambda what, done, total: None,
) -> Outcome:
    """The detection test of what is `told` of each latent (an empty text is the null of no label) on evidence to judge by."""
    return _odds("detection", KINDS, client, labels, detection(labels, shown, data), data, progress)


def fuzz(
    client: Client,
    labels: Sequence[str | None],
    shown: Sequence[Evidence],
    firing: Firing,
    data: HeldOut,
    tables: Tables,
    progress: Progress = lambda what, done, total: None,
) -> Outcome:
    """The fuzzing test; `shown`: evidence to judge by, of each column of `firing`; `tables`: the facts it was made of."""
    questions = fuzzing(labels, shown, firing, data, tables)
    return _odds("fuzzing", (SHIFTED,), client, labels, questions, data, progress)


def spot(
    client: Client, shown: Sequence[Evidence], data: HeldOut, progress: Progress = lambda what, done, total: None
) -> Outcome:
    """The intruder test. Its excerpts are of many pieces, so that its intervals are over latents alone."""
    questions = intruders(shown, data)
    answers, unscored = _ask("intruder", client, questions, progress)
    right: dict[str, list[list[float]]] = {kind: [[] for _ in shown] for kind in KINDS}
    for question, answer in zip(questions, answers, strict=True):
        if answer is not None and answer.value is not None:
            best = max(answer.value.values())
            likeliest = [letter for letter, value in answer.value.items() if value == best]
            right[question.kind][question.column].append((question.intruder in likeliest) / len(likeliest))
    values = {
        ("accuracy", kind): np.tile([np.mean(r) if r else np.nan for r in found], (1 + len(data.plan), 1))
        for kind, found in right.items()
    }
    return Outcome("intruder", "accuracy", 1 / len(LETTERS), values, *_counts(questions, unscored, 0, data))


def detection(labels: Sequence[str | None], shown: Sequence[Evidence], data: HeldOut) -> list[Question]:
    """The questions of the detection test."""
    prompt = prompts.read("detection", 1)

    def ask(label: str, place: Example) -> Request:
        messages = prompt.messages(label=_line(label), excerpt=words.excerpt(place.descriptors))
        return Request(messages, prompt.tag, options=OPTIONS)

    return [
        Question(j, kind, int(data.groups[place.clip]), ask(label, place))
        for j, (label, one) in enumerate(zip(labels, shown, strict=True))
        if label is not None and one.top
        for kind, places in [("", one.top), *((kind, _negatives(one, kind)[:NEGATIVES]) for kind in KINDS)]
        for place in places
    ]


def fuzzing(
    labels: Sequence[str | None], shown: Sequence[Evidence], firing: Firing, data: HeldOut, tables: Tables
) -> list[Question]:
    """The questions of the fuzzing test, two of each clip in which a latent fires somewhere and is silent somewhere."""
    prompt = prompts.read("fuzzing", 1)
    questions = []
    for j, (label, one) in enumerate(zip(labels, shown, strict=True)):
        for place in one.top if label is not None else ():
            piece = int(data.groups[place.clip])
            moments = _moments(place, j, firing, data)
            if moments is None:
                questions.append(
                    Question(j, SHIFTED, piece, None, "fires throughout the clip: there is nowhere to move the mark")
                )
                continue
            rows, fires, silent = moments
            clip = words.excerpt(tables["clips"].at(place.clip))
            for kind, marked in (("", fires), (SHIFTED, silent)):
                lines = "\n".join(_moment(row, row == marked, data, tables) for row in rows)
                request = Request(
                    prompt.messages(label=_line(label or ""), clip=clip, moments=lines), prompt.tag, options=OPTIONS
                )
                questions.append(Question(j, kind, piece, request))
    return questions


def intruders(shown: Sequence[Evidence], data: HeldOut) -> list[Question]:
    """The questions of the intruder test, at most `TRIALS` a latent and kind of negative."""
    prompt = prompts.read("intruder", 1)
    questions = []
    for j, one in enumerate(shown):
        for kind in KINDS:
            for trial, odd in enumerate(_negatives(one, kind)[:TRIALS]):
                piece = int(data.groups[odd.clip])
                if len(one.top) < len(LETTERS) - 1:
                    reason = f"fires in fewer than {len(LETTERS) - 1} clips of the judging pieces"
                    questions.append(Question(j, kind, piece, None, reason))
                    continue
                rng = spread.random(data.corpus_revision, f"intruder {one.latent} {kind} {trial}")
                places = [*(one.top[i] for i in rng.permutation(len(one.top))[: len(LETTERS) - 1]), odd]
                order = rng.permutation(len(LETTERS))
                told_ = [f"{letter}: {words.excerpt(places[i].descriptors)}" for letter, i in zip(LETTERS, order, strict=True)]
                request = Request(prompt.messages(excerpts="\n".join(told_)), prompt.tag, options=LETTERS)
                right = LETTERS[int(np.flatnonzero(order == len(LETTERS) - 1)[0])]
                questions.append(Question(j, kind, piece, request, intruder=right))
    return questions


def _odds(
    test: str,
    kinds: Sequence[str],
    client: Client,
    labels: Sequence[str | None],
    questions: Sequence[Question],
    data: HeldOut,
    progress: Progress,
) -> Outcome:
    answers, unscored = _ask(test, client, questions, progress)
    yes, no = OPTIONS
    found = [
        (question.column, question.kind, question.piece, answer.value[yes] - answer.value[no])
        for question, answer in zip(questions, answers, strict=True)
        if answer is not None and answer.value is not None
    ]
    abstains = np.array([label is None for label in labels], bool)
    values = discrimination(test, kinds, found, abstains, data.plan)
    return Outcome(test, "auroc", 0.5, values, *_counts(questions, unscored, int(abstains.sum()), data))


def _ask(
    test: str, client: Client, questions: Sequence[Question], progress: Progress
) -> tuple[list[Answer | None], Mapping[str, int]]:
    """The answer to each question, None where it cannot be put, and how many have none, by reason."""
    answers = iter(client.complete([q.request for q in questions if q.request], lambda done, total: progress(test, done, total)))
    found = [next(answers) if question.request else None for question in questions]
    reasons = [q.hindrance if a is None else a.unscored for q, a in zip(questions, found, strict=True)]
    return found, Counter(reason for reason in reasons if reason)


def _counts(
    questions: Sequence[Question], unscored: Mapping[str, int], abstained: int, data: HeldOut
) -> tuple[int, Mapping[str, int], int, int, str]:
    asked = sum(question.request is not None for question in questions)
    return asked, unscored, abstained, len({question.piece for question in questions}), data.corpus_revision


def _negatives(one: Evidence, kind: str) -> tuple[Example, ...]:
    return one.hard if kind == "hard" else one.random


def _line(text: str) -> str:
    return " ".join(text.split()) or UNLABELLED


def _moments(place: Example, column: int, firing: Firing, data: HeldOut) -> tuple[list[int], int, int] | None:
    """Rows of the moments that are told, in time, where the latent fires, and where it is silent; None where it never is."""
    rows = np.flatnonzero(evidence.clip_of(data) == place.clip)
    values, fires = firing.values["frames"][rows, column], firing.at["frames"][rows, column]
    if not (~fires).any():
        return None
    peak = int(rows[np.argmax(np.where(fires, values, -np.inf))])
    rng = spread.random(data.corpus_revision, f"fuzzing {firing.latents[column]} {place.clip}")
    silent = int(rng.choice(rows[~fires]))
    others = [int(row) for row in rng.permutation(rows) if row not in (peak, silent)][: MOMENTS - 2]
    return sorted([peak, silent, *others]), peak, silent


def _moment(row: int, marked: bool, data: HeldOut, tables: Tables) -> str:
    seconds = data.times[data.probe_rows[row] % len(data.times)] - data.period / 2
    return f"{seconds:.1f} s: {words.excerpt(tables['frames'].at(row))}{' (marked)' if marked else ''}"
