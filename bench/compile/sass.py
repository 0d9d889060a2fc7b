"""Reading machine code: `cuobjdump -res-usage` and `nvdisasm -g` of one compiled kernel, as they come with Triton's wheel.

An instruction carries the source line that it was made from, so that loads of rows can be told from loads of anything else, and
an atomic on a counter from one on a gradient.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from musae.bench.compile.lines import statement

_LINE = re.compile(r'//## File "(?P<file>[^"]*)", line (?P<line>\d+)')
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[\dT]\w*\s+)?(?P<opcode>[A-Z][A-Z0-9_.]*)")
_NEVER = re.compile(r"/\s+@!U?PT\s")
_BITS = re.compile(r"\.(256|128|64|[SU]?16|[SU]?8)(?=\.|$)")

LOADS = ("LDG", "LDGSTS", "UTMALDG", "UBLKCP", "LD")
"""Loads from global memory: to registers, to shared memory (cp.async), by the copy engine (TMA), and by generic address."""
STORES = ("STG", "UTMASTG", "ST")
BY_ENGINE = ("UTMALDG", "UTMASTG", "UBLKCP")
"""Copies of whole tiles: no thread's load has a width, and none is narrow."""
SPILLS = ("STL", "LDL")
"""Stores to and loads from local memory: registers that did not suffice, or arrays indexed at run time."""
GLOBAL_ATOMICS = ("RED", "REDG", "REDAS", "ATOM", "ATOMG", "UTMAREDG")
SHARED_ATOMICS = ("ATOMS",)
TENSOR_CORES = re.compile(r"^(H|I|D|Q|O|B)G?MMA$|^UTC[A-Z]*MMA$")
"""HMMA (Ampere), HGMMA (Hopper), UTCHMMA (Blackwell), and their relatives for other number formats."""


@dataclass(frozen=True)
class Instruction:
    """One machine instruction, and the first line of the statement that it was made from."""

    opcode: str
    """With all its modifiers: ``LDG.E.128.CONSTANT``."""
    file: str = ""
    line: int = 0

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def bits(self) -> int:
        """Width of a load or store, by each thread."""
        if self.name in BY_ENGINE:
            return 128
        found = _BITS.search(self.opcode)
        return int(found.group(1).lstrip("SU")) if found else 32


@dataclass(frozen=True)
class Code:
    """What the gates need to know of one compiled kernel."""

    registers: int
    """32-bit registers of each thread."""
    stack: int
    """Bytes of local memory of each thread."""
    spills: int
    """Instructions that access local memory."""
    loads: int
    row_loads: int
    """Load instructions of lines that read rows, tensors ``[*, d]``."""
    row_loads_128: int
    """Those that read 128 bits or more at once."""
    stores: int
    stores_128: int
    tensor_cores: int
    atomics: int
    """Atomic instructions on global memory."""
    atomic_lines: tuple[tuple[str, int], ...]
    """The source lines of those."""
    shared_atomics: int
    instructions: int


def instructions(listing: str) -> Iterator[Instruction]:
    """The instructions of a listing by `nvdisasm -g`; those that are switched off for good (``@!PT``) are left out."""
    file, line = "", 0
    for text in listing.splitlines():
        where = _LINE.search(text)
        if where:
            file, line = statement(where["file"], int(where["line"]))
            continue
        found = _INSTRUCTION.match(text)
        if found and not _NEVER.search(text):
            yield Instruction(found["opcode"], file, line)


def resources(listing: str) -> tuple[int, int]:
    """Registers and bytes of stack from `cuobjdump -res-usage` of one kernel. Raises ValueError where it tells none."""
    found = re.search(r"REG:(\d+) STACK:(\d+)", listing)
    if not found:
        raise ValueError(f"cuobjdump tells no registers: {listing!r}")
    return int(found[1]), int(found[2])


def digest(listing: str, usage: str, row_lines: Iterable[tuple[str, int]]) -> Code:
    """Count what matters in the listing of one kernel; `row_lines` are the source lines that read rows."""
    rows = set(row_lines)
    registers, stack = resources(usage)
    found = list(instructions(listing))
    loads = [i for i in found if i.name in LOADS]
    row_loads = [i for i in loads if (i.file, i.line) in rows]
    stores = [i for i in found if i.name in STORES]
    atomics = [i for i in found if i.name in GLOBAL_ATOMICS]
    return Code(
        registers=registers,
        stack=stack,
        spills=sum(i.name in SPILLS for i in found),
        loads=len(loads),
        row_loads=len(row_loads),
        row_loads_128=sum(i.bits >= 128 for i in row_loads),
        stores=len(stores),
        stores_128=sum(i.bits >= 128 for i in stores),
        tensor_cores=sum(bool(TENSOR_CORES.match(i.name)) for i in found),
        atomics=len(atomics),
        atomic_lines=tuple(sorted({(i.file, i.line) for i in atomics})),
        shared_atomics=sum(i.name in SHARED_ATOMICS for i in found),
        instructions=len(found),
    )
