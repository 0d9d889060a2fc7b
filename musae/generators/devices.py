"""Where a generator runs, and in which precision."""

from __future__ import annotations

import torch

from musae.errors import UserError


def placed(device: str | None, dtype: str | None, name: str) -> tuple[torch.device, torch.dtype]:
    """By default the first CUDA device and float16, or the CPU and float32. Raises UserError for a device that is not there."""
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: device {device!r} is not there ({reason}); choose cpu, or cuda where there is.") from error
    precision: torch.dtype = getattr(torch, dtype or ("float16" if place.type == "cuda" else "float32"))
    return place, precision
