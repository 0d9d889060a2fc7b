"""Compile recorded kernels ahead of time, for architectures that need not be there, and read the machine code.

A process of its own (``python -m musae.bench.compile.build RECORD OUT ARCH...``): Triton compiles only where its interpreter is
off, which is decided when it is imported. Progress goes to standard output, a line of JSON for each kernel.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musae.bench.compile import sass
from musae.bench.compile.specialisation import Specialisation, arguments, constants

ARCHITECTURES = {"sm_80": 80, "sm_90": 90, "sm_100": 100}
"""Name -> compute capability times ten: A100, H100, B200."""
SHARED_LIMIT = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}
"""Bytes of shared memory that one block can have (CUDA C++ programming guide, table of compute capabilities)."""


@dataclass(frozen=True)
class Built:
    """One specialisation compiled for one architecture."""

    key: str
    """Of the specialisation."""
    architecture: str
    code: sass.Code | None = None
    shared: int = 0
    """Bytes of shared memory of each block."""
    error: str = ""
    """Why it does not compile; empty where it does."""


def build(specialisation: Specialisation, architecture: str, row_lines: Iterable[tuple[str, int]]) -> Built:
    """Compile one kernel for one architecture, with what Triton would infer from its arguments at a launch."""
    try:
        compiled = _compile(specialisation, ARCHITECTURES[architecture])
        code = _disassemble(compiled.asm["cubin"], row_lines)
    except Exception as error:  # the compiler's own, of many types: a kernel that does not compile is a result
        return Built(specialisation.key, architecture, error=f"{type(error).__name__}: {error}".replace("\n", " ")[:500])
    return Built(specialisation.key, architecture, code, int(compiled.metadata.shared))


def _compile(specialisation: Specialisation, capability: int) -> Any:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile, make_backend
    from triton.runtime.jit import create_function_from_signature

    module, _, name = specialisation.kernel.partition(":")
    kernel = getattr(importlib.import_module(module), name)
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    given = constants(specialisation)
    options = {"num_warps": specialisation.num_warps, "num_stages": specialisation.num_stages}
    options |= {key: value for key, value in given.items() if key not in kernel.arg_names}
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, kinds, _ = bind(*arguments(specialisation), **{key: value for key, value in given.items() if key in kernel.arg_names})
    parsed, signature, constexprs, attributes = kernel._pack_args(backend, dict(options), bound, kinds, options)
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=attributes)
    return compile(source, target=target, options=parsed.__dict__)


def _disassemble(cubin: bytes, row_lines: Iterable[tuple[str, int]]) -> sass.Code:
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        usage = _output(tools / "cuobjdump", "-res-usage", path)
        listing = _output(tools / "nvdisasm", "-g", "-c", path)
    return sass.digest(listing, usage, row_lines)


def _output(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def main(record: str, out: str, *architectures: str) -> None:
    """Compile every kernel of a record; write what was found as JSON."""
    made = json.loads(Path(record).read_text())
    found = []
    for done, entry in enumerate(made, 1):
        specialisation = Specialisation.from_json(entry["specialisation"])
        lines = [(file, line) for file, line in entry["row_lines"]]
        found += [asdict(build(specialisation, architecture, lines)) for architecture in architectures]
        print(json.dumps({"done": done, "of": len(made), "what": specialisation.name}), flush=True)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
