"""What every generator checks of what it is given: codes, layers, splices."""

from __future__ import annotations

from torch import Tensor

from musae.errors import UserError
from musae.generators.generator import Splice


def checked(codes: Tensor, books: int, words: int, name: str) -> Tensor:
    """Codes as int64; raises UserError unless they are ``[n, K, T]`` for K = `books` and within 0 and `words` - 1."""
    if codes.ndim != 3 or codes.shape[1] != books:
        raise UserError(f"codes have shape {list(codes.shape)}; give [clips, {books}, frames].")
    low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    if low < 0 or high >= words:
        raise UserError(f"codes range from {low} to {high}; {name}'s go from 0 to {words - 1}.")
    return codes.long()


def check_layer(layer: int, depth: int, name: str) -> None:
    """Raise UserError unless there is such a layer."""
    if not 0 <= layer <= depth:
        raise UserError(f"layer {layer} does not exist; {name} has layers 0 (embeddings) to {depth}.")


def check_splice(layer: int | None, splice: Splice | None, depth: int, name: str) -> None:
    """Raise UserError unless a layer and a splice are given both, or neither."""
    if (layer is None) != (splice is None):
        raise UserError("a splice needs a layer, and a layer a splice: give both or neither.")
    if layer is not None:
        check_layer(layer, depth, name)
