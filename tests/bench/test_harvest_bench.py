"""The bench of harvesting, on a small random checkpoint: both parts do their work, and stores do not stay."""

from pathlib import Path

import pytest
import random_musicgen

from musae.bench import harvest


def test_rounds_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "checkpoint", random_musicgen.save)
    monkeypatch.setattr(harvest, "LAYERS", (1, 3))
    monkeypatch.setattr(harvest, "FRAMES", 12)
    contest = harvest.Contest(tmp_path)
    done: list[int] = []
    ran: list[object] = []
    block = contest.generator.network.model.decoder.layers[2]
    block.register_forward_hook(lambda *_: ran.append(1))
    contest.run(6, lambda number, total: done.append(number))
    assert done == [1, 2, 3, 4, 5, 6]
    assert len(ran) == 7 * 2 * (harvest.CLIPS // harvest.BATCH_CLIPS)  # with the round that warms up, both parts
    assert not (tmp_path / "stores").exists()
    rows = {(row.subject, row.metric): row for row in harvest.rows(contest, 1)}
    ratio = rows["overhead", "wall_ratio"]
    assert ratio.low is not None
    assert ratio.low <= ratio.value <= ratio.high
    assert rows["memory", "resident"].value > 50
