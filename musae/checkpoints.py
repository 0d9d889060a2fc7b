"""Checkpoints in transformers' format, read with care: safetensors only, nothing missing, and quietly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musae.errors import UserError


def read(cls: Any, folder: Path, config: Any) -> Any:
    """The model of a class of transformers that a folder holds, whole, in float32 and evaluation mode.

    Raises UserError where files are missing, damaged or do not fit.
    """
    import torch

    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: no *.safetensors file; other formats may run code when they are read. Convert it with "
            f"`save_pretrained(folder)` on a machine where you trust the file."
        )
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with quiet():
            found, info = cls.from_pretrained(folder, config=config, dtype=torch.float32, **options)
    except Exception as error:  # safetensors, torch and transformers each raise their own
        raise UserError(f"{folder}: the weights cannot be loaded ({str(error).splitlines()[0]}); download them again.") from error
    lacking = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if lacking:
        raise UserError(
            f"{folder}: tensors are missing, or have another shape than config.json says: {lacking[0]}"
            + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
            + "; download it again."
        )
    return found.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and its report of what is missing, which is said here."""
    from transformers.utils import logging

    shows, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows:
            logging.enable_progress_bar()
