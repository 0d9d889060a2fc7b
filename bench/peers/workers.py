"""Worker processes as the coordinator sees them: one request, one answer, and one clear sentence when that fails."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from musae.errors import UserError

PATIENCE = 600.0
"""Seconds to wait for an answer: the slowest request here takes some ten."""
UNSET = ("MUSAE_KERNELS", "PYTHONPATH", "SPARSIFY_DISABLE_TRITON", "THP_MEM_ALLOC_ENABLE", "TRITON_INTERPRET")
"""Variables that would give a contestant other settings than its own."""


class WorkerError(UserError):
    """A contestant failed; the others can go on."""


class Process:
    """A worker: ``ask("train", steps=4)`` sends a request of `musae.bench.peers.worker` and returns the answer."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        threads: int,
        env: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> None:
        """Start it. Raises WorkerError if it cannot be started.

        `name`: what sentences call it; `env`: variables of its own; `patience`: seconds to wait for an answer, `PATIENCE` if
        None.
        """
        self.name = name
        self.patience = PATIENCE if patience is None else patience
        self._words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed in `close`
        inherited = {key: value for key, value in os.environ.items() if key not in UNSET}
        own = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env={**inherited, **own, **(env or {})},
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
            )
        except OSError as error:
            self._words.close()
            raise WorkerError(f"{name}: {command[0]} cannot be started ({error.strerror}); install it anew.") from error
        self._unread = b""

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to a request. Raises WorkerError if the worker dies, is silent, talks rubbish or reports a failure."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died(do) from None
        line = self._line(do)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            shown = line.decode(errors="replace").strip()[:80]
            raise WorkerError(
                f"{self.name}: asked to {do}, its worker wrote {shown!r} instead of an answer; nothing of it counts."
            )
        if "error" in answer:
            raise WorkerError(f"{self.name}: cannot {do} here: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process; it has nothing to save."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._words.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _line(self, do: str) -> bytes:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            ready, _, _ = select.select([handle], [], [], self.patience)
            if not ready:
                raise WorkerError(
                    f"{self.name}: asked to {do}, its worker gave no answer in {self.patience:.0f} s; it was left out."
                )
            read = os.read(handle, 65536)
            if not read:
                raise self._died(do)
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _died(self, do: str) -> WorkerError:
        code = self._process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        self._words.seek(0)
        said = [line.strip() for line in self._words if line.strip()]
        return WorkerError(
            f"{self.name}: asked to {do}, its worker ended {how}" + (f", saying {said[-1][:160]!r}." if said else ".")
        )


def peers_python(folder: Path) -> Path:
    """The interpreter of the peers' environment. Raises UserError where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        raise UserError(f"{folder}: the peers' environment is not there; `make peers` makes it.")
    return python


def own_python() -> Path:
    """The interpreter that musae runs in."""
    return Path(sys.executable)
