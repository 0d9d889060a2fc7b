"""One side of a comparison: a process that imports one checkout's musae and times what it is asked for.

Run as a script by path (``python -P worker.py CHECKOUT DEVICE`` with the checkout first in PYTHONPATH), always the file of the
*new* checkout, so that both sides run the same workloads on the same data. Nothing of `musae.bench` is imported: an editable
install would serve it from its own folder, whatever checkout is asked for.

It talks in lines of JSON: requests on standard input, one answer each on standard output.

- at the start it says ``{"musae": file, "benches": [names], "device": words}``;
- ``{"do": "prepare", "bench": name}`` makes the inputs, warms up, and answers ``{"seconds": of one call}``;
- ``{"do": "sample", "calls": n}`` answers ``{"wall": seconds, "cpu": seconds}`` of one call, the mean of n in a row;
- an answer ``{"error": words}`` means that the bench cannot be run in this checkout.

Units: seconds. `cpu` is the time of all threads of this process (there is one thread of PyTorch's); on a GPU `wall` is the time
between two CUDA events and `cpu` is null.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

WARM_SECONDS = 0.05
"""After a first call, which compiles kernels and fills caches, warm-up goes on for so long."""

Calls = Callable[[int], None]
"""Runs the workload a number of times."""
Workload = Callable[[], contextlib.AbstractContextManager[Calls]]
"""Makes the inputs; frees them at the end."""


class Shape(NamedTuple):
    """A problem size, under the names that `musae.kernels.op.Shape` has."""

    n: int
    d: int
    width: int
    k: int


SMALL = Shape(n=2048, d=256, width=4096, k=32)
"""Of the training step and of encoding."""
OPS = {"cpu": Shape(n=512, d=256, width=2048, k=32), "cuda": Shape(n=2048, d=1024, width=16384, k=64)}
"""Of the single ops: on one core a call takes milliseconds, on a GPU it fills the device."""


class Endless:
    """Training frames that never end; the training loop stands still between the steps that are asked for.

    A `musae.dictionary.FrameSource`. The loop that takes its batches runs in a thread of its own; from one batch to the next
    passes exactly one training step, whatever the loop does in it.
    """

    identity = "gaussian"

    def __init__(self, device: torch.device) -> None:
        self._pool = gaussian((4, SMALL.n, SMALL.d), device)
        self.d = SMALL.d
        self.frames = SMALL.n * 10**6
        self._go: queue.Queue[int] = queue.Queue()
        self._done: queue.Queue[BaseException | None] = queue.Queue()

    def mean(self) -> torch.Tensor:
        return self._pool.mean((0, 1))

    def sample(self, n: int, seed: int) -> torch.Tensor:
        return self._pool.flatten(0, 1)[:n]

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[torch.Tensor]:
        step = 0
        while steps := self._go.get():
            for _ in range(steps):
                yield self._pool[step % len(self._pool)]
                step += 1
            self._done.put(None)

    def start(self, loop: Callable[[], object]) -> None:
        """Run `loop`, which trains on these frames, in the background."""

        def run() -> None:
            try:
                loop()
            except BaseException as error:  # raised again by whoever waits for it
                self._done.put(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def steps(self, count: int) -> None:
        """Let `count` steps happen; raises what the loop raised."""
        self._go.put(count)
        error = self._done.get()
        if error is not None:
            raise error

    def stop(self) -> None:
        """End the loop, and wait for its end."""
        self._go.put(0)
        self._thread.join()


def gaussian(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Standard normal float32, the same in every process."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(device)


@contextlib.contextmanager
def op_calls(op: Any, backward: bool, device: torch.device) -> Iterator[Calls]:
    """Calls of one op, with or without its backward pass under a fixed random upstream gradient."""
    arguments = op.inputs(OPS[device.type], torch.float32, device, 0)
    jitter = torch.Generator().manual_seed(1)
    # sample inputs lie on a coarse grid, where pre-activations often tie; with a percent of noise ties are as rare as in data
    arguments = tuple(
        a * (0.99 + 0.02 * torch.rand(a.shape, generator=jitter)).to(a) if _is_float(a) and a.ndim else a for a in arguments
    )
    if backward:
        arguments = tuple(a.requires_grad_() if _is_float(a) and a.ndim else a for a in arguments)
    leaves = [a for a in arguments if _is_float(a) and a.requires_grad]
    upstream: list[torch.Tensor] = []

    def once() -> None:
        if not backward:
            with torch.no_grad():
                op.fn(*arguments)
            return
        outputs = op.fn(*arguments)
        outputs = [o for o in (outputs if isinstance(outputs, tuple) else (outputs,)) if _is_float(o) and o.requires_grad]
        if not upstream:
            upstream.extend(gaussian(tuple(o.shape), device) for o in outputs)
        torch.autograd.backward(outputs, upstream)
        for leaf in leaves:
            leaf.grad = None

    def calls(count: int) -> None:
        for _ in range(count):
            once()

    yield calls


@contextlib.contextmanager
def training_calls(device: torch.device) -> Iterator[Calls]:
    """Steps of the training loop on a TopK dictionary: loss, gradients, Adam, unit norm."""
    from musae.methods.topk import Topk
    from musae.training import train

    frames = Endless(device)
    method = Topk(width=SMALL.width, k=SMALL.k, batch_size=SMALL.n)
    method.start(frames)
    frames.start(lambda: train(method, frames))
    try:
        yield frames.steps
    finally:
        frames.stop()


@contextlib.contextmanager
def encoding_calls(device: torch.device) -> Iterator[Calls]:
    """Encodings of one batch by a frozen TopK dictionary."""
    from musae.methods.topk import Topk

    method = Topk(width=SMALL.width, k=SMALL.k)
    method.start(Endless(device))
    with torch.no_grad():
        method.freeze()
    x = gaussian((SMALL.n, SMALL.d), device)

    def calls(count: int) -> None:
        for _ in range(count):
            method.encode(x)

    yield calls


def benches(checkout: Path, device: torch.device) -> dict[str, Workload]:
    """All workloads of a checkout by name."""
    from musae.kernels.op import ops

    found: dict[str, Workload] = {}
    for name, op in sorted(ops().items()):
        found[f"{name}.forward"] = partial(op_calls, op, False, device)
        if op.differentiable:
            found[f"{name}.forward_backward"] = partial(op_calls, op, True, device)
    if (checkout / "musae" / "methods" / "topk.py").is_file():
        found["training_step"] = partial(training_calls, device)
        found["encoding"] = partial(encoding_calls, device)
    return found


def sample(calls: Calls, count: int, device: torch.device) -> tuple[float, float | None]:
    """Wall and CPU seconds of one call, the mean of `count` calls in a row."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        calls(count)
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000 / count, None
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time()
    calls(count)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gc.enable()
    return wall / count, cpu / count


def warm(calls: Calls, device: torch.device) -> float:
    """Warm up; the seconds of one call then."""
    calls(1)
    if device.type == "cuda":
        torch.cuda.synchronize()
    until = time.perf_counter() + WARM_SECONDS
    while time.perf_counter() < until:
        calls(1)
    wall, cpu = sample(calls, 1, device)
    return wall if cpu is None else cpu


def serve(checkout: Path, device: torch.device, requests: Any, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer requests until they end."""
    torch.set_num_threads(1)
    import musae

    made = benches(checkout, device)
    words = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    answer({"musae": musae.__file__, "benches": list(made), "device": words})
    with contextlib.ExitStack() as stack:
        calls: Calls | None = None
        for line in requests:
            request = json.loads(line)
            try:
                if request["do"] == "prepare":
                    stack.close()
                    gc.collect()
                    calls = stack.enter_context(made[request["bench"]]())
                    seconds = warm(calls, device)
                    foreign = strangers(checkout)
                    answer({"error": f"it imports {foreign[0]}"} if foreign else {"seconds": seconds})
                else:
                    assert calls is not None
                    wall, cpu = sample(calls, request["calls"], device)
                    answer({"wall": wall, "cpu": cpu})
            except Exception as error:  # a bench that fails is an answer, whatever it raised
                answer({"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]})


def strangers(checkout: Path) -> list[str]:
    """Files of musae's modules that were loaded from somewhere else than the checkout."""
    files = [getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "musae"]
    return [file for file in files if file and not Path(file).resolve().is_relative_to(checkout)]


def _is_float(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def main() -> None:
    """Serve standard input; what the workloads print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # what the checkout lacks must be lacking, not come from an editable install's folder
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable___musae")
    ]
    checkout, device = Path(sys.argv[1]).resolve(), torch.device(sys.argv[2])
    serve(checkout, device, sys.stdin, lambda message: print(json.dumps(message), file=answers))


if __name__ == "__main__":
    main()
