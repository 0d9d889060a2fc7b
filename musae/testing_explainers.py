"""Conformance suite of an explainer (`musae.explainers.explainer.Explainer`), for third parties too::

    from musae.testing_explainers import check_explainer
    import my_explainer

    def test_conformance():
        check_explainer(my_explainer, lambda: my_explainer.load("local"))

It labels latents of a synthetic corpus that are concepts by construction, with the annotations in place of estimates. How good
labels are is another matter: that is what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import cast

import numpy as np

from musae.card import ExplainerCard
from musae.conformance import Check, run
from musae.corpora.track import Clip
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labels import evidence, facts
from musae.labels.claims import Claim, KeyClaim, Label, RootClaim
from musae.labels.evidence import Firing
from musae.scores.heldout import HeldOut
from musae.scores.mir import TONICS
from musae.testing_tasks import KEYS, synthetic_heldout

LEVEL = "exact"
CLAIMS: tuple[Claim, ...] = (*(RootClaim(root=root) for root in TONICS[:4]), *(KeyClaim(key=key) for key in KEYS[:2]))
"""What the latents of the synthetic case are; one more is silent."""


def check_explainer(module: ModuleType, make: Callable[[], Explainer] | None = None) -> None:
    """Raise AssertionError, naming what is wrong, unless an explainer keeps its contract.

    One explanation a latent, in order; the same again; nothing read of the judging half; a latent that never fires is no error.
    """
    run(explainer_checks(module, make))


def explainer_checks(module: ModuleType, make: Callable[[], Explainer] | None = None) -> list[Check]:
    """The checks of `check_explainer`, by name. `make`: how to make one, where ``load`` needs an argument."""
    card = cast(ExplainerCard, module.CARD)
    made = cache(cast(Callable[[], Explainer], make or module.load))
    return [
        Check("it loads, and its card is the module's", lambda: _check_load(card, made()), vital=True),
        Check("it explains each latent, in order", lambda: _check_labels(card, made()), vital=True),
        Check("the same case is explained in the same words", lambda: _check_again(card, made())),
        Check("it reads nothing of the judging half", lambda: _check_half(card, made())),
        Check("a case without latents is explained", lambda: _check_empty(card, made())),
    ]


def planted(data: HeldOut) -> Firing:
    """Latents that fire where `CLAIMS` hold, and one that never does.

    One of a property of clips fires throughout such a clip, one of a property of frames in each clip that has such a frame.
    """
    clip = evidence.clip_of(data)
    frames, clips = [], []
    for claim in CLAIMS:
        unit = facts.unit(claim)
        held = facts.facts(data, unit, LEVEL).holds(claim)[0]
        frames.append(held if unit == "frames" else held[clip])
        clips.append(held if unit == "clips" else np.bincount(clip[held], minlength=len(data.clips)) > 0)
    at: dict[facts.Unit, np.ndarray] = {
        "frames": np.pad(np.stack(frames, 1), ((0, 0), (0, 1))),
        "clips": np.pad(np.stack(clips, 1), ((0, 0), (0, 1))),
    }
    values = {unit: fires.astype(np.float32) for unit, fires in at.items()}
    return Firing(np.arange(len(CLAIMS) + 1), at, values, len(CLAIMS) + 1)


@cache
def _data() -> HeldOut:
    return synthetic_heldout()


def planted_case(data: HeldOut | None = None) -> Case:
    """The synthetic case, described by its annotations."""
    data = data or _data()
    return Case(planted(data), data, LEVEL, oracle=True)


def _check_load(card: ExplainerCard, explainer: Explainer) -> None:
    assert isinstance(explainer, Explainer), f"{card.name}: load() gives a {type(explainer).__name__}, and no Explainer"
    name = explainer.card.name
    assert name.partition(":")[0] == card.name, f"{card.name}: load() gives an explainer whose card is called {name!r}"
    assert explainer.revision, (
        f"{card.name}: its revision is empty, so that labels of another model could not be told from its own"
    )


def _check_labels(card: ExplainerCard, explainer: Explainer) -> None:
    case = planted_case()
    found = explainer.explain(case)
    count = len(case.firing.latents)
    assert len(found) == count, f"{card.name}: of {count} latents it explains {len(found)}"
    for one in found:
        assert isinstance(one, Explanation), f"{card.name}: it gives a {type(one).__name__}, and no Explanation"
        Label.model_validate(one.label.model_dump(by_alias=True))
        assert not (one.unscored and one.label.checkable), f"{card.name}: a label is unscored and claims something"
    silent = found[-1].label
    assert not silent.checkable, f"{card.name}: of a latent that never fires it claims {silent.name!r}"


def _check_again(card: ExplainerCard, explainer: Explainer) -> None:
    case = planted_case()
    first, again = explainer.explain(case), explainer.explain(case)
    assert first == again, f"{card.name}: asked twice, it gives other labels; draw with a fixed seed"


def _check_half(card: ExplainerCard, explainer: Explainer) -> None:
    """The annotations of the judging half are dealt out anew: labels must stay."""
    case = planted_case()
    judging = np.flatnonzero(~evidence.explaining(case.data)[case.data.groups])
    dealt = list(case.data.clips)
    for clip, donor in zip(judging.tolist(), np.roll(judging, 7).tolist(), strict=True):
        dealt[clip] = _with_annotations(case.data.clips[clip], case.data.clips[donor])
    other = replace(case, data=replace(case.data, clips=dealt))
    same = explainer.explain(case) == explainer.explain(other)
    assert same, f"{card.name}: its labels change with the annotations of the judging half, which it must not read"


def _with_annotations(clip: Clip, donor: Clip) -> Clip:
    return replace(clip, track=replace(clip.track, annotations=donor.track.annotations))


def _check_empty(card: ExplainerCard, explainer: Explainer) -> None:
    case = planted_case()
    none = case.firing
    empty = Firing(
        none.latents[:0],
        {unit: at[:, :0] for unit, at in none.at.items()},
        {unit: values[:, :0] for unit, values in none.values.items()},
        0,
    )
    found = explainer.explain(replace(case, firing=empty))
    assert list(found) == [], f"{card.name}: of no latents it explains {len(found)}"
