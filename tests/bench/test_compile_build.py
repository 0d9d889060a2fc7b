"""Kernels compiled ahead of time, for GPUs that are not there."""

import inspect

import pytest
import torch

pytest.importorskip("triton")

import compile_toys

from musae.bench.compile import run
from musae.bench.compile.build import build
from musae.bench.compile.specialisation import Specialisation, specialise
from musae.bench.rows import read


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


pytestmark = pytest.mark.skipif(
    compile_toys.triton.knobs.runtime.interpret, reason="Triton compiles where its interpreter is off"
)


def product(d: int = 64) -> Specialisation:
    tensors = (torch.zeros(16, d, dtype=torch.bfloat16),) * 2 + (torch.zeros(16, 16),)
    return specialise("compile_toys", "product", tensors, {"D": d, "ROWS": 16, "WIDEN": True}, 1, 3)


def line_of(kernel, text: str) -> tuple[str, int]:
    lines, start = inspect.getsourcelines(kernel.fn)
    return inspect.getsourcefile(kernel.fn), start + next(number for number, line in enumerate(lines) if text in line)


def test_a_matrix_product_compiles_to_tensor_cores_and_wide_loads():
    found = build(product(), "sm_90", [line_of(compile_toys._rows, "return tl.load")])
    assert found.error == ""
    assert found.code.tensor_cores > 0  # not widened: that is for the interpreter
    assert found.code.spills == 0
    assert found.code.row_loads == found.code.row_loads_128 > 0
    assert found.code.loads > found.code.row_loads  # the first column, an element a thread
    assert 0 < found.code.registers <= 255


def test_atomics_carry_their_lines():
    tensors = (torch.zeros(64), torch.zeros(4, dtype=torch.int32), torch.zeros(2))
    found = build(specialise("compile_toys", "count", tensors, {"BLOCK": 64}, 1, 3), "sm_80", [])
    assert found.error == ""
    wanted = {line_of(compile_toys.count, "counts + place"), line_of(compile_toys.count, "sums + place")}
    assert set(found.code.atomic_lines) == wanted


def test_what_does_not_compile_says_why():
    made = specialise("compile_toys", "again", (torch.zeros(48), torch.zeros(48)), {"BLOCK": 48, "TIMES": 1}, 1, 3)
    found = build(made, "sm_80", [])
    assert found.code is None
    assert "power of 2" in found.error


def test_a_specialisation_keeps_only_what_the_compiler_looks_at():
    tensor = torch.zeros(64)
    one, other = (specialise("m", "k", (tensor, size, 0.1), {}, 4, 3) for size in (2048, 65536))
    assert one.key == other.key
    different = [2047, 1, 2**35]
    assert len({specialise("m", "k", (tensor, size, 0.1), {}, 4, 3).key for size in [2048, *different]}) == 4
    assert specialise("m", "k", (tensor[1:], 2048, 0.1), {}, 4, 3).key != one.key
    assert Specialisation.from_json({**one.__dict__}) == one


@pytest.mark.slow
def test_an_op_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path))
    told = []
    outcome = run.run(["adam_outer"], ["sm_90"], [32768], [16], tmp_path / "none.json", lambda *what: told.append(what))
    assert outcome.failures == []
    assert {kernel.name for kernel in outcome.kernels} >= {"adam_outer"}
    assert [stage.bytes.ratio for stage in outcome.stages] == pytest.approx([1.0], abs=0.05)
    assert told[-1][1] == told[-1][2]
    published = outcome.document.write(tmp_path / "rows.json")
    again = run.gates.regressions(outcome.document.rows, read(published).rows)
    assert again
    assert all(verdict.passed for verdict in again)
