"""The Triton encoders against float64 PyTorch, in Triton's interpreter (TRITON_INTERPRET=1) or on a GPU."""

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs TRITON_INTERPRET=1 or a GPU", allow_module_level=True)

from musae.kernels import auxk
from musae.kernels.dispatch import forced
from musae.kernels.gpu import encode, merge, screen
from musae.kernels.gpu.launch import Launch, observed

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
SHAPES = {
    "ones": (1, 1, 1, 1),
    "odd": (7, 5, 13, 3),
    "two blocks": (130, 24, 200, 8),
    "thresholds rise": (20, 72, 1100, 3),
    "k is width": (9, 17, 150, 150),
    "empty batch": (0, 8, 16, 4),
}
"""n, d, F, k."""


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN for the length of a test."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two splits of the latents: so many tiles for each that thresholds rise, and few programs to interpret."""
    monkeypatch.setattr(screen, "SPLITS", 2)
    monkeypatch.setattr(screen, "MOST_SPLITS", 2)


def dyadic(shape: tuple[int, int, int, int], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, W_enc, b_enc of few bits: no order of summation rounds a pre-activation, and many are equal."""
    generator = torch.Generator().manual_seed(seed)
    n, d, width, _ = shape
    x, W_enc, b_enc = ((torch.randint(-16, 17, s, generator=generator) / 8).to(DEVICE) for s in ((n, d), (width, d), (width,)))
    return x.to(dtype), W_enc, b_enc


def exact(x: Tensor, W_enc: Tensor, b_enc: Tensor) -> Tensor:
    return x.double() @ W_enc.double().T + b_enc.double()


def by_rows(pre: Tensor, kept: Tensor, slots: int, empty: float) -> tuple[Tensor, Tensor]:
    """The kept entries of each row by falling value, equal ones by index."""
    values, indices = pre.masked_fill(~kept, -torch.inf).sort(dim=1, descending=True, stable=True)
    values, indices = values[:, :slots], indices[:, :slots]
    return values.masked_fill(values == -torch.inf, empty), indices.masked_fill(values == -torch.inf, 0)


def topk(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return by_rows(pre, pre > 0, k, 0.0)


def batch_topk(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    order = pre.flatten().sort(descending=True, stable=True).indices[: pre.shape[0] * k]
    kept = torch.zeros(pre.numel(), dtype=torch.bool, device=pre.device).index_fill_(0, order, True).view(pre.shape) & (pre > 0)
    return by_rows(pre, kept, max(1, int(kept.sum(1).max())) if pre.numel() else 1, 0.0)


def jumprelu(pre: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    kept = pre > edges
    return by_rows(pre, kept, max(1, int(kept.sum(1).max())) if pre.numel() else 1, -torch.inf)


def same(got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    assert got[0].dtype == torch.float32
    assert got[1].dtype == torch.int64
    assert got[0].shape == wanted[0].shape
    assert torch.equal(got[0].double(), wanted[0])
    assert torch.equal(got[1], wanted[1])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_topk_is_exact(shape: tuple[int, int, int, int]) -> None:
    tensors = dyadic(shape, torch.bfloat16)
    same(encode.topk(*tensors, shape[3]), topk(exact(*tensors), shape[3]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_topk_is_exact(shape: tuple[int, int, int, int]) -> None:
    tensors = dyadic(shape, torch.float16)
    same(encode.batch_topk(*tensors, shape[3]), batch_topk(exact(*tensors), shape[3]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_jumprelu_is_exact_below_zero_too(shape: tuple[int, int, int, int]) -> None:
    tensors = dyadic(shape, torch.bfloat16)
    spread = exact(*tensors).std().item() if shape[0] > 1 else 1.0
    threshold = (torch.randint(-8, 17, (shape[2],), generator=torch.Generator().manual_seed(1)) / 8).to(DEVICE) * round(spread)
    same(encode.jumprelu(*tensors, threshold, 0.25), jumprelu(exact(*tensors), threshold.double() - 0.25))


def test_topk_among_some_is_exact_on_every_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third latent, in odd places of a larger tensor: as usual, in several chunks of frames, and sorted by torch."""
    x, W_enc, b_enc = dyadic((140, 12, 601, 5), torch.float32)
    among = torch.stack([torch.arange(1, 601, 3)] * 2, 1)[:, 0].to(DEVICE)
    values, places = topk(exact(x, W_enc, b_enc)[:, among], 5)
    wanted = values, among[places].masked_fill(values == 0, 0)
    same(encode.topk(x, W_enc, b_enc, 5, among), wanted)
    monkeypatch.setattr(encode, "BUDGET", 1)
    same(encode.topk(x, W_enc, b_enc, 5, among), wanted)
    monkeypatch.setattr(merge, "LONGEST", 64)
    same(encode.topk(x[:9], W_enc, b_enc, 5, among), (wanted[0][:9], wanted[1][:9]))


def test_frames_whose_threshold_was_wrong_are_done_again_among_some() -> None:
    """As below, where every second latent takes part."""
    x, W_enc, b_enc = sparse((17, 17, 2048, 20), {3: (0, 16)})
    among = torch.arange(0, 2048, 2, device=DEVICE)
    seen: list[Launch] = []
    with observed(seen.append):
        code = encode.topk(x, W_enc, b_enc, 20, among)
    assert [launch.name for launch in seen] == ["screen", "merge", "screen", "merge"]
    same(code, topk(exact(x, W_enc, b_enc), 20))


@pytest.mark.parametrize("path", ["triton", "portable"])
@pytest.mark.parametrize(("shape", "scale"), [((1, 1), 1.0), ((33, 2049), 1.0), ((7, 5), 0.0), ((7, 5), 1e-17)])
def test_relative_error_and_its_gradients(path: str, shape: tuple[int, int], scale: float) -> None:
    """More elements than a program sums; an error of 0, and one whose square is below what may divide."""
    generator = torch.Generator().manual_seed(3)
    error, guess = (
        (torch.randn(shape, generator=generator) * size).to(DEVICE).requires_grad_() for size in (scale, scale or 1.0)
    )
    with forced(path):
        loss = auxk._RelativeError.apply(error, guess)
    wide = [t.detach().double().requires_grad_() for t in (error, guess)]
    wanted = (wide[0] - wide[1]).square().mean() / wide[0].square().mean().clamp_min(auxk.TINY)
    with forced(path):
        found = torch.autograd.grad(loss, (error, guess), loss.new_tensor(0.5))
    expected = torch.autograd.grad(wanted, wide, wanted.new_tensor(0.5))
    for one, other in zip((loss.detach(), *found), (wanted.detach(), *expected), strict=True):
        assert float((one.double() - other).abs().max()) <= 1e-6 * float(other.abs().max())


def sparse(shape: tuple[int, int, int, int], rows: dict[int, tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Frames whose latents are -1, but for those that `rows` names by frame as first latent and distance: 1, 1 + 1/16, ..."""
    n, _, width, _ = shape
    W_enc = torch.full((width, n), -1.0)
    for frame, (first, step) in rows.items():
        chosen = torch.arange(first, width, step)
        W_enc[chosen, frame] = 1 + torch.arange(len(chosen)) / 16
    return torch.eye(n).to(DEVICE), W_enc.to(DEVICE), torch.zeros(width, device=DEVICE)


def launches(k: int, tensors: tuple[Tensor, Tensor, Tensor]) -> tuple[list[Launch], tuple[Tensor, Tensor]]:
    seen: list[Launch] = []
    with observed(seen.append):
        code = encode.topk(*tensors, k)
    return seen, code


def test_frames_whose_threshold_was_wrong_are_done_again() -> None:
    """All active latents of frame 3 lie in the first tile of the first split: the threshold learned from it is too high."""
    shape = (17, 17, 1024, 20)
    tiles = 8
    tensors = sparse(shape, {3: (0, tiles)})
    found = screen.entries(*screen.aligned(*tensors[:2]), tensors[2], k=20)
    _, _, flags = merge.order(found, 20, 0.0)
    assert flags.nonzero().flatten().tolist() == [3]
    seen, code = launches(20, tensors)
    assert [launch.name for launch in seen] == ["screen", "merge", "screen", "merge"]
    same(code, topk(exact(*tensors), 20))


def test_usual_values_need_no_second_pass() -> None:
    generator = torch.Generator().manual_seed(5)
    x, W_enc = (torch.randn(s, generator=generator).to(DEVICE) for s in ((20, 64), (1024, 64)))
    pre = exact(x, W_enc, W_enc.new_zeros(1024))
    seen, (values, indices) = launches(4, (x, W_enc, W_enc.new_zeros(1024)))
    assert [launch.name for launch in seen] == ["screen", "merge"]
    wanted, places = topk(pre, 4)
    assert torch.allclose(values.double(), wanted, rtol=1e-5)
    assert torch.equal(indices, places)
    kept = next(launch for launch in seen if launch.name == "screen").arguments[7]
    assert kept.sum(0).float().mean() < 100, "thresholds did not rise"


@pytest.mark.slow
def test_ties_everywhere_overflow_and_are_exact() -> None:
    """One value for all latents: no threshold lies between k and the slots, and the lowest latents are to be chosen."""
    x, W_enc, b_enc = torch.ones(3, 4), torch.ones(400, 4), torch.zeros(400)
    values, indices = encode.topk(x.to(DEVICE), W_enc.to(DEVICE), b_enc.to(DEVICE), 6)
    assert values.eq(4).all()
    assert torch.equal(indices.cpu(), torch.arange(6).expand(3, 6))


def test_rows_without_positive_entries_are_empty() -> None:
    tensors = sparse((5, 5, 40, 3), {1: (7, 30)})
    values, indices = encode.topk(*tensors, 3)
    assert indices.tolist() == [[0, 0, 0], [37, 7, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert values[1].tolist() == [1 + 1 / 16, 1, 0]
    values, indices = encode.batch_topk(*tensors, 3)
    assert indices.tolist() == [[0, 0], [37, 7], [0, 0], [0, 0], [0, 0]]


def test_nan_is_not_hidden() -> None:
    x, W_enc, b_enc = dyadic((3, 16, 160, 4), torch.float32)
    x[1, 0] = torch.nan
    values, indices = encode.topk(x, W_enc, b_enc, 4)
    assert values[1].isnan().all()
    assert indices[1].tolist() == [0, 1, 2, 3]
    same((values[[0, 2]], indices[[0, 2]]), topk(exact(x, W_enc, b_enc)[[0, 2]], 4))


def test_batch_topk_with_frames_that_overflow() -> None:
    """Two frames hold nearly the whole budget of 40: more than their slots; many entries are equal at the cut."""
    tensors = sparse((40, 40, 600, 20), {4: (0, 1), 9: (1, 1), 30: (5, 50)})
    same(encode.batch_topk(*tensors, 20), batch_topk(exact(*tensors), 20))


def test_batch_topk_lowers_a_guess_that_is_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_sample", lambda x, W_enc, b_enc: (torch.full((1, 600), 5000.0), torch.arange(600)))
    tensors = dyadic((6, 8, 600, 9), torch.float32)
    same(encode.batch_topk(*tensors, 9), batch_topk(exact(*tensors), 9))


@pytest.mark.slow
def test_jumprelu_with_more_entries_than_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_slots", lambda above, x, W_enc: 128)
    tensors = dyadic((4, 8, 600, 1), torch.float32)
    threshold = torch.full((600,), -3.0, device=DEVICE)
    same(encode.jumprelu(*tensors, threshold, 0.5), jumprelu(exact(*tensors), threshold.double() - 0.5))


def test_frames_with_more_slots_than_a_program_sorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "LONGEST", 128)
    tensors = dyadic((7, 12, 300, 5), torch.float32)
    same(encode.topk(*tensors, 5), topk(exact(*tensors), 5))
    threshold = torch.full((300,), -1.0, device=DEVICE)
    same(encode.jumprelu(*tensors, threshold, 0.5), jumprelu(exact(*tensors), threshold.double() - 0.5))


@pytest.mark.slow
def test_a_frame_depends_on_itself_alone_and_runs_agree() -> None:
    x, W_enc, b_enc = dyadic((140, 33, 300, 5), torch.float32)
    x += torch.rand(x.shape, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    values, indices = encode.topk(x, W_enc, b_enc, 5)
    again = encode.topk(x, W_enc, b_enc, 5)
    assert torch.equal(values, again[0])
    assert torch.equal(indices, again[1])
    some = encode.topk(x[131:135], W_enc, b_enc, 5)
    assert torch.equal(values[131:135], some[0])
    assert torch.equal(indices[131:135], some[1])


def test_splits_fill_the_processors_and_places_fit_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for processors, wanted in ((132, 4), (108, 5), (148, 4)):
        monkeypatch.setattr(screen, "_processors", lambda device, processors=processors: processors)
        assert screen.split_count(8192, 256, DEVICE) == wanted
        for n in (1, 100, 5000, 65537):
            for tiles in (1, 3, 512, 20000):
                splits = screen.split_count(n, tiles, DEVICE)
                assert -(-tiles // splits) * screen.BLOCK_N <= screen.PLACES
                assert splits <= tiles
