"""How the compiled kernels are built, and done without."""

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from musae.kernels.cpu import extension


def program(folder: Path, text: str) -> Path:
    """A stand-in for a compiler: it says its version, or does what `text` says with its output path in $out."""
    script = folder / "compiler"
    arguments = '[ "$1" = --version ] && echo "stand-in 1.0" && exit\nwhile [ "$1" != -o ]; do shift; done\nout=$2'
    script.write_text(f"#!/bin/sh\n{arguments}\n{text}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.fixture
def amd64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has every instruction, an empty cache, and a file that can play its /proc/cpuinfo."""
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: fpu {' '.join(extension.CPU_FLAGS)}\n")
    monkeypatch.setattr(extension, "CPUINFO", info)
    monkeypatch.setattr(extension.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(extension.sys, "platform", "linux")
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path / "cache"))
    return info


def test_a_cpu_that_lacks_instructions_is_told_which(amd64: Path) -> None:
    amd64.write_text("flags\t\t: fpu avx512f avx512bw avx512dq avx512vl\n")
    with pytest.raises(extension.Unavailable, match=r"no .*avx512_bf16"):
        extension._built()


def test_a_failed_compilation_is_logged(amd64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(program(tmp_path, "echo 'kernels.cpp:1: error: no such luck' >&2; exit 1")))
    with pytest.raises(extension.Unavailable, match=r"see .*\.log") as caught:
        extension._built()
    log = Path(str(caught.value).rpartition("see ")[2])
    assert "no such luck" in log.read_text()
    assert not list(log.parent.glob("*.so"))


def test_processes_that_build_at_the_same_time_share_one_library(
    amd64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly = f"printf half > $out; sleep 0.2; printf library > $out; echo >> {tmp_path / 'runs'}"
    monkeypatch.setenv("CXX", str(program(tmp_path, slowly)))
    found: list[str] = []

    def build() -> None:
        found.append(extension._built()[0].read_text())

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["library"] * 3
    assert len((tmp_path / "runs").read_text()) >= 2  # they did run side by side
    assert [p.suffix for p in (tmp_path / "cache" / "kernels").iterdir()] == [".so"]
    build()
    assert found[3] == "library"


def test_another_compiler_builds_another_library(amd64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = program(tmp_path, "printf library > $out")
    monkeypatch.setenv("CXX", str(script))
    first = extension._built()[0]
    script.write_text(script.read_text().replace("1.0", "2.0"))
    assert extension._built()[0] != first


def test_without_a_compiler_pytorch_computes_and_that_is_said_once(tmp_path: Path) -> None:
    """In a process of its own, by the public functions."""
    code = (
        "import torch\n"
        "from musae.kernels import dispatch\n"
        "from musae.kernels.cpu import extension\n"
        "from musae.kernels.topk_encode import topk_encode\n"
        "for _ in range(2):\n"
        "    topk_encode(torch.ones(2, 3), torch.ones(4, 3), torch.zeros(4), 1)\n"
        "print(extension.available(), extension.status()[0], dispatch.choose(torch.device('cpu'), torch.float32)[0])\n"
    )
    environment = {"CXX": "/nonexistent/c++", "MUSAE_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.split() == ["False", "False", "portable"], done.stderr
    assert done.stderr.count("musae:") == 1
    assert "PyTorch computes instead" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_library_that_others_could_have_written_is_not_loaded(
    amd64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("CXX", str(program(tmp_path, "printf library > $out")))
    path = extension._built()[0]
    (path if where == "file" else path.parent).chmod(0o777)
    with pytest.raises(extension.Unavailable, match="can be written by others; set MUSAE_CACHE"):
        extension._built()


@pytest.mark.skipif(not extension.available(), reason=f"no compiled kernels: {extension.status()[1]}")
def test_what_is_no_library_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path / "cache"))
    path = extension._built()[0]
    whole = path.stat().st_size
    path.write_bytes(b"no library")
    loaded, why = extension._outcome.__wrapped__()
    assert loaded is not None, why
    assert path.stat().st_size == whole
