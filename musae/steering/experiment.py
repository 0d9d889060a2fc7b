"""The experiment: latent and strength are chosen on development continuations, and reported on fresh ones.

Strength is the norm of what is added, in units of the stream's root mean square distance from its mean. All directions are
steered at the same few strengths, so controls have the norm of what they control, and serve all concepts alike. Alpha follows:
``alpha = strength * spread / |beta W_dec[j]|``.

A concept's candidates are the latents whose activation goes best with its labels on training frames. In development each is
steered at each strength; the largest shift of those that keep their quality (`quality`) wins. As many random directions are
searched in the same way: a control that has had the same chances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from musae.dictionary import Dictionary, generator
from musae.errors import UserError
from musae.scores import spread
from musae.steering import effects, interventions
from musae.steering.concepts import Concept
from musae.steering.continuations import UNSTEERED, Continuations, Intervention, Prompts
from musae.steering.ears import Ear
from musae.steering.quality import NAMES, Bounds, held, keeps
from musae.steering.reference import Latents, Reference
from musae.steering.report import Condition, Found, Quality, Row, Shift

Progress = Callable[[str, int, int], None]

DEVELOPMENT_SEED = 0
"""Of the development continuations; fresh ones have the seeds from 1 on."""

OTHER_SEEDS = (1001, 1002, 1003, 1004)
"""Of the unsteered continuations from which the bounds of quality come: with 16 prompts, 3 beyond each."""


@dataclass(frozen=True)
class Design:
    """How much is tried, and how much is heard."""

    strengths: tuple[float, ...] = (0.2, 0.4)
    candidates: int = 3
    """Latents, and random directions, that are searched in development."""
    random: int = 8
    """Random directions that fresh continuations are held against."""
    inactive: int = 1
    seeds: int = 1
    """Fresh continuations of each prompt."""
    budget: float = 0.2
    """Share of the steered continuations that may lie beyond a bound of quality, where 0.05 of unsteered ones do."""
    latents: tuple[int, ...] = ()
    """Steer these together, instead of choosing one."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What development chose."""

    unit: Tensor
    strength: float
    latents: tuple[int, ...]
    kept: bool
    """Whether it kept its quality."""
    tried: int


@dataclass(eq=False)
class Experiment:
    """Steers a dictionary's latents towards concepts."""

    dictionary: Dictionary
    reference: Reference
    latents: Latents
    probes: Mapping[str, Tensor]
    ears: Mapping[str, Ear]
    quality: Ear
    """Measures ``tonality`` and ``distance``."""
    continuations: Continuations
    development: Prompts
    fresh: Prompts
    design: Design = field(default_factory=Design)
    progress: Progress = lambda what, done, total: None

    def run(self, concepts: Sequence[Concept]) -> list[Found]:
        """Every concept's result, in the order given, with p-values corrected over those that are scored."""
        self.check_latents()
        chosen: list[Choice | None] = []
        for i, concept in enumerate(concepts):
            self.progress("development", i, len(concepts))
            chosen.append(self.choose(concept, self.candidates(concept)))
        self.progress("development", len(concepts), len(concepts))
        found = []
        for i, (concept, choice) in enumerate(zip(concepts, chosen, strict=True)):
            self.progress("fresh continuations", i, len(concepts))
            found.append(self.report(concept, choice))
        self.progress("fresh continuations", len(concepts), len(concepts))
        scored = [f for f in found if f.beyond_random is not None]
        adjusted = effects.holm([f.beyond_random.p for f in scored if f.beyond_random is not None])
        corrected = {f.concept: p for f, p in zip(scored, adjusted, strict=True)}
        return [f.model_copy(update={"p_holm": corrected.get(f.concept)}) for f in found]

    def check_latents(self) -> None:
        """Raise UserError where a latent that was asked for does not exist, or never fires on the reference frames."""
        interventions.combined(self.dictionary, self.design.latents, [1.0] * len(self.design.latents))
        for latent in self.design.latents:
            if self.latents.largest[latent] == 0:
                often = ", ".join(str(int(j)) for j in np.argsort(-self.latents.active, kind="stable")[:3])
                raise UserError(
                    f"--latent {latent}: never fires on {len(self.reference.x):,} training frames, so its largest activation "
                    f"is unknown; choose one that does, as {often}."
                )
        if self.design.latents and float(self.direction(self.design.latents).norm()) == 0:
            raise UserError(f"--latent {self.design.latents}: together they write nothing; choose others.")

    def candidates(self, concept: Concept) -> list[tuple[int, ...]]:
        """Latents, or sets of them, to try for a concept."""
        if self.design.latents:
            return [self.design.latents]
        return [(j,) for j in self.latents.candidates(concept, self.design.candidates)]

    def direction(self, latents: Sequence[int]) -> Tensor:
        """What latents write at their largest activations ``[d]``."""
        return interventions.combined(self.dictionary, latents, [float(self.latents.largest[j]) for j in latents])

    def random(self, count: int, purpose: str) -> list[Tensor]:
        """Random unit directions ``[d]``, the same for all concepts."""
        drawn = torch.randn(count, self.reference.x.shape[1], generator=generator(f"steering {purpose}", 0))
        return list(functional.normalize(drawn, dim=1))

    def choose(self, concept: Concept, candidates: Sequence[tuple[int, ...]]) -> Choice | None:
        """The best of some latents at any strength, in development; None where there is no candidate."""
        return self._search(concept, [(latents, unit(self.direction(latents))) for latents in candidates])

    def _search(self, concept: Concept, candidates: Sequence[tuple[tuple[int, ...], Tensor]]) -> Choice | None:
        tried: list[tuple[bool, float, Choice]] = []
        for latents, direction in candidates:
            for strength in self.design.strengths:
                what = self._added(direction, strength)
                shifts = self._shifts(concept, self.development, what, (DEVELOPMENT_SEED,))
                beyond = self._beyond(self.development, what, (DEVELOPMENT_SEED,))
                known = shifts[np.isfinite(shifts)]
                mean = float(known.mean()) if len(known) else -np.inf
                kept = keeps(beyond, self.design.budget)
                choice = Choice(direction, strength, latents, kept, len(candidates) * len(self.design.strengths))
                tried.append((kept, mean if kept else -max(beyond.values()), choice))
        return max(tried, key=lambda t: t[:2])[2] if tried else None

    def report(self, concept: Concept, choice: Choice | None) -> Found:
        """A concept's result on fresh continuations, not yet corrected over concepts."""
        if choice is None:
            return Found(concept=concept.name, unscored=self._why(concept))
        scale = choice.strength * self.reference.spread
        beta = [float(self.latents.largest[j]) for j in choice.latents]
        alpha = scale / float(self.direction(choice.latents).norm())
        steered, null = self._added(choice.unit, choice.strength), self.random(self.design.random, "null")
        conditions: dict[Condition, list[Intervention]] = {
            "steered": [steered],
            "reversed": [self._added(-choice.unit, choice.strength)],
            "random": [self._added(direction, choice.strength) for direction in null],
            "inactive": [self._added(self._atom(j), choice.strength) for j in self.latents.inactive(self.design.inactive)],
        }
        if self.dictionary.context == "frame":
            edits: list[tuple[Condition, list[float]]] = [
                ("clamped", [alpha * b for b in beta]),
                ("ablated", [0.0] * len(beta)),
            ]
            for name, values in edits:
                splice = interventions.clamp(self.dictionary, choice.latents, values)
                identity = f"clamp {self.dictionary.content_hash} {choice.latents} {values}"
                conditions[name] = [Intervention(identity, splice)]
        if concept.name in self.probes:
            conditions["probe"] = [self._added(self.probes[concept.name], choice.strength)]
        searched = self._search(concept, [((), d) for d in self.random(self.design.candidates, "searched")])
        if searched is not None:
            conditions["random searched"] = [self._added(searched.unit, searched.strength)]

        shifts = {name: self._all_shifts(concept, done) for name, done in conditions.items()}
        if not np.isfinite(shifts["steered"]).any():
            return Found(concept=concept.name, unscored="nothing could be estimated of its continuations", latents=choice.latents)
        beyond = effects.beyond(shifts["steered"][0], shifts["random"])
        means = spread.nanmean(shifts["random"])
        return Found(
            concept=concept.name,
            latents=choice.latents,
            alpha=alpha,
            beta=tuple(beta),
            strength=choice.strength,
            kept_in_development=choice.kept,
            tried=choice.tried,
            rows=tuple(self._row(concept, name, done, shifts[name]) for name, done in conditions.items()),
            beyond_random=shift_of(beyond),
            beyond_searched=shift_of(effects.beyond(shifts["steered"][0], shifts["random searched"])) if searched else None,
            rank=int((means >= np.nanmean(shifts["steered"][0])).sum()),
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the fresh continuations."""
        return tuple(range(DEVELOPMENT_SEED + 1, DEVELOPMENT_SEED + 1 + self.design.seeds))

    def examples(self, concept: Concept, found: Found) -> dict[str, Intervention]:
        """What is worth hearing of a result: name -> intervention."""
        assert found.strength is not None
        direction = unit(self.direction(found.latents))
        out = {"unsteered": UNSTEERED, "steered": self._added(direction, found.strength)}
        out["reversed"] = self._added(-direction, found.strength)
        out["random"] = self._added(self.random(self.design.random, "null")[0], found.strength)
        if concept.name in self.probes:
            out["probe"] = self._added(self.probes[concept.name], found.strength)
        return out

    def _row(self, concept: Concept, name: Condition, done: Sequence[Intervention], shifts: NDArray[np.float64]) -> Row:
        with np.errstate(invalid="ignore"):
            mean = spread.nanmean(shifts.T)
        one = effects.effect(mean)
        own = self._heard(self.fresh, UNSTEERED, self.seeds, [self.ears[concept.kind]])[concept.kind]
        deviation = float(np.nanstd(own[..., concept.column]))
        plain = self._measured(UNSTEERED)
        heard = [self._measured(what) for what in done]
        beyond = [self._beyond(self.fresh, what, self.seeds) for what in done]
        return Row(
            condition=name,
            directions=len(done),
            shift=shift_of(one) if one.pieces else None,
            standardised=one.value / deviation if one.pieces and deviation > 0 else None,
            off_target=float(np.mean([self._off_target(concept, plain, one) for one in heard])),
            loss=float(np.mean([self._cost(self.fresh, what, self.seeds) for what in done])),
            similarity=float(np.mean([np.nan_to_num(one["similarity"]).mean() for one in heard])),
            tonality=float(np.mean([one["quality"][..., 0].mean() for one in heard])),
            beyond=(share := {name: float(np.mean([one[name] for one in beyond])) for name in NAMES}),
            kept=keeps(share, self.design.budget),
        )

    @cached_property
    def bounds(self) -> Bounds:
        """Of quality, from unsteered continuations of the development prompts."""
        return Bounds.of(self._luck(self.development, DEVELOPMENT_SEED, OTHER_SEEDS))

    def unsteered(self) -> Quality:
        """The bounds, and how many unsteered continuations of the fresh prompts lie beyond them: what luck alone does."""
        return Quality(
            bounds=dict(self.bounds.at), beyond=self.bounds.beyond(self._luck(self.fresh, self.seeds[0], OTHER_SEEDS[:1]))
        )

    def _luck(self, prompts: Prompts, seed: int, others: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        """What is held against the bounds, of unsteered continuations with other seeds ``[others * n]``."""
        heard = np.concatenate([self.continuations.heard(prompts, UNSTEERED, s, [self.quality])["quality"] for s in others])
        cost = np.concatenate([self._more(prompts, UNSTEERED, s, seed) for s in others])
        return held(heard, cost, np.concatenate([self.continuations.resemblance(prompts, s, seed) for s in others]))

    def _beyond(self, prompts: Prompts, what: Intervention, seeds: Sequence[int]) -> dict[str, float]:
        """Share of continuations beyond each bound of quality."""
        heard = self._heard(prompts, what, seeds, [self.quality])
        cost = np.concatenate([self._more(prompts, what, s, s) for s in seeds])
        flat = heard["quality"].reshape(-1, len(self.quality.columns))
        return self.bounds.beyond(held(flat, cost, heard["similarity"].ravel()))

    def _off_target(self, concept: Concept, plain: Mapping[str, NDArray], steered: Mapping[str, NDArray]) -> float:
        """Mean absolute standardised shift over all columns of the ears that are not slow, but for the concept's own."""
        sizes: list[float] = []
        for kind in (kind for kind, ear in self.ears.items() if not ear.slow):
            deviation = np.nanstd(plain[kind], axis=(0, 1))
            mean = spread.nanmean((steered[kind] - plain[kind]).reshape(-1, plain[kind].shape[-1]).T)
            size = np.abs(spread.ratio(mean, deviation))
            sizes += [float(v) for i, v in enumerate(size) if np.isfinite(v) and (kind, i) != (concept.kind, concept.column)]
        return float(np.mean(sizes)) if sizes else 0.0

    def _all_shifts(self, concept: Concept, done: Sequence[Intervention]) -> NDArray[np.float64]:
        return np.stack([self._shifts(concept, self.fresh, what, self.seeds) for what in done])

    def _shifts(self, concept: Concept, prompts: Prompts, what: Intervention, seeds: Sequence[int]) -> NDArray[np.float64]:
        ear = self.ears[concept.kind]
        steered, plain = (self._heard(prompts, one, seeds, [ear])[ear.kind][..., concept.column] for one in (what, UNSTEERED))
        return effects.shift(steered, plain, concept.sign)

    def _measured(self, what: Intervention) -> dict[str, NDArray[np.float64]]:
        """What all ears that are not slow measure of the fresh continuations, their similarity and quality."""
        quick = [ear for ear in self.ears.values() if not ear.slow]
        return self._heard(self.fresh, what, self.seeds, [*quick, self.quality])

    def _heard(
        self, prompts: Prompts, what: Intervention, seeds: Sequence[int], ears: list[Ear]
    ) -> dict[str, NDArray[np.float64]]:
        """Kind -> ``[seeds, n, columns]``."""
        found = [self.continuations.heard(prompts, what, seed, ears) for seed in seeds]
        return {kind: np.stack([one[kind] for one in found]) for kind in found[0]}

    def _cost(self, prompts: Prompts, what: Intervention, seeds: Sequence[int]) -> float:
        """Nats a token of the continuation more than unsteered, mean over continuations."""
        return float(np.mean([self._more(prompts, what, s, s) for s in seeds]))

    def _more(self, prompts: Prompts, what: Intervention, seed: int, other: int) -> NDArray[np.float64]:
        """Nats a token of each continuation more than of the unsteered one with the `other` seed ``[n]``.

        The loss is over prompt and continuation, and prompts agree.
        """
        more = self.continuations.loss(prompts, what, seed) - self.continuations.loss(prompts, UNSTEERED, other)
        return more * ((prompts.codes.shape[2] + self.continuations.frames) / self.continuations.frames)

    def _added(self, direction: Tensor, strength: float) -> Intervention:
        return self.adds(direction * (strength * self.reference.spread))

    def adds(self, vector: Tensor) -> Intervention:
        """The addition of a vector ``[d]`` to every row."""
        return Intervention("add " + hashlib.sha256(vector.numpy().tobytes()).hexdigest(), interventions.add(vector))

    def _atom(self, latent: int) -> Tensor:
        return unit(self.dictionary.atoms[latent])

    def _why(self, concept: Concept) -> str:
        if concept.name not in self.reference.labels:
            return "no training clip is annotated for it"
        if concept.name not in self.latents.correlation:
            return "the training frames whose label is known all agree on it, so no latent can go with it"
        return "no latent that fires goes with it"


def unit(vector: Tensor) -> Tensor:
    """A vector ``[d]`` scaled to norm 1; zeros stay."""
    return functional.normalize(vector, dim=0)


def shift_of(found: effects.Effect) -> Shift:
    """An effect as reports hold it."""
    return Shift(value=found.value, low=found.low, high=found.high, p=found.p, pieces=found.pieces)
