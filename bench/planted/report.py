"""From results to paired differences, rows and the table.

A method is compared with a peer's on the same frames. For MCC and F1 the difference ``musae - peer`` is taken atom by atom (the
atom of rank i in firing rate, in each seed) and averaged over seeds. Two 95 % intervals say how sure its mean is:

- *atoms*: percentiles of the bootstrap over atoms; what other atoms of this kind would have given, with these trainings;
- *seeds*: Student's t over the seeds' mean differences; what other data and initialisations would have given. With three seeds
  it is wide.

MCC knows atoms but not which latent writes them: a decoder whose atoms are permuted after training keeps it, and is told by F1.

"Not below" is decided by the first, which is the narrower one here and so the harder to pass: musae is below a peer where the
upper end of the interval over atoms is below 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from musae.bench.planted.comparison import BATCH, Entry
from musae.bench.planted.contestants import CONTROLS, OWN
from musae.bench.planted.data import Planted
from musae.bench.planted.tuning import SEED
from musae.bench.rows import BenchRow
from musae.scores.spread import resampling_plan

METRICS = {"mcc": "cosines", "f1": "f1s"}
"""Metrics that are compared, and where their values per atom are."""
DESCRIBED = ("mcc", "f1", "fvu", "l0", "dead", "cpu_s")
REPLICATES = 2000
REFERENCE = "topk"
"""The method that controls are compared with: theirs is its encoder."""


@dataclass(frozen=True)
class Difference:
    """A paired difference with its intervals."""

    value: float
    atoms: tuple[float, float]
    seeds: tuple[float, float] | None
    """None for a single seed."""

    @property
    def below(self) -> bool:
        """Whether the first contestant is below the second."""
        return self.atoms[1] < 0


def difference(first: Entry, second: Entry, metric: str) -> Difference:
    """`first` minus `second` in ``mcc`` or ``f1``. Raises ValueError where they do not have the same seeds."""
    pairs = list(zip(first.results, second.results, strict=True))
    if not pairs or any(a.seed != b.seed for a, b in pairs):
        raise ValueError(f"{first.contestant.name} and {second.contestant.name} do not have the same seeds")
    per_atom = np.array([np.subtract(getattr(a, METRICS[metric]), getattr(b, METRICS[metric])) for a, b in pairs])
    atoms = per_atom.shape[1]
    drawn = resampling_plan("planted data", atoms, REPLICATES) @ per_atom.mean(axis=0) / atoms
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Difference(float(per_atom.mean()), (float(low), float(high)), seeds_interval(per_atom.mean(axis=1).tolist()))


def seeds_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean of one value a seed; None for fewer than two."""
    if len(values) < 2:
        return None
    reach = float(scipy.stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return mean - reach, mean + reach


def pairs(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Each of musae's methods with each peer's of the same name, and its TopK with each control."""
    own = {entry.contestant.method: entry for entry in entries if entry.contestant.own}
    found = [(own[e.contestant.method], e) for e in entries if not e.contestant.own and e.contestant.method in own]
    if REFERENCE in own:
        found += [(own[REFERENCE], own[name]) for name in CONTROLS if name in own]
    return found


def rows(entries: Sequence[Entry], of: Planted) -> Iterator[BenchRow]:
    """All rows of a comparison."""
    problem: dict[str, int | str] = {
        "atoms": of.atoms, "d": of.d, "k": of.k, "n": BATCH, "frames": of.frames, "snr_db": str(of.snr_db),
    }  # fmt: skip
    for entry in entries:
        yield from _described(entry, problem)
    for first, second in pairs(entries):
        for metric in METRICS:
            found = difference(first, second, metric)
            for over, interval in (("atoms", found.atoms), ("seeds", found.seeds)):
                ends: dict[str, Any] = {} if interval is None else {"low": interval[0], "high": interval[1]}
                yield BenchRow(
                    subject=OWN, variant=first.contestant.method, metric=f"{metric}_difference", value=found.value,
                    case={**problem, "against": second.contestant.name, "over": over}, rounds=len(first.results),
                    known="derived", **ends,
                )  # fmt: skip


def _described(entry: Entry, problem: dict[str, int | str]) -> Iterator[BenchRow]:
    common: dict[str, Any] = {"subject": entry.contestant.library, "variant": entry.contestant.method}
    packages = {f"version of {name}": version for name, version in entry.results[0].packages.items()}
    settings = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in entry.choice.settings.items()}
    case = {**problem, **settings}
    for metric in DESCRIBED:
        values = [float(getattr(result, metric)) for result in entry.results]
        unit = "s" if metric == "cpu_s" else ""
        for result, value in zip(entry.results, values, strict=True):
            yield BenchRow(**common, case={**case, "seed": result.seed}, metric=metric, unit=unit, value=value, known="measured")
        interval = seeds_interval(values)
        ends: dict[str, Any] = {} if interval is None else {"low": interval[0], "high": interval[1]}
        mean = statistics.fmean(values)
        yield BenchRow(
            **common, case={**case, **packages}, metric=metric, unit=unit, value=mean, known="derived", rounds=len(values), **ends
        )
    if entry.contestant.rates:
        tried = {**case, "tuning seed": SEED}
        yield BenchRow(**common, case=tried, metric="settings_tried", value=entry.choice.tried, known="counted")


def markdown(entries: Sequence[Entry], of: Planted) -> str:
    """The table: a line a contestant, musae's methods each followed by its peers, controls last."""
    own = [entry for entry in entries if entry.contestant.own]
    seeds = ", ".join(str(result.seed) for result in entries[0].results) if entries else "none"
    lines = [
        f"Planted data: {of.atoms:,} atoms in {of.d} dimensions, Zipfian rates, L0 {of.l0:g}, groups of {of.group} with "
        f"correlation {of.correlation:g}, SNR {of.snr_db:g} dB (least FVU {1 / (1 + 10 ** (of.snr_db / 10)):.3f}); "
        f"{of.frames:,} training frames, {of.heldout:,} held out; seeds {seeds}.",
        "",
        "| method | library | MCC | F1 | FVU | L0 | dead | CPU s "
        "| musae's MCC - its: over atoms, over seeds | F1: over atoms, over seeds | musae is |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in own:
        lines.append(_line(entry, None))
        peers = [other for other in entries if not other.contestant.own and other.contestant.method == entry.contestant.method]
        lines += [_line(peer, entry) for peer in peers]
    compared = {entry.contestant.method for entry in own}
    lines += [_line(e, None) for e in entries if not e.contestant.own and e.contestant.method not in compared]
    controls = [(first, second) for first, second in pairs(entries) if second.contestant.own]
    if controls:
        lines += [
            "",
            f"| musae's {REFERENCE} - control | MCC: over atoms, over seeds | F1: over atoms, over seeds |",
            "| --- | --- | --- |",
        ]
        for first, second in controls:
            mcc, f1 = (difference(first, second, metric) for metric in METRICS)
            lines.append(f"| {second.contestant.method} | {_shown(mcc)} | {_shown(f1)} |")
    tuned = [entry for entry in entries if entry.contestant.rates]
    if tuned:
        lines += [
            "",
            f"Settings of the peers, after so many trainings on a part of seed {SEED}: " + "; ".join(map(_settings, tuned)) + ".",
        ]
    return "\n".join(lines) + "\n"


def _line(entry: Entry, own: Entry | None) -> str:
    means = {metric: statistics.fmean(getattr(result, metric) for result in entry.results) for metric in DESCRIBED}
    cells = [entry.contestant.method, entry.contestant.library]
    cells += [f"{means[name]:.3f}" for name in ("mcc", "f1", "fvu")]
    cells += [f"{means['l0']:.1f}", f"{100 * means['dead']:.1f} %", f"{means['cpu_s']:.0f}"]
    if own is None:
        return "| " + " | ".join([*cells, "", "", ""]) + " |"
    mcc, f1 = (difference(own, entry, metric) for metric in METRICS)
    below = [name for name, found in (("MCC", mcc), ("F1", f1)) if found.below]
    return "| " + " | ".join([*cells, _shown(mcc), _shown(f1), f"below in {', '.join(below)}" if below else "not below"]) + " |"


def _settings(entry: Entry) -> str:
    shown = ", ".join(f"{name} {value:g}" for name, value in entry.choice.settings.items() if isinstance(value, float))
    return f"{entry.contestant.name} {shown} ({entry.choice.tried})"


def _shown(found: Difference) -> str:
    over_seeds = "-" if found.seeds is None else f"[{found.seeds[0]:+.3f}, {found.seeds[1]:+.3f}]"
    return f"{found.value:+.3f} [{found.atoms[0]:+.3f}, {found.atoms[1]:+.3f}], {over_seeds}"
