"""Small kernels whose traffic is known. As a script, under Triton's interpreter, it counts that and prints JSON."""

import json
import sys
from functools import partial

import torch
import triton
import triton.language as tl


@triton.jit
def copy(source, target, size, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + place, mask=place < size, other=0.0), mask=place < size)


@triton.jit
def stride(source, target, STRIDE: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + place * STRIDE))


@triton.jit
def again(source, target, BLOCK: tl.constexpr, TIMES: tl.constexpr):
    place = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for _ in range(TIMES):
        total += tl.load(source + place)
    tl.store(target + place, total)


@triton.jit
def count(values, counts, sums, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    value = tl.load(values + place)
    tl.atomic_add(counts + place % 4, 1)
    tl.atomic_add(sums + place % 2, value)


@triton.jit
def _rows(pointer, frame, column, D: tl.constexpr):
    return tl.load(
        pointer + frame[:, None] * D + column[None, :],
    )


@triton.jit
def product(left, right, out, D: tl.constexpr, ROWS: tl.constexpr, WIDEN: tl.constexpr):
    place = tl.arange(0, ROWS)
    column = tl.arange(0, D)
    a = _rows(left, place, column, D)
    b = _rows(right, place, column, D)
    first = tl.load(left + place * D)
    if WIDEN:
        a, b = a.to(tl.float32), b.to(tl.float32)
    sums = tl.dot(a, tl.trans(b)) + first[:, None].to(tl.float32)
    tl.store(out + place[:, None] * ROWS + place[None, :], sums)


@triton.jit
def beyond(source, target, offset):
    tl.store(target, tl.load(source + offset))


def launch(counter, kernel, grid, *arguments, **constants):
    """Run a kernel; its traffic."""
    traffic = counter.open(arguments)
    kernel[grid](*arguments, **constants)
    return traffic


def main() -> None:
    from musae.bench.compile.count import counting
    from musae.bench.compile.interpreter import executing

    d, rows = 64, 16
    floats, out = torch.arange(4096, dtype=torch.float32), torch.zeros(4096)
    counts, sums = torch.zeros(4, dtype=torch.int32), torch.zeros(2)
    left, right = (torch.randn(rows, d).bfloat16() for _ in range(2))
    products, other = torch.zeros(rows, rows), torch.ones(1)
    offset = (other.data_ptr() - floats.data_ptr()) // 4
    kernels = (copy, stride, again, count, product, beyond)
    runs = {
        "copy": lambda k: k((2,), floats, out, 1000, BLOCK=512),
        "stride": lambda k: k((1,), floats, out, STRIDE=8, BLOCK=64),
        "again": lambda k: k((1,), floats, out, BLOCK=256, TIMES=4),
        "count": lambda k: k((1,), floats, counts, sums, BLOCK=64),
        "product": lambda k: k((1,), left, right, products, D=d, ROWS=rows, WIDEN=True),
        "beyond": lambda k: k((1,), floats, out, offset),
    }
    found = {}
    with executing(), counting(d) as counter:
        for kernel, (name, run) in zip(kernels, runs.items(), strict=True):
            traffic = run(partial(launch, counter, kernel))
            lines = [
                {
                    "kind": line.kind,
                    "dtype": line.dtype,
                    "run": line.run,
                    "rows": line.rows,
                    "line": line.line,
                    "issued": line.issued,
                }
                for line in traffic.lines.values()
            ]
            found[name] = {
                "issued": [traffic.issued_read, traffic.issued_written],
                "distinct": traffic.distinct(),
                "stray": traffic.stray,
                "dots": traffic.dots,
                "lines": lines,
            }
    found["product"]["error"] = float((products - left.float() @ right.float().T - left[:, :1].float()).abs().max())
    found["copy"]["error"] = float((out[300:1000] - floats[300:1000]).abs().max())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
