"""From a comparison's record to rows and to the table.

Of a contestant: median over rounds of tokens a second by wall clock and by processor time, and the most memory. Of musae against
a peer: the Hodges-Lehmann estimate of the ratio of times within rounds (above 1: musae is faster), and the ratio of peaks
(below 1: musae needs less). Against the limit: median time over the limit's (1: as fast as the machine allows).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from musae.bench import limits, rounds
from musae.bench.peers.contestants import PEERS
from musae.bench.peers.record import STAGES, Record, Sample, Stage
from musae.bench.rows import BenchRow
from musae.bench.workloads import Size

OWN = "musae"
DISTRIBUTIONS = ("eai-sparsify", "sae-lens", "dictionary-learning", "Overcomplete", "musae")


def rows(record: Record, size: Size, threads: int) -> list[BenchRow]:
    """All rows of one size."""
    stages = [row for stage in STAGES for row in _Stage(record, size, threads, stage).rows()]
    return [*stages, *_learnt(record, size, threads)]


class _Stage:
    """Training or encoding at one size."""

    def __init__(self, record: Record, size: Size, threads: int, stage: Stage) -> None:
        self.record, self.size, self.stage = record, size, stage
        self.case: dict[str, int | str] = {**size.case(), "stage": stage, "threads": threads}
        self.lazy = set() if stage == "encode" else {(e["library"], e["setting"]) for e in record.idle(size.name)}
        self.main: dict[tuple[str, str], list[Sample]] = {}
        for sample in record.of(size=size.name, stage=stage, phase="main"):
            self.main.setdefault((sample.library, sample.setting), []).append(sample)

    def rows(self) -> Iterator[BenchRow]:
        for key, samples in self.main.items():
            yield from self._speed(key, samples, "main")
        screened: dict[tuple[str, str], list[Sample]] = {}
        for sample in self.record.of(size=self.size.name, stage=self.stage, phase="screening"):
            screened.setdefault((sample.library, sample.setting), []).append(sample)
        for key, samples in screened.items():
            yield from self._speed(key, samples, "screening")
        for failure in self.record.failed:
            if failure["size"] == self.size.name:
                yield BenchRow(
                    subject=failure["library"], variant=failure["setting"], case={**self.case, "phase": failure["phase"]},
                    metric="missing", known="measured", unscored=failure["why"],
                )  # fmt: skip
        yield from self._limit()
        for own in self.own():
            for peer in self.peers():
                yield from self._ratios(own, peer)

    def own(self) -> list[tuple[str, str]]:
        """musae's contestants."""
        return [key for key in self.main if key[0] == OWN]

    def peers(self) -> list[tuple[str, str]]:
        """The peers' contestants, fastest first."""
        found = [key for key in self.main if key[0] != OWN and key not in self.lazy]
        return sorted(found, key=lambda key: rounds.median([s.wall_s for s in self.main[key]]).value)

    def speedup(self, own: tuple[str, str], peer: tuple[str, str], clock: str = "wall_s") -> rounds.Estimate | None:
        """How many times as fast musae is, from the rounds that both took part in; None where there are none."""
        ours, theirs = ({s.round: getattr(s, clock) / s.tokens for s in self.main[key]} for key in (own, peer))
        both = sorted(ours.keys() & theirs.keys())
        return rounds.ratio([theirs[r] for r in both], [ours[r] for r in both]) if both and own not in self.lazy else None

    def seconds(self, key: tuple[str, str]) -> float:
        """Median time of a batch."""
        return rounds.median([s.wall_s / s.tokens for s in self.main[key]]).value * self.size.n

    def floor(self, precision: str) -> float | None:
        """The limit's time for a batch, from the best rates of all rounds; None before the first."""
        measured = [entry for entry in self.record.limits if entry["size"] == self.size.name]
        if not measured:
            return None
        rate, through = (max(entry[name] for entry in measured) for name in (precision, "pass"))
        shape = self.size.shape
        return limits.training_seconds(shape, rate, through) if self.stage == "train" else limits.encoding_seconds(shape, rate)

    def _speed(self, key: tuple[str, str], samples: list[Sample], phase: str) -> Iterator[BenchRow]:
        case = {**self.case, "phase": phase, **_versions(self.record, key[0])}
        if self.stage == "encode":
            case["returns"] = self.record.returns.get(key[0], "")
        common: dict[str, Any] = {"subject": key[0], "variant": key[1], "case": case, "known": "measured"}
        for metric, clock in (("tokens_per_s", "wall_s"), ("cpu_tokens_per_s", "cpu_s")):
            found = rounds.median([s.tokens / getattr(s, clock) for s in samples])
            yield BenchRow(
                **common, metric=metric, unit="1/s", value=found.value, low=found.low, high=found.high, rounds=found.rounds
            )
        for metric in ("peak_mb", "above_mb"):
            value = max(getattr(s, metric) for s in samples)
            yield BenchRow(**common, metric=metric, unit="MB", value=round(value, 1))

    def _ratios(self, own: tuple[str, str], peer: tuple[str, str]) -> Iterator[BenchRow]:
        fastest = "yes" if peer == self.peers()[0] else "no"
        case = {**self.case, "against": f"{peer[0]} ({peer[1]})", "fastest": fastest}
        common: dict[str, Any] = {"subject": own[0], "variant": own[1], "case": case, "known": "derived"}
        for metric, clock in (("speedup", "wall_s"), ("cpu_speedup", "cpu_s")):
            found = self.speedup(own, peer, clock)
            if found is None:
                yield BenchRow(**common, metric=metric, unscored="no round that counts has both")
            else:
                yield BenchRow(**common, metric=metric, value=found.value, low=found.low, high=found.high, rounds=found.rounds)
        for metric in ("peak_mb", "above_mb"):
            ours, theirs = (max(getattr(s, metric) for s in self.main[key]) for key in (own, peer))
            if theirs > 0:
                yield BenchRow(**common, metric=metric.replace("_mb", "_share"), value=ours / theirs)

    def _limit(self) -> Iterator[BenchRow]:
        for precision in limits.PRECISIONS:
            least = self.floor(precision)
            if least is None:
                continue
            rates = [entry for entry in self.record.limits if entry["size"] == self.size.name]
            common: dict[str, Any] = {"subject": "limit", "variant": precision, "case": self.case}
            yield BenchRow(**common, metric="limit_ms", unit="ms", value=least * 1e3, known="derived")
            if self.stage == "train":
                for metric, name, unit in (("gemm_rate", precision, "GFLOP/s"), ("pass_rate", "pass", "GB/s")):
                    best = max(entry[name] for entry in rates) / 1e9
                    yield BenchRow(**common, metric=metric, unit=unit, value=best, rounds=len(rates), known="measured")
            for key in self.main:
                case = {**self.case, "against": f"limit ({precision})"}
                value = self.seconds(key) / least
                yield BenchRow(subject=key[0], variant=key[1], case=case, metric="times_limit", value=value, known="derived")


def _learnt(record: Record, size: Size, threads: int) -> Iterator[BenchRow]:
    for entry in record.learnt:
        if entry["size"] != size.name:
            continue
        for when, steps in (("before", 0), ("after", int(entry["steps"]))):
            fields: dict[str, Any] = {
                "subject": entry["library"],
                "variant": entry["setting"],
                "metric": "fvu",
                "known": "measured",
            }
            case = {**size.case(), "threads": threads, "steps": steps}
            if math.isfinite(entry[when]):
                yield BenchRow(**fields, case=case, value=entry[when])
            else:
                yield BenchRow(**fields, case=case, unscored="not finite")


def _versions(record: Record, library: str) -> dict[str, int | str]:
    packages = record.packages.get(library, {})
    own = next((packages[name] for name in DISTRIBUTIONS if name in packages), "")
    return {"version": own, "torch": packages.get("torch", "")}


def table(record: Record, size: Size, threads: int, stage: Stage) -> Table:
    """What a person reads: a line a contestant, fastest first; below them the defaults that the screening found to be slower."""
    of = _Stage(record, size, threads, stage)
    what = "training step" if stage == "train" else "encoding"
    shown = Table(
        title=f"{size.name}, {what}: d={size.d} F={size.width} k={size.k} n={size.n}, threads: {threads}",
        caption="'faster by': ratio of times within rounds, 95 % interval; peak: resident MB, in brackets beyond the imports",
        title_justify="left",
        caption_justify="left",
    )
    shown.add_column("contestant", overflow="fold")
    for heading in ("tokens/s", "by CPU time", "peak MB", *(f"{own[1]}\nfaster by" for own in of.own()), "x limit\nfp32 / bf16"):
        shown.add_column(heading, justify="right", no_wrap=True)
    floors = [of.floor(precision) for precision in limits.PRECISIONS]
    for key in sorted(of.main, key=of.seconds):
        ratios = [_shown(of.speedup(own, key)) if key in of.peers() else "" for own in of.own()]
        times = " / ".join(f"{of.seconds(key) / least:.2f}" for least in floors if least)
        shown.add_row(f"{key[0]}: {key[1]}", *_speeds(of.main[key]), *ratios, times)
    for library in PEERS:
        default = next(iter(library.settings))
        samples = record.of(size=size.name, stage=stage, phase="screening", library=library.name, setting=default)
        if samples and (library.name, default) not in of.main:
            shown.add_row(f"{library.name}: {default}", *_speeds(samples), *("screened" for _ in of.own()), "", style="dim")
    return shown


def _speeds(samples: list[Sample]) -> tuple[str, str, str]:
    wall, cpu = (rounds.median([s.tokens / getattr(s, clock) for s in samples]).value for clock in ("wall_s", "cpu_s"))
    peak, above = (max(getattr(s, name) for s in samples) for name in ("peak_mb", "above_mb"))
    return f"{wall:,.0f}", f"{cpu:,.0f}", f"{peak:,.0f} ({above:,.0f})"


def _shown(found: rounds.Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:.2f}" + ("" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]")
