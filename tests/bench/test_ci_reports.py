"""What the gate writes: XML that parses, Markdown that shows, JSON that pytest-benchmark reads."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from musae.bench.ci.checkouts import Checkout
from musae.bench.ci.gate import Correctness, Outcome, chosen, decisions, stored
from musae.bench.ci.pairs import RESTARTS, Bench
from musae.bench.ci.reports import headline, junit, markdown, table, write
from musae.errors import UserError

NASTY = 'shape <8 & "9"\x1b[31m | `x` \x00'


def suite(failure: str | None = None) -> ET.Element:
    element = ET.Element(
        "testsuite", name="tests/kernels", tests="2", failures=str(int(failure is not None)), errors="0", skipped="0"
    )
    ET.SubElement(element, "testcase", classname="tests.kernels.test_ops", name="test_fine")
    bad = ET.SubElement(element, "testcase", classname="tests.kernels.test_ops", name="test_values[a|b]")
    if failure is not None:
        ET.SubElement(bad, "failure", message=failure)
    return element


def bench(name: str, ratio: float = 1.0, **rest: object) -> Bench:
    made = Bench(name, repeats=4, **rest)  # type: ignore[arg-type]
    for restart in range(RESTARTS):
        for side, factor in (("base", 1.0), ("head", ratio)):
            if "head" in made.lacking or side in made.lacking or made.errors:
                continue
            seconds = [factor * (0.01 + 1e-5 * ((7 * pair + restart) % 5)) for pair in range(6)]
            made.cpu[side].append(seconds)
            made.wall[side].append([2 * s for s in seconds])
    return made


def outcome(*benches: Bench, failure: str | None = None) -> Outcome:
    base, head = (
        Checkout(Path("base"), "main (abc)", "abc", False),
        Checkout(Path("head"), "my_branch (def, changed)", "def", True),
    )
    if failure is not None:
        return Outcome(base, head, Correctness(suite(failure), 1))
    return Outcome(base, head, Correctness(suite(), 0), "some CPU", "CPU time", benches, decisions(benches))


@pytest.fixture
def mixed() -> Outcome:
    return outcome(
        bench("op.forward"),
        bench("op.forward_backward", 1.2),
        bench("encoding", 0.8),
        bench("training_step", errors={"head": NASTY}),
        bench("fresh", lacking={"base"}),
        bench("old", lacking={"head"}),
        bench("hopeless", errors={"base": "no", "head": "no"}),
    )


def test_every_kind_of_bench_has_its_verdict(mixed: Outcome) -> None:
    assert [d.verdict for d in mixed.decisions] == ["same", "slower", "faster", "broken", "new", "gone", "unmeasured"]
    assert mixed.failed
    assert headline(mixed) == (
        "FAILED: tests/kernels: 2 passed; op.forward_backward is slower by more than 3%; training_step is broken"
    )
    assert not outcome(bench("op.forward"), bench("encoding", 0.8), bench("fresh", lacking={"base"})).failed


def test_junit_holds_tests_and_benches_and_escapes(mixed: Outcome) -> None:
    root = ET.fromstring(junit(mixed).partition("\n")[2])
    tests, speed = root.findall("testsuite")
    assert (tests.get("name"), tests.get("tests")) == ("tests/kernels", "2")
    assert [speed.get(k) for k in ("tests", "failures", "skipped")] == ["7", "2", "3"]
    cases = {case.get("name"): case for case in speed.findall("testcase")}
    failure = cases["op.forward_backward"].find("failure")
    assert failure is not None
    assert "ratio" in str(failure.text)
    broken = cases["training_step"].find("failure")
    assert broken is not None
    assert 'shape <8 & "9"?[31m' in broken.attrib["message"]
    assert cases["op.forward"].find("failure") is None
    assert cases["old"].find("skipped") is not None


def test_markdown_table_has_one_row_a_bench_and_shows_text_as_it_is(mixed: Outcome) -> None:
    text = markdown(mixed, {})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(mixed.decisions)
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "**slower**" in text
    assert "my\\_branch" in text
    assert "shape \\<8" in text


def test_a_stored_baseline_is_shown_and_changes_no_verdict(mixed: Outcome, tmp_path: Path) -> None:
    write(mixed, tmp_path, {})
    baseline = stored(tmp_path / "base.json")
    assert set(baseline) == {"op.forward", "op.forward_backward", "encoding"}
    tiny = dict.fromkeys(baseline, 1e-9)
    assert "stored ms" in markdown(mixed, tiny)
    assert "stored ms" in table(mixed, tiny, 140, False)
    assert headline(mixed) in table(mixed, tiny, 140, False)


def test_no_speed_figure_on_a_red_test(tmp_path: Path) -> None:
    write(outcome(bench("op.forward")), tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"junit.xml", "summary.md", "base.json", "head.json"}
    red = outcome(failure="values <differ>")
    write(red, tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"junit.xml", "summary.md"}  # none left of the earlier run either
    assert red.failed
    text = (tmp_path / "summary.md").read_text()
    assert "1 of 2 failed; no speed was measured" in text
    assert "values \\<differ\\>" in text
    assert "ms" not in text.replace("musae", "")
    assert len(ET.parse(tmp_path / "junit.xml").getroot().findall("testsuite")) == 1


def test_pytest_benchmark_compares_both_sides(tmp_path: Path) -> None:
    write(outcome(bench("op.forward"), bench("op.forward_backward", 1.2)), tmp_path, {})
    program = str(Path(sys.executable).with_name("pytest-benchmark"))
    done = subprocess.run(
        [program, "compare", "base.json", "head.json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("op.forward_backward") == 2
    content = json.loads((tmp_path / "head.json").read_text())
    assert content["commit_info"]["id"] == "def"
    assert content["benchmarks"][1]["stats"]["median"] == pytest.approx(0.012, rel=0.01)
    assert content["benchmarks"][1]["stats"]["rounds"] == 6 * RESTARTS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{", "not a pytest-benchmark JSON"),
        ("[]", "not a pytest-benchmark"),
        ('{"benchmarks": [{}]}', "name"),
    ],
)
def test_a_bad_baseline_is_one_sentence(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "stored.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=says):
        stored(path)


def test_benches_are_chosen_by_name_or_op() -> None:
    names = ["adam.forward", "topk.forward", "topk.forward_backward", "encoding"]
    assert chosen(names, ()) == names
    assert chosen(names, ("topk",)) == names[1:3]
    assert chosen(names, ("encoding", "adam.forward")) == ["adam.forward", "encoding"]
    with pytest.raises(UserError, match=r"'tokp'; known: adam\.forward"):
        chosen(names, ("tokp",))


def test_a_suite_that_skips_everything_is_not_green() -> None:
    element = ET.Element("testsuite", tests="3", failures="0", errors="0", skipped="3")
    assert not Correctness(element, 0).green
    assert not Correctness(suite(), 2).green
    assert Correctness(suite(), 0).green
