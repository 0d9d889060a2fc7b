"""The compiled CPU path: what its screen certifies and reruns, its sums and its updates."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from musae.errors import UserError
from musae.kernels import dispatch, portable
from musae.kernels.cpu import extension, path
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import reference, topk_encode

compiled = pytest.mark.skipif(not extension.available(), reason=f"no compiled kernels: {extension.status()[1]}")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def exact(x: Tensor, W: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return reference(x.double(), W.double(), b.double(), k)


SHAPES = {
    "one frame": (1, 7, 40, 3),
    "few frames": (15, 100, 300, 9),
    "a group": (16, 64, 512, 4),
    "odd": (61, 67, 333, 5),
    "one dimension": (33, 1, 70, 2),
    "bytes, ragged": (250, 131, 1000, 17),
    "one latent": (20, 70, 1, 1),
    "k is 1": (40, 96, 640, 1),
    "k is width": (30, 72, 90, 90),
    "many": (2400, 64, 96, 3),
    "k is large": (24, 64, 9000, 4100),
}


@compiled
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_integers_give_the_reference_bit_for_bit(shape: tuple[int, int, int, int]) -> None:
    """Values of few different integers: almost every frame has ties at its boundary."""
    n, d, width, k = shape
    x, W, b = integers(n, d), integers(width, d, seed=1), integers(width, seed=2)
    x[n // 2] = 0
    for got, want in zip(path.topk(x, W, b, k), exact(x, W, b, k), strict=True):
        assert torch.equal(got, want.to(got.dtype))


@compiled
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_real_values_are_within_the_stated_bound(shape: tuple[int, int, int, int]) -> None:
    """Each value, and the distance of a chosen latent to the true k-th, is within the rounding that path.py states."""
    n, d, width, k = shape
    x, W, b = normal(n, d), normal(width, d, seed=1), normal(width, seed=2)
    values, indices = path.topk(x, W, b, k)
    h = torch.relu(x.double() @ W.double().T + b.double())
    rows = torch.arange(n).unsqueeze(1)
    lengths = x.double().norm(dim=1, keepdim=True) * W.double().norm(dim=1)[indices]
    bound = (d / 64 + 10) * 2.0**-24 * (lengths + b.double().abs()[indices])
    full = values > 0
    assert bool(((values.double() - h[rows, indices]).abs() <= bound)[full].all())
    assert bool((h[rows, indices] >= h.sort(dim=1, descending=True).values[:, k - 1 : k] - 2 * bound)[full].all())
    assert torch.equal(full.sum(1), (h > 0).sum(1).clamp_max(k))
    assert not indices[~full].any()


KINDS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "normal": lambda x, W: (x, W),
    "heavy tails": lambda x, W: (x**5, W**3),
    "near each other": lambda x, W: (x, W[:1] + 1e-3 * W),
    "planted": lambda x, W: (3 * W[torch.arange(len(x)) % len(W)] + 0.3 * x, W),
    "of many scales": lambda x, W: (x * torch.exp(3 * x[:, :1]), W * torch.exp(3 * W[:, :1])),
    "sparse": lambda x, W: (x * (x > 1.2), W * (W > 1.2)),
    "of low rank": lambda x, W: (x[:, :1] * x[:1], W),
}


@compiled
@pytest.mark.parametrize("kind", KINDS)
def test_the_screens_change_no_bit(kind: str) -> None:
    """Screened in a batch or computed exactly, a few at a time: the same, whatever the data look like."""
    settled = 0
    for seed, (n, d, width, k) in enumerate(itertools.product((23, 70), (33, 64, 130), (100, 3000), (1, 40, 90))):
        x, W = KINDS[kind](normal(n, d, seed=seed), normal(width, d, seed=seed + 1000))
        b = normal(width, seed=seed) * (seed % 3)
        values, indices, _, passes = path.screened(x, W, b, k)
        settled += passes[0] + passes[1]
        for few in torch.arange(n).split(15):
            exactly = path.screened(x[few], W, b, k)
            assert exactly[3] == [0, 0, len(few)]
            assert torch.equal(values[few], exactly[0]), (n, d, width, k)
            assert torch.equal(indices[few], exactly[1]), (n, d, width, k)
    assert settled


@compiled
def test_a_full_frame_leaves_its_neighbour_alone() -> None:
    """Frames with far more candidates than fit, of which all but a few are kept to the end, between others."""
    generator = torch.Generator().manual_seed(21)
    n, d, width, k = 23, 33, 3000, 129
    x, W, _ = (torch.randn(*shape, generator=generator) for shape in ((n, d), (width, d), (width,)))
    x, W = (t * (torch.rand(t.shape, generator=generator) < 0.1) for t in (x, W))
    values, indices, _, passes = path.screened(x, W, torch.zeros(width), k)
    assert passes[2], "no frame has too many candidates"
    for few in torch.arange(n).split(15):
        exactly = path.screened(x[few], W, torch.zeros(width), k)
        assert torch.equal(values[few], exactly[0])
        assert torch.equal(indices[few], exactly[1])


@compiled
def test_passes_are_what_the_data_call_for() -> None:
    b = torch.zeros(1024)
    assert path.screened(normal(200, 256), normal(1024, 256, seed=1), b, 16)[3] == [200, 0, 0]
    outliers = normal(200, 1024)
    outliers[:, 3] = 60  # bytes are too coarse for all else
    assert path.screened(outliers, normal(1024, 1024, seed=1), b, 16)[3] == [0, 200, 0]
    assert path.screened(normal(8, 256), normal(1024, 256, seed=1), b, 16)[3] == [0, 0, 8]


@compiled
def test_more_near_ties_than_fit_are_rerun() -> None:
    """1,024 latents closer together than any rounding to bytes or bfloat16 can tell, yet different and exact in float32."""
    x, W, b = integers(64, 64) / 8, (integers(1, 64, seed=1) / 8).repeat(1024, 1), torch.full((1024,), 64.0)
    x[:, 0] = 1
    W[:, 0] = torch.randperm(1024, generator=torch.Generator().manual_seed(2)) * 2.0**-13
    values, indices, unfit, passes = path.screened(x, W, b, 8)
    assert passes == [0, 0, 64]
    assert not unfit.any()
    for got, want in zip((values, indices), exact(x, W, b, 8), strict=True):
        assert torch.equal(got, want.to(got.dtype))


@compiled
def test_a_guess_that_was_too_high_is_noticed() -> None:
    """All entries of x round up in bfloat16: every product is too large by the whole bound, and so is the threshold."""
    d, k, slopes = 48, 4, torch.arange(128.0, 256.0) / 128
    x, W = torch.full((32, d), 1 + 0.75 * 2.0**-7), slopes.unsqueeze(1).repeat(1, d)
    b = slopes * 2 - d * slopes  # what is left is small beside |x| |w|
    values, indices, _, passes = path.screened(x, W, b, k)
    assert passes == [0, 0, 32]
    for got, want in zip((values, indices), exact(x, W, b, k), strict=True):
        assert torch.equal(got, want.to(got.dtype))


@compiled
def test_frames_screened_with_others_equal_frames_alone(two_threads: None) -> None:
    """Chunks, tiles, threads and passes leave no trace: bit for bit, all of a batch, one frame, one thread."""
    x, W, b = normal(700, 200), normal(2000, 200, seed=1), normal(2000, seed=2)
    values, indices = path.topk(x, W, b, 24)
    torch.set_num_threads(1)
    again, same = path.topk(x, W, b, 24)
    assert torch.equal(values, again)
    assert torch.equal(indices, same)
    for frame in (0, 350, 699):
        alone, where = path.topk(x[frame : frame + 1], W, b, 24)
        assert torch.equal(values[frame : frame + 1], alone)
        assert torch.equal(indices[frame : frame + 1], where)


WIDE = {
    "a group": (16, 64, 512, 4),
    "odd": (61, 67, 333, 5),
    "bytes, ragged": (250, 131, 1000, 17),
    "few dimensions": (300, 20, 96, 3),
    "k is 1": (40, 96, 2000, 1),
    "many": (2400, 64, 96, 2),
}


@compiled
@pytest.mark.parametrize("shape", WIDE.values(), ids=WIDE)
def test_the_largest_of_a_batch_are_the_portable_paths_bit_for_bit(shape: tuple[int, int, int, int]) -> None:
    """Integers: equals at the cut, which the first by position win. Then a batch whose guess at the cut must be wrong."""
    n, d, width, k = shape
    x, W, b = integers(n, d), integers(width, d, seed=1), integers(width, seed=2)
    uneven = x.clone()
    uneven[:: -(-n // path.SAMPLE)] *= 32  # the sample
    for frames in (x, uneven, torch.zeros_like(x)):
        for got, want in zip(path.batch_topk(frames, W, b, k), portable.batch_topk(frames, W, b, k), strict=True):
            assert torch.equal(got, want)


@compiled
@pytest.mark.parametrize("shape", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("shift", [0.0, -60.0, -1e9, 1e9])
def test_entries_above_floors_are_the_portable_paths_bit_for_bit(shape: tuple[int, int, int, int], shift: float) -> None:
    """Integers, floors that they hit exactly, also negative ones; every entry; none."""
    n, d, width, _ = shape
    x, W, b = integers(n, d), integers(width, d, seed=1), integers(width, seed=2)
    threshold = 15 * integers(width, seed=3).abs() + 20.5 + shift
    for got, want in zip(path.jumprelu(x, W, b, threshold, 0.5), portable.jumprelu(x, W, b, threshold, 0.5), strict=True):
        assert torch.equal(got, want)


@compiled
def test_frames_with_more_entries_than_fit_join_the_others() -> None:
    n, d, width = 40, 64, 6000
    x, W, b = integers(n, d), integers(width, d, seed=1), torch.zeros(width)
    x[::5] *= 16  # nearly half of the latents are above the floor there
    for got, want in zip(path.jumprelu(x, W, b, b + 100, 0.5), portable.jumprelu(x, W, b, b + 100, 0.5), strict=True):
        assert torch.equal(got, want)


@compiled
def test_frames_that_are_not_finite_are_the_portable_paths() -> None:
    x, W, b = normal(40, 64), normal(256, 64, seed=1), torch.zeros(256)
    good = path.topk(x, W, b, 5)
    x[3, 7], x[9, 0], x[11, :] = torch.nan, torch.inf, 3e38
    values, indices = path.topk(x, W, b, 5)
    rows = torch.tensor([3, 9, 11])
    for got, want in zip((values[rows], indices[rows]), portable.topk(x[rows], W, b, 5), strict=True):
        assert torch.equal(got.nan_to_num(-1), want.nan_to_num(-1))
    finite = torch.ones(40, dtype=torch.bool)
    finite[rows] = False
    assert torch.equal(values[finite], good[0][finite])
    assert torch.equal(indices[finite], good[1][finite])


@compiled
@pytest.mark.parametrize("n", [4, 40])
def test_weights_that_are_not_finite_are_the_portable_paths(n: int) -> None:
    x, W, b = normal(n, 64), normal(256, 64, seed=1), torch.zeros(256)
    W[17, 3] = torch.nan
    for got, want in zip(path.topk(x, W, b, 5), portable.topk(x, W, b, 5), strict=True):
        assert torch.equal(got.nan_to_num(-1), want.nan_to_num(-1))


@compiled
@pytest.mark.parametrize("power", [-83, -40, 40])
def test_extreme_scales_are_screened_right(power: int) -> None:
    x, W, b = integers(50, 80), integers(400, 80, seed=1), torch.zeros(400)
    (values, indices), want = path.topk(x * 2.0**power, W, b, 6), exact(x, W, b, 6)
    assert torch.equal(values.double(), want[0] * 2.0**power)
    assert torch.equal(indices, want[1])


SUMS = [(1, 1, 1, 1), (30, 5, 50, 37), (90, 7, 40, 256), (20, 12, 64, 600), (0, 3, 9, 8)]


@compiled
@pytest.mark.parametrize(("n", "s", "width", "d"), SUMS)
def test_sums_equal_float64(n: int, s: int, width: int, d: int, two_threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(width, (n, s), generator=generator)
    weights, rows, frames, bias = normal(n, s), normal(width, d, seed=1), normal(n, d, seed=2), normal(d, seed=3)
    weights[:, ::3] = 0
    by_latent, expected = path.transpose(indices, weights, width), portable.transpose(indices, weights, width)
    m = int(expected.offsets[-1])
    assert torch.equal(by_latent.offsets, expected.offsets)
    assert torch.equal(by_latent.slots[:m], expected.slots[:m])
    assert torch.equal(by_latent.frames[:m], expected.frames[:m])
    dense = torch.zeros(n, width, dtype=torch.float64).index_put_(
        (torch.arange(n).unsqueeze(1), indices), weights.double(), accumulate=True
    )
    for got, want in (
        (path.gather_sum(weights, indices, rows, bias), dense @ rows.double() + bias.double()),
        (path.gather_dot(frames, indices, rows), (frames.double() @ rows.double().T).gather(1, indices)),
        (path.outer(by_latent, weights, frames), dense.T @ frames.double()),
        (path.total(by_latent, weights), dense.sum(0)),
    ):
        assert got.dtype == torch.float32
        assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-5)


@compiled
def test_sums_do_not_depend_on_the_number_of_threads(two_threads: None) -> None:
    indices, weights = torch.randint(90, (300, 6), generator=torch.Generator().manual_seed(0)), normal(300, 6)
    rows, frames = normal(90, 300, seed=1), normal(300, 300, seed=2)

    def everything() -> list[Tensor]:
        by_latent = path.transpose(indices, weights, 90)
        param, m, v = rows.clone(), torch.zeros_like(rows), torch.zeros_like(rows)
        path.adam_outer(param, by_latent, weights, frames, m, v, 3, 1e-2, True)
        sums = [path.gather_sum(weights, indices, rows), path.gather_dot(frames, indices, rows)]
        return [param, m, v, *sums, path.outer(by_latent, weights, frames)]

    both = everything()
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(both, everything(), strict=True))


@compiled
@pytest.mark.parametrize("name", ["gather_sum", "gather_dot", "transpose"])
@pytest.mark.parametrize("index", [-1, 9])
def test_a_latent_that_does_not_exist_is_refused(name: str, index: int) -> None:
    indices, weights = torch.tensor([[0, index]]), torch.ones(1, 2)
    arguments = {
        "gather_sum": (weights, indices, normal(9, 4)),
        "gather_dot": (normal(1, 4), indices, normal(9, 4)),
        "transpose": (indices, weights, 9),
    }[name]
    with pytest.raises(UserError, match="outside"):
        getattr(path, name)(*arguments)


@compiled
@pytest.mark.parametrize("shape", [(12, 5), (3, 128), (40,)], ids=str)
def test_many_steps_equal_torch_adam_in_float64(shape: tuple[int, ...]) -> None:
    """Gradients that are 0 for some rows at some steps: moments of silent rows decay as torch's do."""
    mine = normal(*shape)
    theirs = mine.double().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=3e-3)
    m, v = torch.zeros_like(mine), torch.zeros_like(mine)
    for step in range(1, 41):
        grad = normal(*shape, seed=step) * (torch.rand(shape[0], *[1] * (len(shape) - 1)) < 0.3)
        theirs.grad = grad.double()
        optimiser.step()
        path.adam(mine, grad, m, v, step, 3e-3, False)
    assert torch.allclose(mine.double(), theirs, rtol=2e-6, atol=2e-6)


@compiled
def test_factored_steps_equal_dense_ones_and_are_seen_by_autograd() -> None:
    indices, weights = torch.randint(30, (70, 4), generator=torch.Generator().manual_seed(0)), normal(70, 4)
    frames, atoms = normal(70, 90, seed=1), torch.nn.functional.normalize(normal(30, 90, seed=2), dim=1)
    by_latent = path.transpose(indices, weights, 30)
    one, other = ([atoms.clone(), torch.zeros_like(atoms), torch.zeros_like(atoms)] for _ in range(2))
    versions = [tensor._version for tensor in one]
    for step in (1, 2, 3):
        path.adam_outer(one[0], by_latent, weights, frames, one[1], one[2], step, 1e-2, True)
        gradient = path.outer(by_latent, weights, frames).double()
        truth = [tensor.double() for tensor in other]
        portable.adam(truth[0], gradient, truth[1], truth[2], step, 1e-2, True)
        for tensor, exactly in zip(other, truth, strict=True):
            tensor.copy_(exactly)
    assert [tensor._version for tensor in one] == [version + 3 for version in versions]
    for got, want in zip(one, other, strict=True):
        assert torch.allclose(got, want, rtol=1e-5, atol=1e-6)
    assert torch.allclose(one[0].norm(dim=1), torch.ones(30), atol=1e-6)


@compiled
def test_other_dtypes_and_layouts_are_computed_too() -> None:
    x, W, b = normal(64, 20).T, normal(64, 48).T, normal(48)
    for got, want in zip(path.topk(x, W, b, 4), path.topk(x.contiguous(), W.contiguous(), b, 4), strict=True):
        assert torch.equal(got, want)
    half = [t.bfloat16() for t in (x, W, b)]
    for got, want in zip(path.topk(*half, 4), portable.topk(*half, 4), strict=True):
        assert torch.equal(got, want)


@compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_defaults_of_pytorch_do_not_reach_what_kernels_write(dtype: torch.dtype) -> None:
    """Buffers that were made in the default dtype would be too short, or read as other numbers."""
    x, w, b = torch.randn(40, 16), torch.randn(96, 16), torch.zeros(96)
    with dispatch.forced("extension"):
        expected = topk_encode(x, w, b, 4)
        decoded = sparse_decode(*expected, w, x[0])
        torch.set_default_dtype(dtype)
        try:
            found = topk_encode(x, w, b, 4)
            again = sparse_decode(*found, w, x[0])
        finally:
            torch.set_default_dtype(torch.float32)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(again, decoded)
