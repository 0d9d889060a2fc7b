"""The path ``triton``: every function of a path as Triton kernels; `musae.kernels.portable` says what each computes."""

from __future__ import annotations

from musae.kernels.gpu.adam import adam as adam
from musae.kernels.gpu.adam import adam_outer as adam_outer
from musae.kernels.gpu.encode import batch_topk as batch_topk
from musae.kernels.gpu.encode import jumprelu as jumprelu
from musae.kernels.gpu.encode import topk as topk
from musae.kernels.gpu.loss import mean_squares as mean_squares
from musae.kernels.gpu.loss import relative_gradients as relative_gradients
from musae.kernels.gpu.rows import dots_and_sum as dots_and_sum
from musae.kernels.gpu.rows import gather_dot as gather_dot
from musae.kernels.gpu.rows import gather_sum as gather_sum
from musae.kernels.gpu.transpose import outer as outer
from musae.kernels.gpu.transpose import total as total
from musae.kernels.gpu.transpose import transpose as transpose

NAME = "triton"
