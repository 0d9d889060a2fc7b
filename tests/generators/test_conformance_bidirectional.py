"""The contract fits generators that are not autoregressive: a small diffusion transformer keeps it; wrong ones are noticed."""

import hashlib
from types import SimpleNamespace

import pytest
import torch

from musae.card import GeneratorCard
from musae.errors import UserError
from musae.testing_generators import check_generator

LEVELS, SIGMA = 1024, 0.5
"""Values that a latent's channel takes as a code, from -4 to 4, and the noise level that the stream is read at."""

CARD = GeneratorCard(
    name="toy-diffusion",
    summary="for tests, at noise 0.5",
    licence="CC0-1.0",
    rate=800,
    frame_rate=20.0,
    codebooks=2,
    width=6,
    layers=2,
    reading="bidirectional",
)


class Diffusion:
    """Two blocks that mix all frames denoise a latent of two channels, the loudness of a frame and of its differences."""

    card = CARD
    revision = "0123456789"

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.read, self.write = torch.randn(2, 6, generator=draw), torch.randn(6, 2, generator=draw) / 6
        self.mix = torch.randn(2, 6, 6, generator=draw) / 3

    def latents(self, codes):
        if codes.shape[1] != 2 or int(codes.min()) < 0 or int(codes.max()) >= LEVELS:
            raise UserError("codes do not fit; encode with this generator.")
        return (codes / (LEVELS - 1) * 8 - 4).transpose(1, 2)

    def codes(self, latents):
        return ((latents.clamp(-4, 4) + 4) / 8 * (LEVELS - 1)).round().long().transpose(1, 2)

    def encode(self, audio):
        frames = audio[:, : audio.shape[1] // 40 * 40].view(len(audio), -1, 40)
        return self.codes(torch.stack([f.abs().mean(2).log() for f in (frames, frames.diff(dim=2))], 2))

    def decode(self, codes):
        return self.latents(codes)[..., 0].exp().repeat_interleave(40, 1)

    def times(self, frames):
        return (torch.arange(frames) + 1) / 20

    def noise(self, codes):
        """Of each clip by its own codes."""
        seeds = [int.from_bytes(hashlib.sha256(c.contiguous().numpy().tobytes()).digest()[:7]) for c in codes]
        draws = [torch.randn(codes.shape[2], 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(draws)

    def visible(self, codes):
        return self.latents(codes) + SIGMA * self.noise(codes)

    def blocks(self, noisy, layer=None, splice=None, kept=None):
        x = noisy @ self.read
        for index in range(3):
            if index:
                attention = (x @ x.transpose(1, 2) / 6).softmax(-1)
                x = x + torch.tanh(attention @ x @ self.mix[index - 1])
            x = splice(x) if index == layer and splice is not None else x
            if kept is not None:
                kept[index] = x
        return x @ self.write

    def stream(self, codes, layers):
        kept = {}
        self.blocks(self.visible(codes), kept=kept)
        if set(layers) - set(kept):
            raise UserError(f"layers {layers} do not exist; there are 0 to 2.")
        return {layer: kept[layer] for layer in layers}

    def loss(self, codes, layer=None, splice=None):
        """The variational bound's term at this noise, in nats: half the squared error of the latent over the noise's variance."""
        error = self.blocks(self.visible(codes), layer, splice) - self.latents(codes)
        return (error**2).mean(1) / (2 * SIGMA**2)

    def generate(self, prompt, frames, *, seed, layer=None, splice=None):
        known, draw = self.latents(prompt) if prompt.shape[2] else torch.zeros(len(prompt), 0, 2), torch.Generator()
        latents = 2 * torch.randn(len(prompt), prompt.shape[2] + frames, 2, generator=draw.manual_seed(seed))
        for sigma in (2.0, 1.0, SIGMA, 0.25):
            latents[:, : prompt.shape[2]] = known
            at = (layer, splice) if sigma == SIGMA else (None, None)
            latents = latents + (self.blocks(latents, *at) - latents) / 2
        return torch.cat([prompt, self.codes(latents)[..., prompt.shape[2] :]], 2)


def module(generator=Diffusion, card=CARD):
    return SimpleNamespace(CARD=card, load=generator)


def test_a_diffusion_transformer_keeps_the_contract():
    check_generator(module())


def test_a_splice_reaches_the_steps_that_it_is_made_for():
    toy, prompt = Diffusion(), torch.full((1, 2, 4), 500)
    plain = toy.generate(prompt, 5, seed=0)
    assert not torch.equal(plain, toy.generate(prompt, 5, seed=0, layer=1, splice=lambda x: 9 * x))


class Restless(Diffusion):
    """Its noise is drawn anew each time."""

    def noise(self, codes):
        return torch.randn(len(codes), codes.shape[2], 2)


class Crowded(Diffusion):
    """Its noise depends on the batch."""

    def noise(self, codes):
        return super().noise(codes[:1]).expand(len(codes), -1, -1)


class Local(Diffusion):
    """Its rows see nothing but their own frame, and its noise is that of the position."""

    def noise(self, codes):
        return torch.randn(64, 2, generator=torch.Generator().manual_seed(0))[: codes.shape[2]].expand(len(codes), -1, -1)

    def blocks(self, noisy, layer=None, splice=None, kept=None):
        if kept is None:
            return super().blocks(noisy, layer, splice)
        alone = [{} for _ in range(noisy.shape[1])]
        for frame, found in enumerate(alone):
            super().blocks(noisy[:, [frame]], kept=found)
        kept.update({n: torch.cat([found[n] for found in alone], 1) for n in range(3)})
        return None


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Restless, "depends on which layers are asked for|another stream the second time"),
        (Crowded, "depends on the clips beside it"),
        (Local, "no row depends on later frames; say causal"),
    ],
)
def test_a_wrong_one_is_noticed(broken, says):
    with pytest.raises(AssertionError, match=says):
        check_generator(module(broken))


def test_it_must_not_be_called_causal():
    card = CARD.model_copy(update={"reading": "causal"})
    causal = type("Causal", (Diffusion,), {"card": card})
    with pytest.raises(AssertionError, match="a row depends on later frames"):
        check_generator(module(causal, card))
