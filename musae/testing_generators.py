"""Conformance suite of a generator (`musae.generators.generator.Generator`), for third parties too::

    from musae.testing_generators import check_generator
    from my_package import my_generator

    def test_conformance():
        check_generator(my_generator)

`check_generator` takes a module with ``CARD`` and ``load()``, runs all checks and raises AssertionError with a sentence that says
what is wrong; `generator_checks` gives them one by one. What is heard is made here: two clips of `SECONDS`, tones in noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from musae.card import GeneratorCard
from musae.conformance import Check, run
from musae.errors import UserError
from musae.generators.generator import Generator

SECONDS = 1.2
"""Length of the clips that are tried."""

CONTINUED = 6
"""Frames that are generated, and of the prompt."""

CLOSE = 1e-3
"""Largest difference that counts as rounding, relative to the largest magnitude: float32 through all blocks."""


def check_generator(module: ModuleType) -> None:
    """Raise AssertionError, naming what is wrong, unless a generator keeps its contract.

    Codes, streams, read-outs and losses have the shapes that the card says; clips do not see one another, and row f of a stream
    nothing after frame f (unless the card says that it is bidirectional); a splice is given the stream, and one that returns what
    it was given changes nothing; what is generated begins with the prompt and depends on the seed alone.
    """
    run(generator_checks(module))


def generator_checks(module: ModuleType) -> list[Check]:
    """The checks of `check_generator`, by name."""
    card = cast(GeneratorCard, module.CARD)
    loaded = cache(lambda: cast(Generator, module.load()))
    codes = cache(lambda: loaded().encode(sample_audio(card)))
    if card.reading == "causal":
        reading = Check("a row sees no later frame", lambda: _check_prefix(card, loaded(), codes()))
    else:
        reading = Check("rows see their whole clip", lambda: _check_whole(card, loaded(), codes()))
    return [
        Check("it loads, and its card is the module's", lambda: _check_load(card, loaded()), vital=True),
        Check("loaded again, it has the same revision", lambda: _check_again(card, loaded(), cast(Generator, module.load()))),
        Check("audio is encoded clip by clip", lambda: _check_encode(card, loaded()), vital=True),
        Check("codes are decoded", lambda: _check_decode(card, loaded(), codes())),
        Check("times ascend at the frame rate", lambda: _check_times(card, loaded())),
        Check("streams of the layers asked for", lambda: _check_stream(card, loaded(), codes()), vital=True),
        reading,
        Check("visible tokens", lambda: _check_visible(card, loaded(), codes())),
        Check("a splice is given the stream", lambda: _check_splice(card, loaded(), codes())),
        Check("loss, with and without a splice", lambda: _check_loss(card, loaded(), codes())),
        Check("what is generated depends on the seed alone", lambda: _check_generate(card, loaded(), codes())),
        Check("bad input is refused", lambda: _check_bad_input(card, loaded(), codes())),
    ]


def sample_audio(card: GeneratorCard) -> Tensor:
    """Two clips of tones in noise ``[2, samples]`` within -1 and 1, a sample longer than whole frames."""
    samples = int(SECONDS * card.rate) + 1
    t = torch.arange(samples) / card.rate
    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(20))
    steps = torch.floor(t * 5)  # five tones a second
    tones = torch.stack([torch.sin(2 * math.pi * f * 2 ** (steps * n % 12 / 12) * t) for f, n in ((220, 7), (330, 5))])
    return 0.4 * tones + 0.05 * noise.clamp(-3, 3)


def _check_load(card: GeneratorCard, generator: Generator) -> None:
    assert generator.card == card, f"{card.name}: load() gives a generator whose card is not the module's CARD"
    revision = generator.revision
    is_digest = isinstance(revision, str) and re.fullmatch("[0-9a-f]{10}", revision)
    assert is_digest, f"{card.name}: the revision must be ten hex digits, not {revision!r}"
    assert generator.revision == revision, f"{card.name}: the revision changes from one look to the next"


def _check_again(card: GeneratorCard, first: Generator, second: Generator) -> None:
    assert first.revision == second.revision, f"{card.name}: two loads have different revisions"


def _check_encode(card: GeneratorCard, generator: Generator) -> None:
    audio = sample_audio(card)
    codes = generator.encode(audio)
    frames = math.floor(audio.shape[1] / card.rate * card.frame_rate + 1e-9)
    _check_tensor(f"{card.name}: encode", codes, (2, card.codebooks, frames), torch.int64)
    assert int(codes.min()) >= 0, f"{card.name}: encode gave a negative code"
    assert torch.equal(codes, generator.encode(audio)), f"{card.name}: the same audio is encoded otherwise the second time"
    alone = torch.cat([generator.encode(clip) for clip in audio.unsqueeze(1)])
    assert torch.equal(codes, alone), f"{card.name}: a clip is encoded otherwise beside another"


def _check_decode(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    samples = round(codes.shape[2] / card.frame_rate * card.rate)
    _check_tensor(f"{card.name}: decode", generator.decode(codes), (2, samples), torch.float32)


def _check_times(card: GeneratorCard, generator: Generator) -> None:
    times = generator.times(9).double()
    assert times.shape == (9,), f"{card.name}: times(9) has shape {list(times.shape)}, not [9]"
    steps = times.diff()
    assert bool((steps > 0).all()), f"{card.name}: times must ascend"
    even = torch.allclose(steps, torch.full_like(steps, 1 / card.frame_rate), rtol=1e-3)
    assert even, f"{card.name}: rows are {float(steps.mean()):.4g} s apart, and the card's frame rate is {card.frame_rate} Hz"
    assert float(times[0]) > 0, f"{card.name}: the first row's time is {float(times[0])} s; a frame ends after it begins"
    assert torch.equal(generator.times(4).double(), times[:4]), f"{card.name}: a row's time depends on how many are asked for"


def _layers(card: GeneratorCard) -> tuple[int, ...]:
    """The first, a middle and the last layer."""
    return tuple(sorted({0, (card.layers + 1) // 2, card.layers}))


def _check_stream(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    layers, shape = _layers(card), (codes.shape[0], codes.shape[2], card.width)
    streams = generator.stream(codes, layers)
    assert set(streams) == set(layers), f"{card.name}: stream gave layers {sorted(streams)}, asked for {list(layers)}"
    for layer, x in streams.items():
        where = f"{card.name}: the stream at layer {layer}"
        _check_tensor(where, x, shape, torch.float32)
        _check_close(f"{where} depends on which layers are asked for", generator.stream(codes, (layer,))[layer], x)
        alone = torch.cat([generator.stream(clip, (layer,))[layer] for clip in codes.unsqueeze(1)])
        _check_close(f"{where} depends on the clips beside it", alone, x)
    if card.layers:
        differ = not torch.allclose(streams[0], streams[card.layers])
        assert differ, f"{card.name}: the last layer's stream is the first's"


def _check_prefix(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    frame = codes.shape[2] // 2
    changed = codes.clone()
    changed[..., frame:] = changed[..., frame:].flip(2).roll(1, 0)
    read = codes.clone()
    read[:, 0, frame:] = changed[:, 0, frame:]
    for layer in _layers(card):
        x = generator.stream(codes, (layer,))[layer]
        where = f"{card.name}: at layer {layer}, a row depends on"
        _check_close(f"{where} later frames", generator.stream(changed, (layer,))[layer][:, :frame], x[:, :frame])
        _check_close(f"{where} how long its clip is", generator.stream(codes[..., :frame], (layer,))[layer], x[:, :frame])
        if not torch.equal(read[:, 0, frame], codes[:, 0, frame]):
            unread = torch.allclose(generator.stream(read, (layer,))[layer][:, frame], x[:, frame])
            assert not unread, f"{card.name}: at layer {layer}, row f does not depend on codebook 1 of frame f"


def _check_whole(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    """A bidirectional generator: what the step hides is fixed, and rows see later frames."""
    frame, layer = codes.shape[2] // 2, card.layers
    changed = codes.clone()
    changed[..., frame:] = changed[..., frame:].flip(2).roll(1, 0)
    for at in _layers(card):
        again = torch.equal(generator.stream(codes, (at,))[at], generator.stream(codes, (at,))[at])
        assert again, f"{card.name}: at layer {at}, the same codes have another stream the second time"
    before, after = (generator.stream(c, (layer,))[layer][:, :frame] for c in (codes, changed))
    assert not torch.allclose(before, after), (
        f"{card.name}: the card says bidirectional, and at layer {layer} no row depends on later frames; say causal"
    )


def _check_visible(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    shown = generator.visible(codes)
    ok = shown.ndim == 3 and shown.shape[2] % card.codebooks == 0 and shown.shape[2] > 0
    assert ok, f"{card.name}: visible gave shape {list(shown.shape)}; the last axis holds a codeword for each of the codebooks"
    _check_tensor(f"{card.name}: visible", shown, (codes.shape[0], codes.shape[2], shown.shape[2]), torch.float32)
    if card.reading == "causal":
        frame = codes.shape[2] // 2
        _check_close(f"{card.name}: visible shows later frames", generator.visible(codes[..., :frame]), shown[:, :frame])
    else:
        alone = torch.cat([generator.visible(clip) for clip in codes.unsqueeze(1)])
        _check_close(f"{card.name}: what is visible of a clip depends on those beside it", alone, shown)


def _check_splice(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    for layer in _layers(card):
        seen: list[Tensor] = []

        def keep(x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x.clone())
            return x

        generator.loss(codes, layer, keep)
        assert len(seen) == 1, f"{card.name}: loss called the splice at layer {layer} {len(seen)} times, not once"
        where = f"{card.name}: what the splice at layer {layer} is given"
        x = generator.stream(codes, (layer,))[layer]
        _check_tensor(where, seen[0], tuple(x.shape), torch.float32)
        _check_close(f"{where} is not the stream", seen[0], x)


def _check_loss(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    plain = generator.loss(codes)
    _check_tensor(f"{card.name}: loss", plain, (codes.shape[0], card.codebooks), plain.dtype)
    assert bool((plain >= 0).all()), f"{card.name}: a cross-entropy is negative"
    _check_close(f"{card.name}: the loss of a clip depends on those beside it", generator.loss(codes[1:]), plain[1:])
    for layer in _layers(card):
        same = generator.loss(codes, layer, lambda x: x)
        _check_close(f"{card.name}: a splice at layer {layer} that returns what it is given changes the loss", same, plain)
        without = generator.loss(codes, layer, torch.zeros_like)
        assert not torch.allclose(without, plain), f"{card.name}: a splice of zeros at layer {layer} does not change the loss"


def _check_generate(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    prompt = codes[..., :CONTINUED]
    made = generator.generate(prompt, CONTINUED, seed=1)
    _check_tensor(f"{card.name}: generate", made, (codes.shape[0], card.codebooks, 2 * CONTINUED), torch.int64)
    assert torch.equal(made[..., :CONTINUED], prompt), f"{card.name}: what is generated does not begin with the prompt"
    again = generator.generate(prompt, CONTINUED, seed=1)
    assert torch.equal(made, again), f"{card.name}: the same seed gives another continuation the second time"
    other = generator.generate(prompt, CONTINUED, seed=2)
    assert not torch.equal(made, other), f"{card.name}: another seed gives the same continuation"
    layer = card.layers // 2
    spliced = generator.generate(prompt, CONTINUED, seed=1, layer=layer, splice=lambda x: x)
    assert torch.equal(made, spliced), f"{card.name}: a splice that returns what it is given changes the continuation"
    generator.decode(made)


def _check_bad_input(card: GeneratorCard, generator: Generator, codes: Tensor) -> None:
    cases: dict[str, Callable[[], object]] = {
        "a layer that is not there": lambda: generator.stream(codes, (card.layers + 1,)),
        "codes with another number of codebooks": lambda: generator.stream(codes.repeat(1, 2, 1), (0,)),
        "codes outside the vocabulary": lambda: generator.stream(codes - 1 - int(codes.max()), (0,)),
    }
    for what, act in cases.items():
        try:
            act()
        except UserError:
            continue
        except Exception as error:
            raise AssertionError(f"{card.name}: {what} must raise UserError, not {type(error).__name__}: {error}") from error
        raise AssertionError(f"{card.name}: {what} must raise UserError")


def _check_tensor(where: str, x: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = f"{where}: {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
    assert x.shape == shape, f"{found}, where the shape {list(shape)} is due"
    assert x.dtype == dtype, f"{found}, where {str(dtype).removeprefix('torch.')} is due"
    assert bool(x.isfinite().all()), f"{where}: NaN or an infinity"


def _check_close(problem: str, got: Tensor, expected: Tensor) -> None:
    """Raise AssertionError unless the two agree to rounding."""
    assert got.shape == expected.shape, f"{problem}: shape {list(got.shape)}, not {list(expected.shape)}"
    scale = float(expected.abs().max())
    error = float((got - expected).abs().max())
    assert error <= CLOSE * max(scale, 1e-6), f"{problem}: by {error:.3g}, at a scale of {scale:.3g}"
