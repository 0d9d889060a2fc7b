"""What was said of a dictionary's latents, and what became of it: a JSON file, and the tables that are printed of it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from musae.errors import UserError
from musae.files import atomic_path
from musae.labels.claims import Label
from musae.results import Measure, Provenance
from musae.scores.score import Score


class Strict(BaseModel):
    """No unknown fields; unchangeable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Exemplar(Strict):
    """A place where a latent fires most."""

    clip: str
    start: float
    """Seconds from the clip's start, to `end`."""
    end: float
    activation: float


class Labelled(Strict):
    """One latent."""

    latent: int
    label: Label
    unscored: str = ""
    """Why the explainer gave no label."""
    p: float | None = None
    """Of its claim, where the explainer has one."""
    judged: dict[str, float]
    """Judge -> its value of this label: Youden index (truth), AUROC (detection, fuzzing), accuracy (intruder), similarity of top
    clips beyond that of silent ones (clap). Judges that could not say are left out."""
    exemplars: tuple[Exemplar, ...]


class Agreed(Strict):
    """How two judges agree over the latents: Spearman's rank correlation."""

    judges: tuple[str, str]
    n: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    unscored: str = ""


class Report(Strict):
    """Everything."""

    dictionary: str
    """Content hash."""
    method: str
    generator: str
    layer: int
    corpus: str
    truth: str
    """Level of truth of the annotations that labels are judged by; empty where there are none."""
    explainer: str
    explainer_revision: str
    evidence: str
    """``estimated``, ``exact`` (an oracle's: the annotations), or what the explainer reads."""
    exemplars: int
    threshold: float
    eligible: int
    """Latents that qualify, of which these are taken."""
    latents: tuple[Labelled, ...]
    scores: tuple[Measure, ...]
    """Means over latents, with intervals, nulls and controls."""
    agreement: tuple[Agreed, ...]
    unscored: dict[str, int]
    """Reason -> how many latents or questions have no answer."""
    usage: tuple[str, ...]
    """What was asked of language models, and what it cost."""
    provenance: Provenance

    def write(self, path: Path) -> Path:
        """Write the file, atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")
        return path


def read(path: Path) -> Report:
    """Read a report. Raises UserError for a file that is missing or none."""
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no report of `musae label` ({str(error).splitlines()[0]}); make it anew.") from error


def measure(score: Score) -> Measure:
    """A score in the form of a row. More is better of all that is measured of labels."""
    numbers = {
        name: None if value is None else float(value)
        for name, value in (("value", score.value), ("low", score.low), ("high", score.high))
    }
    found = {
        "metric": score.metric,
        "unscored": score.reason,
        "control": score.control,
        "truth": score.truth,
        "label": score.label,
    }
    return Measure.model_validate({**numbers, **found, "pieces": score.pieces, "direction": "higher"})


def table(report: Report) -> str:
    """The scores: one line each."""
    lines = [f"{'score':28} {'negatives':10} {'control':20} {'value':>7}  95 %"]
    for row in report.scores:
        if row.value is None:
            value = f"unscored: {row.unscored}"
        else:
            interval = "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
            value = f"{row.value:7.3f}  {interval}"
        lines.append(f"{row.metric:28} {row.label:10} {row.control:20} {value}")
    return "\n".join(lines)


def examples(report: Report, count: int = 10) -> str:
    """The labels that the truth judge finds best, one line each."""
    best = sorted(report.latents, key=lambda one: -one.judged.get("truth", 0.0))[:count]
    lines = [f"{'latent':>7}  {'Youden':>6}  {'confidence':>10}  label"]
    for one in best:
        value = f"{one.judged['truth']:6.2f}" if "truth" in one.judged else "     -"
        said = one.label.description or one.label.name or one.unscored or "(abstains)"
        lines.append(f"{one.latent:7d}  {value}  {one.label.confidence:10.2f}  {said}")
    return "\n".join(lines)
