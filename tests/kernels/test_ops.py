"""The conformance suite on every op, on every path that can run here.

The portable path and the CPU extension run natively. With TRITON_INTERPRET=1 (`make test-triton`) the same tests run on the
Triton kernels in the interpreter, and where there is a GPU, on the GPU.
"""

import pytest
import torch

from musae import testing_kernels as suite
from musae.kernels.op import Op, Shape, ops

OPS = ops()


@pytest.fixture(params=OPS)
def op(request: pytest.FixtureRequest) -> Op:
    return OPS[request.param]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", suite.SHAPES.values(), ids=suite.SHAPES)
def test_values_and_gradients_match_the_reference(op: Op, shape: Shape, dtype: torch.dtype, place, seed: int) -> None:
    if not place.computes(dtype):
        pytest.skip(f"{place} leaves {dtype} to the portable path")
    suite.check_values(op, shape, dtype, place.device, seed)
    suite.check_gradients(op, shape, dtype, place.device, seed)


def test_repeats_bitwise(op: Op, place, seed: int) -> None:
    suite.check_repeats(op, place.device, seed)


def test_frames_do_not_depend_on_their_neighbours(op: Op, place, seed: int) -> None:
    suite.check_rows(op, place.device, seed)


def test_strided_and_misaligned_arguments(op: Op, place, seed: int) -> None:
    suite.check_layouts(op, place.device, seed)


def test_sample_inputs_and_least_traffic(op: Op) -> None:
    suite.check_inputs(op)
    suite.check_least_traffic(op)


def test_the_suite_catches_a_wrong_gradient() -> None:
    """An op that forgets the gradient of one argument, as a peer's fused backward did."""
    from dataclasses import replace

    def forgetful(x: torch.Tensor, W: torch.Tensor, b: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        return good.fn(x, W, b.detach(), k)

    good = OPS["topk_encode"]
    with pytest.raises(AssertionError, match="gradient of argument 2"):
        suite.check_op(replace(good, fn=forgetful), dtypes=[torch.float32])
