"""The claim that best tells where a latent fires, by the annotations: the ceiling (`musae.labels.explain_statistically`)."""

from __future__ import annotations

from musae.card import ExplainerCard
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labels import explain_statistically

CARD = ExplainerCard(
    name="statistical",
    summary="the most lifted attribute, by the annotations, with its p-value; chooses by what is measured: a ceiling",
    reads="annotations",
)


class Statistical(Explainer):
    """See `musae.labels.explain_statistically`."""

    card = CARD
    revision = "fisher-holm-1"

    def explain(self, case: Case) -> list[Explanation]:
        found = explain_statistically.explain(case.firing, case.data, case.level, case.permuted)
        return [Explanation(e.label, e.p) for e in found]


def load() -> Statistical:
    """The explainer."""
    return Statistical()
