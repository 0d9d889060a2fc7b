"""Source lines as statements: the interpreter and the compiler may name different lines of one call that spans several."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


def statement(file: str, line: int) -> tuple[str, int]:
    """The file, and the first line of the simple statement that holds a line; the line itself where the file is not there."""
    return file, _starts(file).get(line, line)


@functools.cache
def _starts(file: str) -> dict[int, int]:
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    found: dict[int, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                found[line] = node.lineno
    return found
