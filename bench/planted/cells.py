"""One trained and scored contestant: a cell, saved when it is done under a key of all that it depends on.

Started again, a comparison reads the cells whose keys have not changed and computes the others: a killed run goes on, and a
method whose code has changed is trained anew, alone.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

import musae
from musae import registry
from musae.bench.planted.contestants import HERE, Contestant
from musae.errors import UserError
from musae.files import atomic_path
from musae.scores import planted as scores

SOURCES = {".py", ".cpp", ".h"}


@dataclass(frozen=True)
class Result:
    """What a cell holds."""

    contestant: str
    seed: int
    frames: int
    settings: Mapping[str, Any]
    mcc: float
    f1: float
    fvu: float
    l0: float
    dead: float
    """Share of latents that never fire on held-out frames."""
    cosines: list[float]
    """Of each true atom with its match, the most frequent atom first."""
    f1s: list[float]
    """Of each true atom."""
    wall_s: float
    """Of training alone."""
    cpu_s: float
    packages: Mapping[str, str]

    def save(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Result | None:
        """The cell, or None where there is none. Raises UserError for a damaged one."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: not a result of this bench, or damaged ({error}); delete it to compute it again."
            ) from error


def score(folder: Path, learnt: Path) -> dict[str, Any]:
    """Scores of what a worker handed over (`musae.bench.planted.worker`) against the data of `folder`."""
    truth = scipy.sparse.csr_array(scipy.sparse.load_npz(folder / "codes.npz"))
    x, atoms = np.load(folder / "heldout.npy"), np.load(folder / "atoms.npy")
    with np.load(learnt, allow_pickle=False) as file:
        W_dec, b_dec = file["W_dec"], file["b_dec"]
        code = scipy.sparse.csr_array((file["values"], file["indices"], file["offsets"]), shape=(len(x), len(W_dec)))
    found, cosines = scores.match(atoms, W_dec)
    f1s = scores.firing_f1(truth, code, found)
    return {
        "mcc": float(cosines.mean()),
        "f1": float(np.nanmean(f1s)),
        "fvu": scores.fvu(x, code, W_dec, b_dec),
        "l0": scores.l0(code),
        "dead": scores.dead(code),
        "cosines": [round(float(value), 6) for value in cosines],
        "f1s": [round(float(value), 6) for value in np.nan_to_num(f1s)],
    }


def key(contestant: Contestant, data: str, size: Mapping[str, Any], settings: Mapping[str, Any], environment: str) -> str:
    """Twelve hex digits over data, size, settings, the code that runs it, and what is installed where it runs."""
    parts = [contestant.name, data, dict(size), dict(settings), environment, _code(contestant)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def installed(python: Path) -> str:
    """A digest of the distributions in an interpreter's environment, musae's own left out: its code is hashed itself."""
    found = sorted(path.name for path in python.parent.parent.glob("lib/python*/site-packages/*.dist-info"))
    return hashlib.sha256("\n".join(name for name in found if not name.startswith("musae-")).encode()).hexdigest()[:16]


def _code(contestant: Contestant) -> str:
    files = {contestant.file, HERE / "worker.py"}
    if contestant.own:
        files |= _reached(registry.find("methods", contestant.method).module)
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + _meaning(file))
    return digest.hexdigest()


def _meaning(file: Path) -> bytes:
    """A source without comments, docstrings and layout, which change nothing that is computed."""
    if file.suffix != ".py":
        return file.read_bytes()
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    return ast.dump(tree).encode()


@functools.cache
def _reached(module: str) -> frozenset[Path]:
    """Files of musae that a method imports, directly or not; of the kernels all, since their paths are imported by name."""
    root = Path(musae.__file__).resolve().parent
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name.startswith("musae.kernels"):
            found |= {file for file in root.glob("kernels/**/*") if file.suffix in SOURCES}
            continue
        file = root.joinpath(*name.split(".")[1:]).with_suffix(".py")
        if not file.is_file() or file in found:  # a package, or a name within a module
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.startswith("musae.")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("musae"):
                waiting += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return frozenset(found)
