"""How scores vary over seeds, on hand-made rows."""

import pytest
from click.testing import CliRunner

from musae.cli import main
from musae.errors import UserError
from musae.leaderboard.seeds import spread
from musae.results import write


def test_mean_and_standard_deviation_over_seeds(make):
    files = [make(value=value, seed=seed) for seed, value in enumerate((0.2, 0.3, 0.4))]
    files += [make(value=0.5, seed=None, method="pca")]
    [grid] = spread(files, "fvu")
    [(_, [row])] = grid.sections
    assert [shown.text for shown in row[:6]] == ["topk", "3", ".3000", ".1000", ".2000", ".4000"]
    assert 0.0015 < float(row[6].text) < 0.0025  # half of the 95 % range of 200 normal replicates of sd 0.001


def test_a_metric_that_is_not_there_lists_what_is(make):
    with pytest.raises(UserError, match="no main score 'mcc' with two seeds in these rows; main scores: fvu"):
        spread([make(seed=0), make(seed=1)], "mcc")


def test_one_seed_says_nothing(make):
    with pytest.raises(UserError, match="two seeds"):
        spread([make(seed=0)], "fvu")


@pytest.mark.parametrize(("form", "says"), [("table", "sd"), ("markdown", "| topk | 2 |")])
def test_from_the_command_line(make, tmp_path, form, says):
    for seed in (0, 1):
        write(tmp_path, make(seed=seed))
    shown = CliRunner().invoke(main, ["leaderboard", str(tmp_path), "--seeds", "fvu", "--format", form])
    assert shown.exit_code == 0, shown.output
    assert says in shown.stdout


def test_no_csv_of_it(make, tmp_path):
    write(tmp_path, make())
    refused = CliRunner().invoke(main, ["leaderboard", str(tmp_path), "--seeds", "fvu", "--format", "csv"])
    assert refused.exit_code == 2
    assert "--format csv without it" in refused.stderr


def test_suites_are_not_mixed(make):
    files = [make(value=value, seed=seed) for seed, value in enumerate((0.2, 0.4))]
    files += [make(value=value + 1, seed=seed, suite="other") for seed, value in enumerate((0.2, 0.4))]
    grids = spread(files, "fvu")
    assert [(grid.title.split(" ")[0], grid.sections[0][1][0][2].text) for grid in grids] == [
        ("other", "1.3000"),
        ("quick", ".3000"),
    ]
