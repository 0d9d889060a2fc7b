"""A dictionary that another library trained, as it is: read from its checkpoint by `musae.formats`, never fitted.

Its tensors are in the frame of raw inputs, as those of every frozen dictionary: what its library subtracts, scales or rescales is
folded in when it is read, so that codes and reconstructions equal the library's own. It encodes by one of the rules of
`musae.frozen`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from torch import Tensor

from musae import frozen
from musae.card import MethodCard
from musae.dictionary import Budget, Dictionary, FrameSource, Report, SparseCode
from musae.errors import UserError
from musae.frozen import Rule

CARD = MethodCard(
    name="imported",
    summary="a checkpoint of another library, as it is",
    seeded=False,
    fitted=False,
)


class Imported(Dictionary):
    """A checkpoint of another library. `trained` says what is known of its origin, as text: ``title`` (what people call it; on
    the board it stands for the method's name), ``version`` (of the library), ``normalisation``, ``site`` (hook point or
    layer)."""

    name = CARD.name

    def __init__(
        self, width: int = 2048, k: int = 32, seed: int = 0, rule: Rule = "topk", library: str = "", architecture: str = ""
    ) -> None:
        """`width`: latents F. `k`: of a TopK, the latents of each frame; of another rule, the mean number that the checkpoint's
        configuration names as its target, or F where it names none: then nothing is held. `seed`: changes nothing.

        `rule`: how it encodes (`musae.frozen.Rule`). `library`, `architecture`: what it was read from, in the library's own
        words.
        """
        super().__init__()
        if rule not in frozen.TENSORS:
            raise UserError(f"imported: rule = {rule!r} is none of {', '.join(frozen.TENSORS)}; use the musae that saved it.")
        self.width = width
        self.k = k
        self.seed = seed
        self.rule = rule
        self.library = library
        self.architecture = architecture

    @property
    def budget(self) -> Budget:  # type: ignore[override]
        """A TopK holds k in every frame; the other rules at best on average."""
        return "frame" if self.rule == "topk" else "mean"

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        raise UserError("imported dictionaries are read, not trained: give their checkpoint to `musae score`.")

    def encode(self, x: Tensor) -> SparseCode:
        return frozen.encode(self.checked(x), self.tensors, self.rule, self.k)


METHOD = Imported
