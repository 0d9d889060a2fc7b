"""``musae doctor``: which kernels would run here, and why."""

from __future__ import annotations

import click

DTYPES = ("float32", "bfloat16", "float16", "float64")


@click.command(name="doctor")
@click.option("--measure", is_flag=True, help="Measure where sparse sums start losing to dense ones now, even if it is known.")
def command(measure: bool) -> None:
    """Say which path computes the kernels on this machine's devices, and why.

    Paths: `portable` (plain PyTorch), `extension` (compiled for this CPU on first use), `triton` (NVIDIA GPUs from compute
    capability 8.0). MUSAE_KERNELS=portable (or extension, triton) in the environment takes one by name.

    Codes are decoded sparsely as long as that is the faster way; where that ends is measured once per device and kept in musae's
    cache. Exit code 1 when a path that ought to run here cannot.
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from musae import provenance
    from musae.errors import UserError
    from musae.kernels import dispatch

    console = Console(highlight=False)
    packages = provenance.packages()
    console.print(f"musae on {provenance.processor()}, {provenance.cores()} cores, {torch.get_num_threads()} threads")
    console.print("  ".join(f"{name} {packages[name]}" for name in ("python", "torch", "triton", "numpy") if name in packages))

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("device", "dtype", "path", "why"):
        table.add_column(column, overflow="fold")
    failed, taken = False, set()
    for device in map(torch.device, devices):
        for name in DTYPES:
            try:
                path, why = dispatch.choose(device, getattr(torch, name))
                taken.add((path, str(device)))
            except UserError as error:
                path, why, failed = "none", str(error), True
            table.add_row(str(device), name, path, why)
    console.print(table)
    if len(devices) == 1:
        console.print(f"no CUDA device: the Triton path cannot run here ({_triton()})")

    for path, place in sorted(taken):
        file = dispatch.crossover_file(path, torch.device(place))
        if measure:
            file.unlink(missing_ok=True)
        known = file.exists()
        share = dispatch.crossover(path, torch.device(place))
        how = "known" if known else "measured now"
        console.print(
            f"{path} on {place}: sparse sums pay up to k/F = 1/{round(1 / share)} (k = {round(share * 32768)} of 32,768); "
            f"{how}, {file}"
        )
    raise SystemExit(1 if failed else 0)


def _triton() -> str:
    """What of Triton there is."""
    import importlib.util

    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return "its kernels can be compiled and checked: `musae bench compile`; or interpreted: TRITON_INTERPRET=1"
