"""The test's structs against the kernel header of this machine (package linux-libc-dev)."""

import ctypes
import re
from pathlib import Path

import pytest

from fuse import kernel_structs

HEADER = Path("/usr/include/linux/fuse.h")

# Members that newer headers cut out of what older ones call padding or unused: the offsets stay.
RESERVED = re.compile(r"unused|padding|dummy|spare|total_extlen|max_stack_depth|request_timeout")

_C_TYPES = {
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "int32_t": ctypes.c_int32,
    "uint16_t": ctypes.c_uint16,
}


def _header_offsets(source: str, struct: str) -> tuple[dict[str, tuple[int, int]], int]:
    """Offset and size of each member, and the size of all, of one struct of the header."""
    match = re.search(rf"^struct {struct} {{(.*?)^}};", source, re.DOTALL | re.MULTILINE)
    assert match, f"{struct} is not in {HEADER}"
    body = re.sub(r"/\*.*?\*/|//[^\n]*", "", match[1], flags=re.DOTALL)
    offset = 0
    members = {}
    for line in filter(None, (part.strip() for part in body.split(";"))):
        nested = re.fullmatch(r"struct (\w+)\s+(\w+)", line)
        plain = re.fullmatch(r"(\w+)\s+(\w+)(?:\[(\d*)\])?", line)
        if nested:
            name, size = nested[2], _header_offsets(source, nested[1])[1]
        else:
            assert plain, line
            if plain[1] == "char":
                continue  # char name[]
            name, size = plain[2], ctypes.sizeof(_C_TYPES[plain[1]]) * int(plain[3] or 1)
        members[name] = (offset, size)
        offset += size
    return members, offset


@pytest.mark.skipif(not HEADER.exists(), reason="no linux/fuse.h (install linux-libc-dev)")
@pytest.mark.parametrize("struct", kernel_structs.ALL, ids=lambda struct: str(struct.__name__))
def test_struct_is_the_kernels(struct: type[ctypes.Structure]) -> None:
    expected, size = _header_offsets(HEADER.read_text(encoding="utf-8"), struct.__name__)
    assert ctypes.sizeof(struct) == size
    for name, *_ in struct._fields_:
        if RESERVED.search(name):
            continue
        member = getattr(struct, name)
        assert (member.offset, member.size) == expected[name], name
