"""Conformance: what every method must satisfy, for this project's methods and for anyone's.

In a plug-in's own tests::

    from musae.testing import check_method
    from my_package.my_method import MyMethod

    def test_conformance():
        check_method(MyMethod)

`check_method` runs all checks and raises AssertionError with a sentence that says what is wrong; `method_checks` gives them one
by one, as `musae validate` runs them, and each is public too. Frames are made here: 24 columns, a few hundred rows, off-centre
and of unequal variance; for a dictionary that is fitted already, sums of its own atoms.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from musae import registry
from musae.card import MethodCard
from musae.conformance import Check, run
from musae.dictionary import Dictionary, FeatureSet, LabelledTensorFrames, SparseCode, TensorFrames, load
from musae.errors import UserError

COLUMNS = 24
CLIP = 8
"""Frames of a clip, for methods that look at several, and for dictionaries of context ``causal``."""
SMALL = {"width": 48, "k": 4, "seed": 3}
"""Hyper-parameters with which a class of dictionaries is tried."""


def check_method(method: type[FeatureSet] | FeatureSet) -> None:
    """All checks that apply to a method.

    A class is tried at a small size, an instance with its hyper-parameters, and a fitted dictionary as it is: frozen.
    """
    run(method_checks(method))


def method_checks(method: type[FeatureSet] | FeatureSet) -> list[Check]:
    """The checks of `check_method`, by name."""
    if isinstance(method, Dictionary) and method.tensors:
        return frozen_checks(method)
    if isinstance(method, FeatureSet):
        cls, config = type(method), method.config()
    else:
        cls, config = method, dict(SMALL) if issubclass(method, Dictionary) else {"columns": COLUMNS}
    if not issubclass(cls, Dictionary):
        return [Check("features depend on earlier rows only, and bad input is refused", lambda: check_feature_set(cls(**config)))]
    make = partial(cls, **config)
    frames = sample_frames()
    fitted = cache(lambda: check_fit(make(), frames))
    return [
        Check("the constructor stores its arguments", lambda: check_hyper_parameters(make())),
        Check("nothing is encoded or saved before fit", lambda: check_needs_fit(make())),
        Check("impossible sizes are refused", lambda: check_sizes(make)),
        Check("fit freezes", fitted, vital=True),
        Check("codes are sparse and sorted", lambda: check_code(fitted(), frames)),
        Check("frames are encoded independently", lambda: check_rows_independent(fitted(), frames)),
        Check("decode is linear", lambda: check_decode_linear(fitted(), frames)),
        Check("it explains its training frames", lambda: check_explains(fitted(), frames)),
        Check("bad input is refused", lambda: check_bad_input(fitted())),
        Check("one seed gives one dictionary", lambda: check_deterministic(make, frames)),
        Check("saving and loading change nothing", lambda: check_saved(fitted(), frames)),
    ]


def frozen_checks(dictionary: Dictionary) -> list[Check]:
    """The checks of a fitted dictionary, whatever it was fitted on: it is never fitted again."""
    x = frames_of(dictionary)
    return [
        Check("tensors are frozen", lambda: check_frozen(dictionary, x.shape[1]), vital=True),
        Check("codes are sparse and sorted", lambda: check_code(dictionary, x)),
        Check("frames are encoded independently", lambda: check_rows_independent(dictionary, x)),
        Check("decode is linear", lambda: check_decode_linear(dictionary, x)),
        Check("bad input is refused", lambda: check_bad_input(dictionary)),
        Check("saving and loading change nothing", lambda: check_saved(dictionary, x)),
    ]


def check_card(module: ModuleType) -> None:
    """The card of a method's module agrees with its class: name, role, kind of features."""
    card, method = module.CARD, module.METHOD
    is_class = isinstance(method, type) and issubclass(method, FeatureSet)
    assert is_class, f"{card.name}: METHOD must be a subclass of FeatureSet"
    assert method.name == card.name, f"{card.name}: the class is named {method.name!r}; give it name = CARD.name"
    learns, latents = issubclass(method, Dictionary), card.features == "latents"
    assert latents == learns, f"{card.name}: features are 'latents' for a Dictionary, and only for one, not {card.features!r}"
    baseline = card.role == "baseline"
    assert learns or baseline, f"{card.name}: what learns nothing is a baseline; its card's role is {card.role!r}"


def check_seed(module: ModuleType) -> None:
    """Another seed changes what is learnt exactly where the card says so; nothing to check where nothing is fitted."""
    card, method = module.CARD, module.METHOD
    if issubclass(method, Dictionary) and card.fitted:
        x = sample_frames()
        one, two = (method(**SMALL | {"seed": seed}).fit(source_of(x, card.name)).atoms for seed in (1, 2))
        differ = one.shape != two.shape or not torch.allclose(one, two, atol=1e-4)
        assert differ == card.seeded, f"{card.name}: another seed must change what is learnt exactly where the card says seeded"


def sample_frames(n: int = 600, columns: int = COLUMNS) -> Tensor:
    """Frames ``[n, columns]`` that are sums of a few directions, off-centre, of unequal variance."""
    generator = torch.Generator().manual_seed(20)
    atoms = torch.randn(2 * columns, columns, generator=generator)
    code = torch.rand(n, 2 * columns, generator=generator) * (torch.rand(n, 2 * columns, generator=generator) < 0.1)
    return code @ atoms + torch.linspace(-3, 5, columns) + 0.05 * torch.randn(n, columns, generator=generator)


def source_of(x: Tensor, method: str = "") -> TensorFrames:
    """Frames ``[n, d]`` as training frames: clips of `CLIP`, named ``sample``.

    For a registered `method` of role ``supervised`` they are labelled: by whether a column lies above its mean, by quarters of
    another, and some frames not at all.
    """
    if role_of(method) != "supervised":
        return TensorFrames(x, identity="sample", frames_per_clip=CLIP)
    quarters = (4 * x[:, 1].argsort().argsort() // len(x)).masked_fill(torch.arange(len(x)) % 7 == 0, -1)
    labels = {"above": (x[:, 0] > x[:, 0].mean()).long(), "quarter": quarters}
    return LabelledTensorFrames(x, labels, identity="sample", frames_per_clip=CLIP)


def role_of(method: str) -> str:
    """The role that the card of a registered method states; empty for one that is not registered."""
    entry = registry.entries("methods").get(method)
    return entry.card.role if entry and isinstance(entry.card, MethodCard) else ""


def frames_of(dictionary: Dictionary, n: int = 256) -> Tensor:
    """Frames ``[n, d]`` for a fitted dictionary: its bias, a few of its atoms with weights up to 10, a little noise."""
    generator = torch.Generator().manual_seed(20)
    width, d = dictionary.atoms.shape
    code = torch.zeros(n, width)
    chosen = torch.randint(width, (n, min(width, 4)), generator=generator)
    code.scatter_(1, chosen, 10 * torch.rand(chosen.shape, generator=generator))
    return dictionary.bias + code @ dictionary.atoms + 0.01 * torch.randn(n, d, generator=generator)


def check_hyper_parameters(dictionary: Dictionary) -> None:
    """The constructor stores its arguments verbatim under their names, has width, k and seed, and learns nothing."""
    name = dictionary.name
    arguments = inspect.signature(type(dictionary)).parameters
    for wanted in ("width", "k", "seed"):
        assert wanted in arguments, f"{name}: the constructor must take {wanted!r}"
    for argument, parameter in arguments.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert hasattr(dictionary, argument), f"{name}: the constructor must store its argument {argument!r} under that name"
        assert parameter.default is not parameter.empty, f"{name}: the argument {argument!r} needs a default"
    again = type(dictionary)(**dictionary.config())
    assert again.config() == dictionary.config(), f"{name}: the constructor must store its arguments unchanged"
    assert not dictionary.tensors, f"{name}: nothing may be learnt before fit"


def check_needs_fit(dictionary: Dictionary) -> None:
    """Before `fit`, encoding and saving raise UserError."""
    _must_raise(lambda: dictionary.encode(sample_frames(4)), f"{dictionary.name}: encode before fit must raise UserError")
    _must_raise(lambda: dictionary.save("/nowhere/x"), f"{dictionary.name}: save before fit must raise UserError")


def check_sizes(make: Callable[..., Dictionary]) -> None:
    """A k that is 0 or larger than the width is refused by `fit`."""
    width = make().width
    for k in (0, width + 1):
        dictionary = make(k=k)
        _must_raise(
            partial(dictionary.fit, source_of(sample_frames(), dictionary.name)), f"{dictionary.name}: fit must refuse k = {k}"
        )


def check_fit(dictionary: Dictionary, x: Tensor) -> Dictionary:
    """`fit` returns self, frozen: float32 tensors without gradients, says what it was fitted on, and leaves the frames alone."""
    name, before = dictionary.name, x.clone()
    fitted = dictionary.fit(source_of(x, name))
    assert fitted is dictionary, f"{name}: fit must return self"
    assert torch.equal(x, before), f"{name}: fit must not change the frames"
    check_frozen(dictionary, x.shape[1])
    assert dictionary.trained.get("store") == "sample", f"{name}: trained['store'] must be the source's identity"
    assert dictionary.trained.get("frames", 0) > 0, f"{name}: trained['frames'] must count the frames seen"
    return dictionary


def check_frozen(dictionary: Dictionary, columns: int) -> None:
    """Tensors are float32, finite and without gradients; atoms and bias have the frames' `columns`, width counts the atoms."""
    name = dictionary.name
    for key, tensor in dictionary.tensors.items():
        assert tensor.dtype == torch.float32, f"{name}: tensors[{key!r}] must be float32, not {tensor.dtype}"
        assert not tensor.requires_grad, f"{name}: tensors[{key!r}] must be frozen, it requires a gradient"
        assert bool(tensor.isfinite().all()), f"{name}: tensors[{key!r}] must be finite"
    atoms, d = dictionary.atoms, columns
    asked = dictionary.config()["width"]
    assert len(atoms) <= asked, f"{name}: {len(atoms)} atoms, more than the width asked for, {asked}"
    assert dictionary.width == len(atoms), (
        f"{name}: the fitted width is {dictionary.width}, not the number of atoms, {len(atoms)}"
    )
    assert dictionary.inputs == atoms.shape[1] == d, f"{name}: inputs and atoms must have the frames' {d} columns"
    assert dictionary.bias.shape == (d,), f"{name}: bias must be [{d}], not {list(dictionary.bias.shape)}"


def check_code(dictionary: Dictionary, x: Tensor) -> None:
    """A code has a row a frame, at most k latents a row (budget ``frame``), ascending indices in range, and no stored zero."""
    name, code = dictionary.name, dictionary.encode(shaped(dictionary, x))
    assert isinstance(code, SparseCode), f"{name}: encode must return a SparseCode"
    assert code.rows == len(x), f"{name}: {len(x)} frames gave a code of {code.rows} rows"
    assert code.width == len(dictionary.atoms), f"{name}: the code's width {code.width} is not the number of atoms"
    counts = code.offsets.diff()
    ends = [int(code.offsets[0]), int(code.offsets[-1]), len(code.indices)]
    assert ends == [0, len(code.values), len(code.values)], f"{name}: the code's offsets do not span its values"
    if dictionary.budget == "frame":
        assert int(counts.max()) <= dictionary.k, f"{name}: a frame has {int(counts.max())} latents, more than k = {dictionary.k}"
    assert bool((code.values != 0).all()), f"{name}: a zero is stored"
    rows = torch.arange(code.rows).repeat_interleave(counts)
    flat = rows * code.width + code.indices
    assert bool(((code.indices >= 0) & (code.indices < code.width)).all()), f"{name}: an index is out of range"
    assert bool((flat.diff() > 0).all()), f"{name}: indices must ascend within a row"
    assert dictionary.encode(shaped(dictionary, x[:0])).rows == 0, f"{name}: no frames must give an empty code"


def check_rows_independent(dictionary: Dictionary, x: Tensor) -> None:
    """A frame's code does not depend on its neighbours (context ``frame``), or on later frames and other clips (``causal``).

    Up to rounding.
    """
    together = _dense(dictionary, x[:32])
    if dictionary.context == "frame":
        alone = torch.cat([_dense(dictionary, row) for row in x[:32].unsqueeze(1)])
        message = f"{dictionary.name}: a frame's code changes with its neighbours"
    else:
        clips, early = x[:32].reshape(-1, CLIP, x.shape[1]), CLIP // 2
        alone = torch.cat([dictionary.encode(clip[None, :early]).dense() for clip in clips])
        together = together.view(-1, CLIP, together.shape[1])[:, :early].flatten(0, 1)
        message = f"{dictionary.name}: a frame's code changes with later frames, or with other clips"
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4 * float(together.abs().max())), message


def check_decode_linear(dictionary: Dictionary, x: Tensor) -> None:
    """`decode` is ``code @ atoms + bias``."""
    code = dictionary.encode(shaped(dictionary, x))
    expected = code.dense().double() @ dictionary.atoms.double() + dictionary.bias.double()
    decoded = dictionary.decode(code)
    message = f"{dictionary.name}: decode must be code @ atoms + bias"
    assert decoded.shape == x.shape, f"{dictionary.name}: decode gave {list(decoded.shape)} for frames {list(x.shape)}"
    assert torch.allclose(decoded.double(), expected, atol=1e-4 * float(expected.abs().max())), message


def check_explains(dictionary: Dictionary, x: Tensor) -> None:
    """On the frames that it was fitted on, the reconstruction beats their mean (FVU below 1).

    Not asked of controls: what a control breaks on purpose may be its decoder.
    """
    if role_of(dictionary.name) == "control":
        return
    left = dictionary.decode(dictionary.encode(shaped(dictionary, x))) - x
    fvu = float(left.square().sum() / (x - x.mean(0)).square().sum())
    assert fvu < 1, f"{dictionary.name}: FVU {fvu:.3f} on its own training frames; the mean alone gives 1"


def check_bad_input(features: FeatureSet) -> None:
    """Another number of columns or axes, and NaN, raise UserError."""
    lead = (3,) if features.context == "frame" else (3, 5)
    good = torch.zeros(*lead, features.inputs)
    bad = good.clone()
    bad.view(-1)[7] = float("nan")
    for what, x in (("other columns", torch.zeros(*lead, features.inputs + 1)), ("another axis", good[0]), ("NaN", bad)):
        _must_raise(partial(features.encode, x), f"{features.name}: encode must refuse {what}")


def check_deterministic(make: Callable[..., Dictionary], x: Tensor) -> None:
    """The same seed gives the same dictionary, bit for bit."""
    first, second = (make().fit(source_of(x, make().name)) for _ in range(2))
    assert first.content_hash == second.content_hash, f"{first.name}: two fits with one seed differ"


def check_saved(dictionary: Dictionary, x: Tensor) -> None:
    """Saving and loading changes nothing; damage and a missing file are noticed. The method must be in the registry."""
    name = dictionary.name
    with tempfile.TemporaryDirectory() as folder:
        path = dictionary.save(Path(folder) / "saved.safetensors")
        again = load(path)
        assert type(again) is type(dictionary), f"{name}: load gave a {type(again).__name__}; is METHOD the class?"
        assert again.config() == dictionary.config(), f"{name}: hyper-parameters changed by saving"
        assert again.content_hash == dictionary.content_hash, f"{name}: the content hash changed by saving"
        assert again.trained == dictionary.trained, f"{name}: what it was trained on changed by saving"
        assert torch.equal(_dense(again, x), _dense(dictionary, x)), f"{name}: codes changed by saving"
        data = bytearray(path.read_bytes())
        data[-5] ^= 0xFF
        path.write_bytes(data)
        _must_raise(lambda: load(path), f"{name}: load must notice a damaged file")
        _must_raise(lambda: load(Path(folder) / "missing"), f"{name}: load must say that a file is missing")


def check_feature_set(features: FeatureSet) -> None:
    """A feature set that is not fitted: shapes, finite values, no look at later rows, refusal of bad input, a stable hash."""
    name = features.name
    generator = torch.Generator().manual_seed(20)
    lead = (64,) if features.context == "frame" else (4, 40)
    x = torch.randn(*lead, features.inputs, generator=generator)
    y = _rows(features.encode(x))
    assert y.shape == (x[..., 0].numel(), features.width), f"{name}: {list(x.shape)} gave {list(y.shape)}, width {features.width}"
    assert bool(y.isfinite().all()), f"{name}: features must be finite"
    changed = x.clone()
    changed[..., -5:, :] += 1
    same = (y == _rows(features.encode(changed))).view(*lead, -1)[..., :-5, :]
    assert bool(same.all()), f"{name}: a row's features depend on later rows, or on other clips"
    twin = type(features)(**features.config())
    assert twin.content_hash == features.content_hash, f"{name}: two equal feature sets have different hashes"
    check_bad_input(features)


def shaped(features: FeatureSet, x: Tensor) -> Tensor:
    """Frames ``[n, d]`` as `FeatureSet.encode` wants them: of context ``causal``, as clips of `CLIP`."""
    return x if features.context == "frame" else x.reshape(len(x) // CLIP, CLIP, x.shape[1])


def _dense(features: FeatureSet, x: Tensor) -> Tensor:
    return _rows(features.encode(shaped(features, x)))


def _rows(code: SparseCode | Tensor) -> Tensor:
    return code.dense() if isinstance(code, SparseCode) else code


def _must_raise(act: Callable[[], object], message: str) -> None:
    """Run `act`; raise AssertionError with `message` unless it raises UserError."""
    try:
        act()
    except UserError:
        return
    except Exception as error:
        raise AssertionError(f"{message}, not {type(error).__name__}: {error}") from error
    raise AssertionError(message)
