"""Which path is taken, and where sparse sums stop paying."""

import json
from pathlib import Path

import pytest
import torch

from musae.errors import UserError
from musae.kernels import crossover, dense, dispatch, portable
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import topk_encode

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSAE_KERNELS", raising=False)
    dispatch._crossover.cache_clear()


def test_float64_and_half_precision_are_portable_on_a_cpu() -> None:
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert dispatch.choose(CPU, dtype)[0] == "portable"


def test_float32_takes_the_extension_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for usable, name in ((True, "extension"), (False, "portable")):
        monkeypatch.setattr(dispatch, "_extension", lambda usable=usable: (usable, "because"))
        assert dispatch.choose(CPU, torch.float32) == (name, "because")


def test_a_path_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSAE_KERNELS", "portable")
    assert dispatch.choose(CPU, torch.float32)[0] == "portable"
    monkeypatch.delenv("MUSAE_KERNELS")
    with dispatch.forced("portable"):
        assert dispatch.path_for(torch.ones(1)) is portable


@pytest.mark.parametrize(
    ("capability", "path"), [((9, 0), "triton"), ((8, 0), "triton"), ((7, 5), None)], ids=["hopper", "ampere", "turing"]
)
def test_a_gpu_is_asked_for_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], path: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    cuda = torch.device("cuda:0")
    if path:
        assert dispatch.choose(cuda, torch.bfloat16)[0] == path
    else:
        with pytest.raises(UserError, match=r"Some GPU \(compute capability 7.5\) is older than 8.0.*MUSAE_KERNELS=portable"):
            dispatch.choose(cuda, torch.bfloat16)
        with dispatch.forced("portable"):
            assert dispatch.choose(cuda, torch.bfloat16)[0] == "portable"


def test_paths_that_cannot_run_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no kernel path is named 'cuda'.*portable, extension, triton"), dispatch.forced("cuda"):
        pass
    monkeypatch.setenv("MUSAE_KERNELS", "rocket")
    with pytest.raises(UserError, match="no kernel path is named 'rocket'"):
        topk_encode(torch.ones(2, 3), torch.ones(4, 3), torch.ones(4), 1)
    monkeypatch.delenv("MUSAE_KERNELS")
    monkeypatch.setattr(dispatch, "_extension", lambda: (False, "no compiler"))
    with pytest.raises(UserError, match="'extension' cannot be used here: no compiler"), dispatch.forced("extension"):
        pass


def test_where_dense_wins_it_is_taken_and_gives_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The crossover is read from the cache; beyond it forward and backward are matrix products."""
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path))
    calls = []
    for name in ("gather_sum", "gather_dot", "outer"):
        matrix_product = getattr(dense, name)
        monkeypatch.setattr(dense, name, lambda *a, name=name, f=matrix_product, **k: (calls.append(name), f(*a, **k))[1])
    n, d, width, k = 12, 7, 64, 8

    def gradients() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        x, W, W_dec = (torch.randn(size, generator=generator).requires_grad_() for size in ((n, d), (width, d), (width, d)))
        values, indices = topk_encode(x, W, torch.zeros(width), k)
        (x - sparse_decode(values, indices, W_dec, torch.zeros(d))).square().sum().backward()
        return [x.grad, W.grad, W_dec.grad]

    results = []
    with dispatch.forced("portable"):
        for share, dense_calls in ((0.5, 0), (0.01, 5)):
            file = dispatch.crossover_file("portable", CPU)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"share": share}))
            dispatch._crossover.cache_clear()
            calls.clear()
            results.append(gradients())
            assert len(calls) == dense_calls, calls
    for sparse, matrix in zip(*results, strict=True):
        assert torch.allclose(sparse, matrix, atol=1e-4)


def test_the_crossover_is_measured_once_and_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(crossover, "measure", lambda path, device: calls.append(path.NAME) or {"share": 0.125})
    for _ in range(2):
        assert dispatch.crossover("portable", CPU) == 0.125
        dispatch._crossover.cache_clear()
    assert calls == ["portable"]
    dispatch.crossover_file("portable", CPU).write_text("rubbish")
    assert dispatch.crossover("portable", CPU) == 0.125
    assert calls == ["portable", "portable"]


def test_a_measurement_finds_where_the_slower_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that charges sparse sums by their share and dense ones a constant."""
    costs = iter([cost for share in crossover.SHARES for cost in (share, 1 / 20)])
    monkeypatch.setattr(crossover, "_seconds", lambda run, device: next(costs))
    found = crossover.measure(portable, CPU)
    assert found["share"] == 1 / 32
    assert [timing["share"] for timing in found["ms"]][-1] == 1 / 16
