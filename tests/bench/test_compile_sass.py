"""Machine code, as nvdisasm and cuobjdump print it."""

import pytest

from musae.bench.compile import sass

LISTING = """
        .text.k:
        //## File "/k.py", line 4
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        //## File "/k.py", line 7 inlined at "/k.py", line 20
        /*0010*/              @!P1 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/                   LDGSTS.E.BYPASS.128 [R57], desc[UR22][R24.64], P6 ;
        //## File "/k.py", line 8
        /*0030*/                   LDG.E R4, desc[UR4][R2.64] ;
        /*0040*/                   LDG.E.U16 R4, desc[UR4][R2.64] ;
        /*0050*/             @!UPT UIADD3 URZ, URZ, URZ, URZ ;
        /*0060*/              @!PT LDS RZ, [RZ] ;
        /*0070*/                   STL.64 [R1+0x8], R4 ;
        /*0080*/                   LDL.LU R4, [R1+0x8] ;
        //## File "/k.py", line 9
        /*0090*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*00a0*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], !UPT ;
        /*00b0*/             @P0   UTCHMMA gdesc[UR8], gdesc[UR10], tmem[UR12], idesc[UR5] ;
        /*00c0*/                   RED.E.ADD.STRONG.GPU desc[UR4][R2.64], R5 ;
        //## File "/k.py", line 10
        /*00d0*/              @P2  ATOMG.E.ADD.STRONG.GPU PT, R0, desc[UR4][R2.64], R5 ;
        /*00e0*/                   ATOMS.ADD RZ, [R3], R4 ;
        /*00f0*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0100*/                   STG.E.64 desc[UR4][R2.64], R4 ;
        /*1234560*/                UTMALDG.2D [UR8], [UR4] ;
"""
USAGE = "Resource usage:\n Function k:\n  REG:255 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:416 TEXTURE:0"


def test_every_count_of_a_listing():
    found = sass.digest(LISTING, USAGE, [("/k.py", 7)])
    assert found == sass.Code(
        registers=255,
        stack=16,
        spills=2,
        loads=5,
        row_loads=2,
        row_loads_128=2,
        stores=2,
        stores_128=1,
        tensor_cores=3,
        atomics=2,
        atomic_lines=(("/k.py", 9), ("/k.py", 10)),
        shared_atomics=1,
        instructions=16,
    )


@pytest.mark.parametrize(
    ("opcode", "bits"),
    [
        ("LDG.E", 32),
        ("LDG.E.64.CONSTANT", 64),
        ("LDG.E.128", 128),
        ("LDG.E.ENL2.256", 256),
        ("LDG.E.U16.CONSTANT", 16),
        ("LDG.E.S8", 8),
        ("LDGSTS.E.BYPASS.LTC128B.128", 128),
        ("LDGSTS.E.LTC128B", 32),
        ("LDG.E.LTC128B.64", 64),
        ("UTMALDG.2D", 128),
    ],
)
def test_the_width_of_a_load(opcode, bits):
    assert sass.Instruction(opcode).bits == bits


@pytest.mark.parametrize("name", ["HMMA", "HGMMA", "IMMA", "IGMMA", "DMMA", "QGMMA", "UTCHMMA", "UTCQMMA"])
def test_tensor_core_instructions(name):
    assert sass.TENSOR_CORES.match(name)


@pytest.mark.parametrize("name", ["FFMA", "IMAD", "WARPGROUP", "UTCBAR", "HFMA2", "UTCATOMSWS"])
def test_other_instructions(name):
    assert not sass.TENSOR_CORES.match(name)


def test_a_listing_without_resources_is_refused():
    with pytest.raises(ValueError, match="tells no registers"):
        sass.resources("nothing")
