"""From what was measured to the rows of the tables: pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musae.labels import evidence
from musae.scores import spread
from musae.sweep import Member
from musae.tables import activity, origin
from musae.tables.measure import Measured
from musae.tables.schema import Count, Difference, Estimate, Kind, LabelScore, Origin, Point, Setting

Key = tuple[Member, Kind]

Axis = Literal["lower", "upper", "level"]

AXES: dict[Axis, tuple[float, ...]] = {"lower": activity.LOWER, "upper": activity.UPPER, "level": activity.LEVELS}

FEATURES: tuple[Literal["all", "concepts", "statistics"], ...] = ("all", "concepts", "statistics")


Layers = dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Layer -> profiles of its latents ``[S, P]``, and their numbers ``[S]``."""


@dataclass(frozen=True)
class Profiles:
    """What a layer-of-origin classifier reads."""

    setting: Setting
    kind: Kind
    features: Literal["all", "concepts", "statistics"]


def setting(member: Member, d: int) -> Setting:
    """A member without its layer; `d`: width of the stream."""
    return Setting(method=member.method, width=member.width, expansion=member.width / d, k=member.k, seed=member.seed)


def estimate(values: NDArray, centre: bool = False) -> Estimate:
    """A value with its interval, from the sample followed by its replicates ``[1 + R]``; see `spread.summarise`."""
    score = spread.summarise("value", np.asarray(values, np.float64), centre=centre)
    return Estimate(value=score.value, low=score.low, high=score.high, unscored=score.reason)


def counts(found: Mapping[Key, Measured], d: int) -> Iterator[Count]:
    """How many latents pass the paper's filter, by each definition of active."""
    for (member, kind), one in found.items():
        for definition, values in zip(activity.DEFINITIONS, one.counts, strict=True):
            of = estimate(values, centre=True)
            of = of.model_copy(update={"low": max(0.0, of.low or 0.0)})
            yield Count(
                setting=setting(member, d),
                kind=kind,
                layer=member.layer,
                definition=definition,  # type: ignore[arg-type]
                count=of,
            )


def points(found: Mapping[Key, Measured], d: int) -> Iterator[Point]:
    """The sensitivity curves: of each dictionary, and of all layers together (counts added up, label scores averaged).

    `lower` and `upper` vary a bound of the rate, "active" being a positive mean and labels those of `evidence.LEVEL`; `level`
    varies what active and firing mean, with the paper's bounds.
    """
    together: dict[tuple[Setting, Kind], list[Measured]] = {}
    for (member, kind), one in found.items():
        together.setdefault((setting(member, d), kind), []).append(one)
        yield from _points([one], setting(member, d), kind, member.layer)
    for (of, kind), some in together.items():
        yield from _points(some, of, kind, None)


def _points(some: Sequence[Measured], of: Setting, kind: Kind, layer: int | None) -> Iterator[Point]:
    default = activity.LEVELS.index(evidence.LEVEL)
    for truth in sorted(set().union(*(one.each for one in some))) or [""]:
        for axis, places in AXES.items():
            for number, at in enumerate(places):
                lower, upper = (
                    at if axis == name else bound for name, bound in zip(("lower", "upper"), activity.BAND, strict=True)
                )
                rate, judged = (number, number) if axis == "level" else (0, default)
                count, sampled, means = 0, 0, []
                for one in some:
                    inside = activity.within(one.rates[rate], (lower, upper))
                    count += int(inside.sum())
                    sampled += int(inside[one.latents].sum())
                    if truth in one.each and inside[one.latents].any():
                        means.append(spread.nanmean(one.each[truth][judged][:, inside[one.latents]].astype(np.float64)))
                why = "no latent of the sample lies within the bounds" if truth else "no clip is annotated"
                youden = Estimate(unscored=why)
                if means:
                    youden = estimate(spread.nanmean(np.stack(means, 1)))
                yield Point(
                    setting=of,
                    kind=kind,
                    layer=layer,
                    axis=axis,
                    at=at,
                    count=count,
                    truth=truth,
                    sampled=sampled,
                    youden=youden,
                )


def labels(found: Mapping[Key, Measured], d: int) -> Iterator[LabelScore]:
    """Label scores by the task's rule."""
    for (member, kind), one in found.items():
        for truth, scores in one.labels.items():
            yield LabelScore(
                setting=setting(member, d),
                kind=kind,
                layer=member.layer,
                truth=truth,
                latents=scores.latents,
                eligible=scores.eligible,
                labelled=scores.labelled,
                youden=estimate(scores.youden),
                permuted=estimate(scores.permuted),
                shuffled=estimate(scores.shuffled),
            )


def differences(found: Mapping[Key, Measured], d: int) -> Iterator[Difference]:
    """Paired differences of label scores: of every two layers of a setting, deeper less shallower, and of trained less random."""
    grouped: dict[Setting, list[Member]] = {}
    for member, kind in found:
        if kind == "trained":
            grouped.setdefault(setting(member, d), []).append(member)
    for of, members in grouped.items():
        pairs: list[tuple[Key, Key]] = [((one, "trained"), (one, "random")) for one in members]
        pairs += [((b, "trained"), (a, "trained")) for a, b in itertools.combinations(sorted(members, key=_layer), 2)]
        for one, other in pairs:
            if other not in found:
                continue
            for truth in sorted(found[one].labels.keys() & found[other].labels.keys()):
                less = found[one].labels[truth].youden - found[other].labels[truth].youden
                yield Difference(
                    setting=of,
                    truth=truth,
                    layer=one[0].layer,
                    kind=one[1],
                    less_layer=other[0].layer,
                    less_kind=other[1],
                    youden=estimate(less),
                )


def _layer(member: Member) -> int:
    return member.layer


def profiles(found: Mapping[Key, Measured], d: int) -> dict[Profiles, Layers]:
    """Columns for the layer-of-origin classifiers; a group of columns that is empty is left out."""
    columns: dict[str, Callable[[Measured], NDArray[np.float64]]] = {
        "all": lambda one: np.hstack([one.statistics, one.concepts]),
        "concepts": lambda one: one.concepts,
        "statistics": lambda one: one.statistics,
    }
    out: dict[Profiles, Layers] = {}
    for (member, kind), one in found.items():
        for features in FEATURES:
            x = columns[features](one)
            if x.shape[1]:
                out.setdefault(Profiles(setting(member, d), kind, features), {})[member.layer] = x, one.latents
    return out


def learnable(columns: Mapping[Profiles, Layers]) -> dict[Profiles, Layers]:
    """Those with two layers or more and enough latents of each."""
    return {key: x for key, x in columns.items() if len(x) > 1 and min(len(n) for _, n in x.values()) >= origin.LEAST}


def origins(
    columns: Mapping[Profiles, Layers], scored: Mapping[tuple[Profiles, origin.Model], origin.Accuracy]
) -> Iterator[Origin]:
    """Rows of the layer-of-origin classifiers; those that could not be scored say why."""
    for key, x in columns.items():
        for model in origin.MODELS:
            got = scored.get((key, model))
            why = "one layer alone" if len(x) < 2 else f"fewer than {origin.LEAST} latents fire at some layer"
            yield Origin(
                setting=key.setting,
                kind=key.kind,
                features=key.features,
                model=model,
                layers=tuple(sorted(x)),
                latents=got.latents if got else 0,
                chance=1 / len(x),
                accuracy=Estimate(value=got.value, low=got.low, high=got.high) if got else Estimate(unscored=why),
                by_layer=got.by_layer if got else (),
                permuted=got.permuted if got else (),
            )
