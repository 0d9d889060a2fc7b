"""musae: a benchmark for dictionaries learned from music generators.

From Python, what the command line does::

    import musae

    dictionary = musae.load("my_dictionary.safetensors")  # or a checkpoint of another library: a path, or a hub id
    rows = musae.evaluate(dictionary, suite="quick")

The names are imported on first use, so that ``import musae`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musae.evaluation import evaluate
    from musae.formats.recognise import load

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load"]


def __getattr__(name: str) -> object:
    if name == "load":
        from musae.formats.recognise import load

        return load
    if name == "evaluate":
        from musae.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module 'musae' has no attribute {name!r}")
