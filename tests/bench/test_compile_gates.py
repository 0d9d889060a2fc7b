"""Gates on hand-made kernels and counts, bounds against published rows, and what a run prints and exits with."""

from dataclasses import replace

import pytest

pytest.importorskip("triton")

from click.testing import CliRunner

from musae.bench.compile import gates, report, run, traffic
from musae.bench.compile.build import Built
from musae.bench.compile.report import Kernel, Size, Stage
from musae.bench.compile.sass import Code
from musae.bench.rows import BenchRow, document
from musae.cli.bench_compile_command import command
from musae.errors import UserError

SIZE = Size("topk_encode", "forward", 2048, 32768, 32, "bfloat16")
CODE = Code(
    registers=128, stack=0, spills=0, loads=30, row_loads=20, row_loads_128=20, stores=4, stores_128=4, tensor_cores=8, atomics=1,
    atomic_lines=(("/k.py", 9),), shared_atomics=0, instructions=900,
)  # fmt: skip
KERNEL = Kernel("screen", 0, SIZE, Built("0" * 12, "sm_90", CODE, 98304), 100, frozenset({("/k.py", 9)}))
STAGE = Stage(SIZE, traffic.Bytes(distinct=1.2e9, issued=9e9, eager=1e7, minimum=1e9), encodes=True)


def changed(**code) -> Kernel:
    return replace(KERNEL, built=replace(KERNEL.built, code=replace(CODE, **code)))


def failed(kernels, stages) -> dict[str, str]:
    return {verdict.gate: verdict.sentence for verdict in gates.judge(kernels, stages) if not verdict.passed}


def test_a_good_kernel_and_its_stage_pass_every_gate():
    assert failed([KERNEL], [STAGE]) == {}
    assert len(gates.judge([KERNEL], [STAGE])) == 11


@pytest.mark.parametrize(
    ("kernel", "gate", "words"),
    [
        (changed(spills=3), "no spills", "3 accesses to local memory"),
        (changed(row_loads_128=17), "row loads of 128 bits", "17 of 20 row loads (85%)"),
        (changed(tensor_cores=0), "matrix products on tensor cores", "0 tensor-core instructions"),
        (changed(atomic_lines=(("/k.py", 9), ("/k.py", 12))), "no atomics on gradients", "/k.py:12"),
        (
            replace(KERNEL, built=replace(KERNEL.built, shared=240_000)),
            "shared memory fits",
            "240,000 bytes of shared memory of 232,448",
        ),
        (replace(KERNEL, built=Built("0" * 12, "sm_90", error="PTXASError: no")), "compiles", "PTXASError: no"),
    ],
)
def test_a_bad_kernel_fails_with_a_sentence(kernel, gate, words):
    found = failed([kernel], [STAGE])
    assert words in found[gate]
    assert "screen for sm_90 (topk_encode forward, F = 32,768, k = 32)" in found[gate]


def test_nine_tenths_of_wide_loads_are_enough_and_kernels_without_rows_are_not_asked():
    assert failed([changed(row_loads_128=18)], []) == {}
    none = changed(row_loads=0, row_loads_128=0)
    assert failed([replace(none, dots=0)], []) == {}
    assert "multiplies rows" in failed([none], [])["row loads of 128 bits"]


def test_a_kernel_without_products_needs_no_tensor_cores_but_the_encoder_does():
    kernel = replace(changed(tensor_cores=0), dots=0)
    assert failed([kernel], [replace(STAGE, encodes=False)]) == {}
    assert "no kernel for sm_90" in failed([kernel], [STAGE])["tensor cores in the encoder"]
    assert "tensor cores in the encoder" in failed([], [STAGE])


@pytest.mark.parametrize(
    ("stage", "gate", "words"),
    [
        (
            replace(STAGE, bytes=replace(STAGE.bytes, eager=1.1e8)),
            "bytes at most 1.3 x the minimum",
            "1.31 times the least bytes",
        ),
        (replace(STAGE, wrong=("forward[0] (3 times)",)), "results equal the reference's", "forward[0] (3 times)"),
        (replace(STAGE, stray=("screen",)), "accesses within tensors", "screen"),
        (Stage(SIZE, None, error="InterpreterError: no"), "counted", "InterpreterError: no"),
    ],
)
def test_a_bad_stage_fails_with_a_sentence(stage, gate, words):
    assert words in failed([KERNEL], [stage])[gate]


def test_the_same_code_is_judged_once():
    twin = replace(KERNEL, size=replace(SIZE, k=100))
    assert len(gates.judge([KERNEL, twin], [])) == len(gates.judge([KERNEL], []))


def test_rows_speak_for_all_sizes_where_the_code_is_the_same():
    sizes = [replace(SIZE, width=width, k=k) for width in (32768, 65536) for k in (32, 100)]
    same = report.rows([replace(KERNEL, size=size) for size in sizes], [STAGE])
    registers = [row for row in same if row.metric == "registers"]
    assert [(row.case["width"], row.case["k"]) for row in registers] == [("32768, 65536", "32, 100")]
    assert {row.known for row in registers} == {"compiled"}
    assert {row.known for row in same if row.subject == "topk_encode"} == {"counted", "derived"}
    other = [replace(KERNEL, size=size, built=replace(KERNEL.built, key=f"{size.k:012}")) for size in sizes]
    assert len([row for row in report.rows(other, []) if row.metric == "registers"]) == 4
    document("compile", same, device="none", threads=1, seconds=0)  # keys are unique


def test_a_kernel_without_row_loads_has_no_share():
    rows = {row.metric: row for row in report.rows([changed(row_loads=0, row_loads_128=0)], [])}
    assert rows["row_loads_128_share"].value is None
    assert rows["row_loads_128_share"].unscored == "it loads no rows"


def row(metric, value, **case) -> BenchRow:
    case = {"op": "topk_encode", "stage": "forward", "width": "32768, 65536", "k": 32} | case
    return BenchRow(subject="screen", variant="sm_90", case=case, metric=metric, value=value, known="compiled")


@pytest.mark.parametrize(
    ("metric", "old", "fine", "worse"),
    [
        ("registers", 128, 136, 137),
        ("spills", 0, 0, 1),
        ("stack_bytes", 0, 0, 8),
        ("shared_bytes", 1024, 1000, 1025),
        ("atomics", 1, 1, 2),
        ("row_loads_128_share", 1.0, 0.996, 0.99),
        ("bytes_per_token", 1000.0, 1019.0, 1021.0),
        ("torch_bytes_per_token", 1000.0, 1019.0, 1021.0),
        ("issued_bytes_per_token", 1000.0, 1049.0, 1051.0),
        ("bytes_over_minimum", 1.0, 1.02, 1.03),
    ],
)
def test_bounds_of_regressions(metric, old, fine, worse):
    assert [v.passed for v in gates.regressions([row(metric, fine)], [row(metric, old)])] == [True]
    (verdict,) = gates.regressions([row(metric, worse)], [row(metric, old)])
    assert not verdict.passed
    assert f"{metric} went from {old:g} to {worse:g}" in verdict.sentence


def test_rows_of_one_size_are_compared_with_rows_of_several():
    assert not gates.regressions([row("registers", 200, width=65536)], [row("registers", 128)])[0].passed
    assert gates.regressions([row("registers", 200, width=16384)], [row("registers", 128)]) == []
    assert gates.regressions([row("registers", 200, op="jumprelu")], [row("registers", 128)]) == []
    assert gates.regressions([row("minimum_bytes_per_token", 200)], [row("minimum_bytes_per_token", 1)]) == []


def test_a_number_that_went_missing_is_a_regression():
    gone = BenchRow(
        subject="screen", variant="sm_90", case=row("x", 1).case, metric="registers", unscored="why", known="compiled"
    )
    (verdict,) = gates.regressions([gone], [row("registers", 128)])
    assert not verdict.passed
    assert "is missing: why" in verdict.sentence


def stage(n, read, size, issued=0, eager=0, minimum=0, key="a", sampled=0):
    launch = {"key": key, "kernel": "k", "distinct": {"0": [read, 0, size]}, "issued": [issued, 0], "stray": 0}
    return {
        "n": n,
        "launches": [launch],
        "eager": eager,
        "sampled": sampled,
        "sample_frames": 512,
        "minimum": minimum,
    }


def test_bytes_grow_with_frames_until_a_tensor_is_read_as_a_whole():
    found = {"counts": [stage(64, 164, 1e9, 10, 1, 5), stage(128, 228, 1e9, 20, 3, 7)], "real": ["a"]}
    assert traffic.project(found, 8192) == traffic.Bytes(100 + 8192, 1280, 255, 259)
    assert traffic.project(found, 8192, 100.0).minimum == 100
    capped = {"counts": [stage(64, 164, 4096), stage(128, 228, 4096)], "real": ["a"]}
    assert traffic.project(capped, 8192, 1).distinct == 4096
    growing = {"counts": [stage(64, 64, 64), stage(128, 128, 128)], "real": ["a"]}
    assert traffic.project(growing, 8192, 1).distinct == 8192


def test_a_sample_of_frames_grows_until_it_is_full():
    found = {"counts": [stage(64, 0, 0, eager=64, sampled=100), stage(128, 0, 0, eager=128, sampled=164)], "real": ["a"]}
    assert traffic.project(found, 8192, 1.0).eager == 8192 + 36 + 512
    assert traffic.project(found, 256, 1.0).eager == 256 + 36 + 256


def test_counts_of_other_launches_or_constants_are_refused():
    with pytest.raises(ValueError, match="or in another order"):
        traffic.project({"counts": [stage(64, 1, 1), stage(128, 1, 1, key="b")], "real": ["a"]}, 8192)
    with pytest.raises(ValueError, match="other constants than the full size"):
        traffic.project({"counts": [stage(64, 1, 1), stage(128, 1, 1)], "real": ["b"]}, 8192)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Makes `run` return an outcome without running anything."""

    def install(kernel: Kernel) -> None:
        def outcome(operations, architectures, widths, ks, published, progress):
            rows = report.rows([kernel], [STAGE])
            return run.Outcome(
                [kernel], [STAGE], gates.judge([kernel], [STAGE]), document("compile", rows, device="", threads=1, seconds=0)
            )

        monkeypatch.setattr(run, "run", outcome)

    monkeypatch.setenv("MUSAE_RUNS", str(tmp_path / "runs"))
    return install


def test_exit_code_and_tables(fake, tmp_path):
    fake(KERNEL)
    done = CliRunner().invoke(command, ["--publish", "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "compiled, not run" in done.output
    assert "counted in the interpreter" in done.output
    assert run.published_file(tmp_path).exists()
    assert (tmp_path / "runs" / "bench" / "compile.json").exists()


def test_a_failed_gate_exits_with_1_and_its_rows_can_be_published(fake, tmp_path):
    fake(changed(spills=2))
    done = CliRunner().invoke(command, ["--publish", "--results", str(tmp_path)])
    assert done.exit_code == 1
    assert "no spills: screen for sm_90" in " ".join(done.output.split())
    assert run.published_file(tmp_path).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arch", "sm_70"], "no architecture is named 'sm_70'; take one of sm_80, sm_90, sm_100."),
        (["--op", "softmax"], "no op is named 'softmax'"),
        (["--op", "adam", "--publish"], "--publish writes all rows"),
    ],
)
def test_bad_input(arguments, words):
    done = CliRunner().invoke(command, arguments)
    assert isinstance(done.exception, UserError)
    assert words in str(done.exception)


def test_without_triton_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="triton is not installed"):
        run.check([], [])
