"""`MAGNeT`: the generator's contract over a masked-token decoder, which is not autoregressive (arXiv:2401.04577).

MAGNeT decodes one codebook after the other, each in a few steps: at first all of it is masked, and each step keeps the likeliest
of the tokens that it draws for what is masked, in spans, until nothing is. Its blocks see all of the clip, or `subcodes_context`
frames on either side, for codebooks above the first. So a stream is of a *decoding step*: codebooks below `codebook` are known,
the share `masked` of its spans is masked, codebooks above are masked whole. Nothing is delayed: row f is frame f, masked or not.

Which spans are masked is drawn from the clip's codes alone: a clip has the same rows in any batch, and masks differ among clips,
so that a position says nothing of being masked. How many are is what decoding would have: ``max(int(masked * spans), 1)``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from musae.errors import UserError
from musae.generators import checks
from musae.generators.audiocraft import model
from musae.generators.audiocraft.adapter import Audiocraft
from musae.generators.audiocraft.checkpoint import Checkpoint, Step
from musae.generators.autoregressive import IGNORE, inverted, logits_of, nats
from musae.generators.generator import Splice

STEPS, LATER_STEPS = 20, 10
"""Decoding steps of the first codebook, and of each other."""

TEMPERATURE, NUCLEUS = 3.0, 0.9
"""At a codebook's first step, falling to zero linearly; and the probability mass that tokens are drawn from."""

Change = Callable[[Tensor, int], Tensor]
"""Maps the stream at a layer to what goes on."""

KEPT = -1e4
"""Score of a span that is not to be masked again."""


class MAGNeT(Audiocraft):
    """MAGNeT at one decoding step. `generate` goes through all steps, by audiocraft's default schedule (the constants above)."""

    def __init__(self, checkpoint: Checkpoint, network: Any, sound: Any, **options: Any) -> None:
        super().__init__(checkpoint, network, sound, **options)
        model.delays(network, self.name, start=False)
        assert checkpoint.step is not None
        self.step: Step = checkpoint.step
        self.span = max(int(network.span_len), 1)

    @torch.inference_mode()
    def stream(self, codes: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
        """Residual stream at the decoding step ``[n, T, d]``, at each of `layers`; blocks above the highest are not run."""
        for layer in layers:
            checks.check_layer(layer, self.depth, self.name)
        codes, found = self.checked(codes), dict[int, Tensor]()

        def keep(x: Tensor, layer: int) -> Tensor:
            if layer in layers:
                found[layer] = x.float().cpu()
            return x

        stage = self.step.codebook - 1
        self._run(self._masked(codes, self.masks(codes)), stage, self.text, max(layers, default=0), keep)
        return found

    def masks(self, codes: Tensor) -> Tensor:
        """What is masked of the step's codebook, in each clip by itself ``[n, T]`` bool."""
        n, _, frames = codes.shape
        spans = math.ceil(frames / self.span)
        chosen = torch.zeros(n, spans, dtype=torch.bool)
        for clip, mask in zip(codes.contiguous(), chosen, strict=True):
            seed = int.from_bytes(hashlib.sha256(clip.numpy().tobytes()).digest()[:7], "little")
            order = torch.randperm(spans, generator=torch.Generator().manual_seed(seed))
            mask[order[: max(int(self.step.masked * spans), 1)]] = True
        return chosen.repeat_interleave(self.span, 1)[:, :frames]

    @torch.inference_mode()
    def visible(self, codes: Tensor) -> Tensor:
        """Codewords of the tokens that are not masked at each frame ``[n, T, K * e]``; zeros for those that are."""
        codes = self.checked(codes)
        hidden = self._masked(codes, self.masks(codes)) == self.words
        words = self.codec.codewords(codes).masked_fill(hidden[..., None], 0)
        return words.transpose(1, 2).flatten(2)

    @torch.inference_mode()
    def loss(self, codes: Tensor, layer: int | None = None, splice: Splice | None = None) -> Tensor:
        """Cross-entropy in nats per clip and codebook ``[n, K]``, mean over the tokens that the decoding step masks.

        The step predicts its own codebook: the loss of the others is 0.
        """
        checks.check_splice(layer, splice, self.depth, self.name)
        codes, stage = self.checked(codes), self.step.codebook - 1
        if not codes.shape[-1]:
            raise UserError("clips of 0 frames have no token to predict; give at least 1.")
        masks = self.masks(codes)
        stream = self._run(self._masked(codes, masks), stage, self.text, self.depth, _at(layer, splice))
        wanted = torch.where(masks, codes[:, stage], IGNORE).unsqueeze(1).to(stream.device)
        losses = torch.zeros(codes.shape[:2])
        losses[:, stage] = nats([self.heads[stage]], self.hidden(stream), wanted)[:, 0].cpu()
        return losses

    @torch.inference_mode()
    def generate(
        self, prompt: Tensor, frames: int, *, seed: int, layer: int | None = None, splice: Splice | None = None
    ) -> Tensor:
        """Continue codes ``[n, K, T0]`` -> ``[n, K, T0 + frames]`` by iterative decoding, beginning with the prompt.

        `splice` replaces the stream of all frames ``[n, T0 + frames, d]`` at the steps of the codebook that the generator is read
        at: other codebooks' streams are not what it was made for. The random numbers depend on the seed alone.
        """
        checks.check_splice(layer, splice, self.depth, self.name)
        prompt = self.checked(prompt)
        n, codebooks, given = prompt.shape
        codes = torch.full((n, codebooks, given + frames), self.words)
        codes[..., :given] = prompt
        draw = torch.Generator().manual_seed(seed)
        for stage in range(codebooks if frames else 0):
            spliced = _at(layer, splice) if stage == self.step.codebook - 1 else _at(None, None)
            self._decode(codes, stage, given, draw, spliced)
        return codes

    def _decode(self, codes: Tensor, stage: int, given: int, draw: torch.Generator, change: Change) -> None:
        """Fill a codebook of ``codes [n, K, T]``, of which `given` frames are known, in place."""
        n, _, frames = codes.shape
        spans, prompt = math.ceil(frames / self.span), codes[:, stage, :given].clone()
        scores = torch.zeros(n, spans)
        scores[:, : given // self.span] = KEPT
        steps = LATER_STEPS if stage else STEPS
        for index, time in enumerate(torch.linspace(0, 1, steps)):
            share = torch.cos(time * math.pi * 0.5)
            count = max(int(share * (spans - given // self.span)), 1)  # in float32, as audiocraft rounds it
            chosen = torch.zeros(n, spans, dtype=torch.bool).scatter(1, scores.topk(count, dim=-1).indices, True)
            tokens = codes[:, stage].masked_fill(chosen.repeat_interleave(self.span, 1)[:, :frames], self.words)
            tokens[:, :given] = prompt
            codes[:, stage] = tokens
            logits = self._logits(codes, stage, float(share), change)
            temperature = max(TEMPERATURE * (steps - 1 - index) / steps, 1e-2)
            probabilities = (logits / temperature).softmax(-1)
            drawn = inverted(_nucleus(probabilities), torch.rand(n, frames, generator=draw, dtype=torch.float64))
            codes[:, stage] = torch.where(tokens == self.words, drawn, tokens)
            certain = probabilities.gather(-1, drawn[..., None])[..., 0]
            padded = nn.functional.pad(certain, (0, spans * self.span - frames))
            scores = (1 - padded.view(n, spans, self.span).amax(-1)).masked_fill(~chosen, KEPT)

    def _logits(self, codes: Tensor, stage: int, share: float, change: Change) -> Tensor:
        """Logits of a codebook's tokens ``[n, T, V]``, under guidance that falls from its scale to 1 as `share` does to 0."""

        def under(text: Tensor | None) -> Tensor:
            hidden = self.hidden(self._run(codes, stage, text, self.depth, change))
            return logits_of([self.heads[stage]], hidden)[:, 0].cpu()

        logits = under(self.text)
        if self.guidance == 1:
            return logits
        without = under(self.no_text)
        return without + (logits - without) * (share * self.guidance + (1 - share))

    def _masked(self, codes: Tensor, masks: Tensor) -> Tensor:
        """What the step reads ``[n, K, T]``: the masking token (= the vocabulary's size) where nothing is known."""
        stage = self.step.codebook - 1
        read = codes.clone()
        read[:, stage].masked_fill_(masks, self.words)
        read[:, stage + 1 :] = self.words
        return read

    def _run(self, read: Tensor, stage: int, text: Tensor | None, depth: int, change: Change) -> Tensor:
        """The stream ``[n, T, d]`` after `depth` blocks; each layer's passes through ``change(stream, layer)``."""
        stream = change(model.embed(self.network, read.to(self.device)), 0)
        text = text.expand(len(read), -1, -1) if text is not None else None
        mask = None
        if stage and self.network.subcodes_context > -1:
            mask = self.network.restricted_context_attn_mask(read.shape[-1], device=stream.device, dtype=stream.dtype)
        for index in range(depth):
            stream = change(model.run_block(self.network, index, stream, text, mask=mask), index + 1)
        return stream


def _at(layer: int | None, splice: Splice | None) -> Change:
    """What replaces the stream at a layer, and hands on the others."""

    def change(x: Tensor, at: int) -> Tensor:
        return splice(x.float().cpu()).to(x) if splice is not None and at == layer else x

    return change


def _nucleus(probabilities: Tensor) -> Tensor:
    """Zero but for the likeliest tokens, up to the one that brings their mass to `NUCLEUS` ``[..., V]``; float64."""
    ranked, order = probabilities.double().sort(-1, descending=True)
    ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked > NUCLEUS, 0)
    return torch.zeros_like(ranked).scatter(-1, order, ranked)
