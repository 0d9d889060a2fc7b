"""The provenance of rows that are being written now."""

from __future__ import annotations

from datetime import UTC, datetime

from musae.provenance import commit, cores, packages
from musae.results.schema import Provenance


def provenance(*, device: str, threads: int, seconds: float, stream: str = "") -> Provenance:
    """The provenance of rows that this process scored just now in `seconds`, on `device` with `threads` threads.

    `stream`: whose residual stream was encoded, where it is not the cell's generator's.
    """
    head, dirty = commit()
    return Provenance(
        commit=head,
        dirty=dirty,
        stream=stream,
        device=device,
        cores=cores(),
        threads=threads,
        packages=packages(),
        seconds=round(seconds, 2),
        created=datetime.now(UTC).replace(microsecond=0),
    )
