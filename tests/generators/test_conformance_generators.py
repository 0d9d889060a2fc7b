"""Every generator keeps the contract, and the suite that says so can fail."""

from types import SimpleNamespace

import pytest
import torch

from musae import registry
from musae.card import GeneratorCard
from musae.errors import UserError
from musae.testing_generators import check_generator, generator_checks


@pytest.mark.parametrize("name", [n for n, e in registry.entries("generators").items() if "/" not in n and not e.card.argument])
def test_generator(name):
    """A few seconds: it is loaded twice (transformers is imported) and generates a few frames."""
    check_generator(registry.load("generators", name))


CARD = GeneratorCard(
    name="toy", summary="for tests", licence="CC0-1.0", rate=800, frame_rate=20.0, codebooks=2, width=6, layers=2
)
WORDS = 8


class Toy:
    """A causal moving average of random embeddings; two "blocks" that scale and shift; keeps the contract."""

    card = CARD
    revision = "0123456789"

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.embeddings = torch.randn(2, WORDS, 6, generator=draw)
        self.heads = torch.randn(2, 6, WORDS, generator=draw)

    def encode(self, audio):
        frames = audio.shape[1] // 40
        loud = audio[:, : frames * 40].view(len(audio), frames, 40).abs().mean(2)
        return torch.stack([(loud * f).long() % WORDS for f in (37, 211)], 1)

    def decode(self, codes):
        return (codes.float().mean(1) / WORDS).repeat_interleave(40, 1)

    def times(self, frames):
        return (torch.arange(frames) + 1) / 20

    def blocks(self, x, layer=None, splice=None, kept=None):
        for index in range(3):
            x = torch.tanh(1.5 * x + 0.1 * index) + x if index else x
            if index == layer and splice is not None:
                x = splice(x)
            if kept is not None:
                kept[index] = x
        return x

    def embed(self, codes):
        if codes.shape[1] != 2 or int(codes.min()) < 0 or int(codes.max()) >= WORDS:
            raise UserError("codes do not fit; encode with this generator.")
        x = self.embeddings[0][codes[:, 0]]
        x[:, 1:] += self.embeddings[1][codes[:, 1, :-1]]
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[None, :, None]

    def stream(self, codes, layers):
        kept = {}
        self.blocks(self.embed(codes), kept=kept)
        if set(layers) - set(kept):
            raise UserError(f"layers {layers} do not exist; there are 0 to 2.")
        return {layer: kept[layer] for layer in layers}

    def visible(self, codes):
        shown = torch.zeros(len(codes), codes.shape[2], 2, 6)
        shown[:, :, 0] = self.embeddings[0][codes[:, 0]]
        shown[:, 1:, 1] = self.embeddings[1][codes[:, 1, :-1]]
        return shown.flatten(2)

    def logits(self, codes, layer, splice):
        return torch.einsum("ntd,kdw->nktw", self.blocks(self.embed(codes), layer, splice), self.heads)

    def loss(self, codes, layer=None, splice=None):
        scores = self.logits(codes, layer, splice)[:, :, :-1].log_softmax(-1)
        return -scores.gather(3, codes[..., 1:, None])[..., 0].mean(2)

    def generate(self, prompt, frames, *, seed, layer=None, splice=None):
        draw = torch.Generator().manual_seed(seed)
        for _ in range(frames):
            p = self.logits(prompt, layer, splice)[:, :, -1].softmax(-1)
            drawn = torch.multinomial(p.flatten(0, 1), 1, generator=draw).view(-1, 2, 1)
            prompt = torch.cat([prompt, drawn], 2)
        return prompt


def module(generator=Toy):
    return SimpleNamespace(CARD=CARD, load=generator)


def test_the_toy_keeps_the_contract():
    check_generator(module())
    assert all(not check.problem() for check in generator_checks(module()))


def changed(method, change):
    """A toy, one method of which goes through `change(toy, result, *arguments)`."""

    def altered(self, *arguments, **options):
        return change(self, getattr(Toy, method)(self, *arguments, **options), *arguments)

    return type("Changed", (Toy,), {method: altered})


class AfterNorm(Toy):
    """Its last layer's stream is handed out after a norm that the splice is not given."""

    def stream(self, codes, layers):
        return {n: x / x.norm(dim=-1, keepdim=True) if n == 2 else x for n, x in super().stream(codes, layers).items()}


class Deaf(Toy):
    """Splices are ignored."""

    def blocks(self, x, layer=None, splice=None, kept=None):
        if splice is not None:
            kept_too = {}
            super().blocks(x, kept=kept_too)
            splice(kept_too[layer])
        return super().blocks(x, kept=kept)


class Forgetful(Toy):
    """Ignores codebook 1 of the newest frame."""

    def embed(self, codes):
        return super().embed(codes).roll(1, 1)


class Drifting(Toy):
    def __init__(self):
        super().__init__()
        self.revision = f"{id(self) % 10**10:010d}"


class Unseeded(Toy):
    def generate(self, prompt, frames, *, seed, layer=None, splice=None):
        return super().generate(prompt, frames, seed=0, layer=layer, splice=splice)


class Careless(Toy):
    def stream(self, codes, layers):
        return super().stream(codes.clamp(0, WORDS - 1)[:, :2], [min(layer, 2) for layer in layers])


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Drifting, "two loads have different revisions"),
        (changed("encode", lambda toy, codes, audio: codes.int()), "int32 .* int64 is due"),
        (changed("encode", lambda toy, codes, audio: codes[..., 1:]), "where the shape"),
        (changed("encode", lambda toy, codes, audio: (codes + len(codes)) % WORDS), "otherwise beside another"),
        (changed("decode", lambda toy, audio, codes: audio[:, 1:]), "decode: .* where the shape"),
        (changed("times", lambda toy, times, frames: times * 2), r"0\.1 s apart, and the card's frame rate is 20\.0 Hz"),
        (changed("times", lambda toy, times, frames: times - 1 / 20), "ends after it begins"),
        (changed("stream", lambda toy, x, *_: {n: y.double() for n, y in x.items()}), "float64"),
        (changed("stream", lambda toy, x, *_: {n: y - y.mean(0) for n, y in x.items()}), "depends on the clips beside it"),
        (changed("embed", lambda toy, x, codes: x + x.mean(1, keepdim=True)), "depends on later frames"),
        (changed("embed", lambda toy, x, codes: x * x.shape[1]), "depends on how long"),
        (Forgetful, "depends on|does not depend on codebook 1"),
        (changed("visible", lambda toy, x, codes: x.flip(1)), "shows later frames"),
        (changed("visible", lambda toy, x, codes: x[..., 1:]), "a codeword for each"),
        (AfterNorm, "splice at layer 2 is given is not the stream"),
        (Deaf, "zeros at layer 0 does not change the loss"),
        (changed("loss", lambda toy, loss, *_: loss.mean(1)), "loss: .* where the shape"),
        (changed("loss", lambda toy, loss, codes, *splice: loss + len(splice)), "changes the loss"),
        (changed("generate", lambda toy, codes, prompt, frames: codes.flip(2)), "begin with the prompt"),
        (Unseeded, "another seed gives the same"),
        (Careless, "a layer that is not there must raise UserError"),
    ],
)
def test_a_wrong_generator_is_noticed(broken, says):
    with pytest.raises(AssertionError, match=says):
        check_generator(module(broken))
