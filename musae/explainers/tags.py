"""The paper's second labels: what a tagger hears most often in a latent's strongest excerpts (Singh et al., arXiv 2505.18186).

The paper asks Essentia's classifiers of genre, mood and instrument. Here the tags are those of the estimators in use
(`musae.labels.descriptors`): chords, key, tempo, and instrument families where their models are at hand. The most frequent tag is
the claim, whatever its frequency elsewhere: so a tag that is common everywhere is often claimed, and judged as such.
"""

from __future__ import annotations

from collections import Counter

from musae.card import ExplainerCard
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labels import words
from musae.labels.claims import ABSTENTION, Claim
from musae.labels.evidence import Evidence
from musae.labels.explain_statistically import CANDIDATES, describe

CARD = ExplainerCard(
    name="tags",
    summary="the most frequent tag that Essentia's estimators hear in a latent's strongest excerpts, as in the paper",
    reads="descriptors",
)

KINDS = ("chord", "key", "tempo", "family", "drums")
"""Kinds of claims that are tags of a tool; root, quality and mode are parts of them."""


class Tags(Explainer):
    """The most frequent tag of the exemplars; the first in the order of the candidates where several are."""

    card = CARD
    revision = "most-frequent-1"

    def explain(self, case: Case) -> list[Explanation]:
        return [_most_frequent(shown) for shown in case.evidence()]


def _most_frequent(shown: Evidence) -> Explanation:
    tags = [one for one in CANDIDATES if one.model_dump()["kind"] in KINDS]
    counted: Counter[Claim] = Counter(one for place in shown.top for one in words.borne_out(tags, place.descriptors))
    if not counted:
        return Explanation(ABSTENTION, unscored="" if shown.top else "fires nowhere on the explaining pieces")
    best = max(counted.values())
    claim = next(one for one in tags if counted[one] == best)
    return Explanation(describe([claim], confidence=best / len(shown.top)))


def load() -> Tags:
    """The explainer."""
    return Tags()
