"""Imports go down only, `musae list` imports no torch, and the leaderboard needs nothing but rows."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = {
    "musae.errors": 0,
    "musae.files": 0,
    "musae.card": 0,
    "musae.checkpoints": 0,
    "musae.cost": 0,
    "musae.registry": 0,
    "musae.provenance": 0,
    "musae.results": 0,
    "musae.suites": 0,
    "musae.kernels": 1,
    "musae.providers": 1,
    "musae.corpora": 2,
    "musae.generators": 2,
    "musae.estimators": 2,
    "musae.activations": 2,
    "musae.dictionary": 3,
    "musae.frozen": 3,
    "musae.clap": 3,
    "musae.metrics_log": 3,
    "musae.recipe": 3,
    "musae.parallel": 1,
    "musae.autoencoder": 3,
    "musae.batch_budget": 3,
    "musae.penalty": 3,
    "musae.training": 3,
    "musae.least_squares": 3,
    "musae.methods": 3,
    "musae.formats": 3,
    "musae.scores": 4,
    "musae.labels": 4,
    "musae.explainers": 4,
    "musae.tasks": 5,
    "musae.streaming": 6,
    "musae.hyperparameters": 3,
    "musae.sweep": 6,
    "musae.sweep_training": 6,
    "musae.labelled": 6,
    "musae.workspace": 6,
    "musae.accuracy": 6,
    "musae.estimated": 6,
    "musae.evaluation": 6,
    "musae.steering": 6,
    "musae.labelling": 6,
    "musae.engines": 6,
    "musae.conformance": 0,
    "musae.testing": 6,
    "musae.testing_corpora": 6,
    "musae.testing_estimators": 6,
    "musae.testing_generators": 6,
    "musae.testing_tasks": 6,
    "musae.testing_kernels": 6,
    "musae.testing_providers": 6,
    "musae.templates": 6,
    "musae.leaderboard": 7,
    "musae.bench": 7,
    "musae.cli": 8,
}
"""As ARCHITECTURE in the README says; a new module has to be given its place here."""

ONLY = {"musae.leaderboard": 0}
"""Packages that may import no layer above this one, wherever they stand themselves."""


def modules():
    """(module name, its file) of all shipped modules."""
    for folder, package in {
        "musae": "musae",
        "tasks": "musae.tasks",
        "leaderboard": "musae.leaderboard",
        "bench": "musae.bench",
    }.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            yield ".".join(p for p in parts if p != "__init__"), path


def place(module: str) -> tuple[str, int] | None:
    """The entry of LAYERS that a module belongs to."""
    found = [name for name in LAYERS if module == name or module.startswith(name + ".")]
    return (max(found, key=len), LAYERS[max(found, key=len)]) if found else None


def imports(path: Path, typing_too: bool = False):
    """Modules of musae that a file imports, anywhere in it, except for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for_types |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in for_types and not typing_too:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("musae"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("musae"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if place(inner) and node.module == "musae" else node.module


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules() if m != "musae"])
def test_imports_go_down(module, path):
    at = place(module)
    assert at is not None, f"{module} has no layer: give it one in LAYERS"
    name, layer = at
    for target in imports(path):
        if target == "musae":
            continue
        other = place(target)
        assert other is not None, f"{module} imports {target}, which has no layer"
        allowed = ONLY.get(name, layer)
        assert other[1] <= allowed or other[0] == name, f"{module} (layer {layer}) imports {target} (layer {other[1]})"


def test_every_folder_of_modules_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {module if path.name == "__init__.py" else module.rpartition(".")[0] for module, path in modules()}
    assert sorted(listed) == sorted(folders)


def test_listing_imports_no_torch():
    code = (
        "import sys; from musae import registry; [registry.entries(k) for k in registry.KINDS];"
        "import musae.cli.list_command; print([m for m in ('torch', 'transformers', 'music21', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
