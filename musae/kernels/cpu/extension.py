"""The compiled kernels: built on first use by the machine's C++ compiler, kept in musae's cache, loaded with ctypes.

The sources beside this file need 64-bit x86 Linux, a CPU with AVX-512 and its BF16 and VNNI instructions, and a compiler
(``$CXX``, c++, g++ or clang++). Building takes seconds and is said on stderr. A machine that lacks something says so once, and
PyTorch computes instead. Nothing happens at import. The library is named after a hash of sources, compiler, flags and CPU flags,
and renamed into place, so that processes may build it at the same time. One that somebody else could have put there is not
loaded.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

from musae.errors import UserError
from musae.files import atomic_path, cache_root

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread", "-w")
COMPILERS = ("c++", "g++", "clang++")
CPU_FLAGS = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "avx512_vnni")
"""What the sources use, as /proc/cpuinfo names it."""
SOURCES = Path(__file__).parent
CPUINFO = Path("/proc/cpuinfo")
TIMEOUT = 300
"""Seconds that a compiler may take."""

POINTER, INT, DOUBLE, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
ADAM = (INT, DOUBLE, DOUBLE, DOUBLE, DOUBLE, DOUBLE, FLAG, INT)
SIGNATURES = {
    "topk": (*[POINTER] * 3, *[INT] * 4, *[POINTER] * 4, INT),
    "above": (*[POINTER] * 4, *[INT] * 5, *[POINTER] * 4, INT),
    "gather_sum": (*[POINTER] * 5, *[INT] * 5),
    "gather_dot": (*[POINTER] * 4, *[INT] * 5),
    "transpose": (*[POINTER] * 2, *[INT] * 3, *[POINTER] * 3),
    "outer": (*[POINTER] * 6, *[INT] * 3),
    "total": (*[POINTER] * 4, INT),
    "adam": (*[POINTER] * 4, *[INT] * 2, *ADAM),
    "adam_outer": (*[POINTER] * 8, *[INT] * 2, *ADAM),
}
"""Arguments of the entry points in kernels.cpp, without their prefix."""


class Unavailable(Exception):
    """Why the compiled kernels cannot be used, in a few words."""


def available() -> bool:
    """Whether the compiled kernels are used; builds them if need be. What is missing is said once on stderr."""
    return _outcome()[0] is not None


def status() -> tuple[bool, str]:
    """Whether they are used, and why: the compiler and the library, or what is missing. Builds if need be."""
    loaded, why = _outcome()
    return loaded is not None, why


def library() -> ctypes.CDLL:
    """The loaded kernels. Raises UserError where they are not available."""
    loaded, why = _outcome()
    if loaded is None:
        raise UserError(f"the compiled CPU kernels cannot be used: {why}; take the portable path.")
    return loaded


@functools.cache
def _outcome() -> tuple[ctypes.CDLL | None, str]:
    try:
        path, compiler = _built()
        try:
            loaded = _load(path)
        except (OSError, AttributeError):  # no library, or not the one that its name says: build it again
            path.unlink(missing_ok=True)
            path, compiler = _built()
            loaded = _load(path)
    except (Unavailable, UserError, OSError, AttributeError) as error:
        why = str(error)
        print(f"musae: the CPU kernels are not compiled, PyTorch computes instead: {why}", file=sys.stderr)
        return None, why
    return loaded, f"compiled by {compiler}, {path}"


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    for name, arguments in SIGNATURES.items():
        function = getattr(loaded, f"musae_{name}")
        function.argtypes, function.restype = arguments, ctypes.c_int
    return loaded


def _built() -> tuple[Path, str]:
    """The library, built unless it is there, and the compiler's name and version."""
    flags = _cpu_flags()
    compiler, version = _compiler()
    sources = sorted(SOURCES.glob("*.h")) + sorted(SOURCES.glob("*.cpp"))
    key = hashlib.sha256()
    for part in (*(p.read_bytes() for p in sources), version.encode(), " ".join(FLAGS).encode(), flags.encode()):
        key.update(hashlib.sha256(part).digest())
    path = cache_root() / "kernels" / f"cpu-{key.hexdigest()[:16]}.so"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _compile(compiler, path)
    for file in (path, path.parent):
        _check_owner(file)
    return path, version


def _check_owner(file: Path) -> None:
    """Raise Unavailable where others than this user and root could have written the file or folder: it is going to be run."""
    found = file.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unavailable(f"{file} belongs to or can be written by others; set MUSAE_CACHE to a folder of your own")


def _cpu_flags() -> str:
    """The CPU's flags. Raises Unavailable unless the kernels can run on it."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise Unavailable(f"they are written for x86-64 Linux, and this is {platform.machine()} {platform.system()}")
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError as error:
        raise Unavailable(f"{CPUINFO} cannot be read ({error.strerror})") from error
    flags = next((line.partition(":")[2].strip() for line in lines if line.startswith("flags")), "")
    missing = [flag for flag in CPU_FLAGS if flag not in flags.split()]
    if missing:
        raise Unavailable(f"this CPU has no {', '.join(missing)}")
    return flags


def _compiler() -> tuple[list[str], str]:
    """The command of the C++ compiler and the first line of its version. Raises Unavailable where there is none."""
    wanted = os.environ.get("CXX")
    names = [shlex.split(wanted)] if wanted else [[name] for name in COMPILERS]
    found = next((command for command in names if command and shutil.which(command[0])), None)
    if found is None:
        raise Unavailable(
            f"CXX={wanted} is no program" if wanted else f"no C++ compiler was found ({', '.join(COMPILERS)}; or set CXX)"
        )
    try:
        shown = subprocess.run([*found, "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{shlex.join(found)} does not run ({error})") from error
    return found, shown.partition("\n")[0] or shlex.join(found)


def _compile(compiler: list[str], path: Path) -> None:
    print("musae: compiling the CPU kernels (once, a few seconds) ...", file=sys.stderr)
    began = time.monotonic()
    with atomic_path(path) as temporary:
        command = [*compiler, *FLAGS, "-o", str(temporary), str(SOURCES / "kernels.cpp")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"{shlex.join(compiler)} failed ({error})") from error
        if done.returncode:
            log = path.with_suffix(".log")
            with atomic_path(log) as draft:
                draft.write_text(" ".join(command) + "\n" + "\n".join((done.stderr + done.stdout).splitlines()[:200]) + "\n")
            raise Unavailable(f"{shlex.join(compiler)} could not compile them, see {log}")
    print(f"musae: compiled in {time.monotonic() - began:.1f} s", file=sys.stderr)
