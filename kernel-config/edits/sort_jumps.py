#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""sort_jumps.py VMLINUX SYSTEM_MAP: sorts the kernel's table of jump labels in place, as it would do itself at each boot.

An entry is 16 bytes: the distances from their own places to the code, to the target (32 bits each) and to the key (64 bits, its
two lowest bits are flags). The order is the kernel's: by key, then by code.
"""
import pathlib
import struct
import sys

ENTRY = struct.Struct("<iiq")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
LOAD = 1


def symbol(system_map: str, name: str) -> int:
    for line in system_map.splitlines():
        address, _, found = line.split()
        if found == name:
            return int(address, 16)
    sys.exit(f"sort_jumps.py: the kernel has no {name}")


def file_offset(image: bytes, address: int, size: int) -> int:
    """Where the file has `size` bytes that are loaded at `address`."""
    table, = struct.unpack_from("<Q", image, 32)
    count, = struct.unpack_from("<H", image, 56)
    for n in range(count):
        kind, _, offset, virtual, _, in_file, _, _ = PROGRAM_HEADER.unpack_from(image, table + n * PROGRAM_HEADER.size)
        if kind == LOAD and virtual <= address and address + size <= virtual + in_file:
            return offset + address - virtual
    sys.exit("sort_jumps.py: the table lies in no segment of the kernel")


def main() -> None:
    path = pathlib.Path(sys.argv[1])
    system_map = pathlib.Path(sys.argv[2]).read_text(encoding="ascii")
    image = bytearray(path.read_bytes())
    start, stop = symbol(system_map, "__start___jump_table"), symbol(system_map, "__stop___jump_table")
    base = file_offset(image, start, stop - start)
    entries = []
    for address in range(start, stop, ENTRY.size):
        code, target, key = ENTRY.unpack_from(image, base + address - start)
        entries.append((address + 8 + (key & ~3), address + code, address + 4 + target, key & 3))
    if not entries:
        sys.exit("sort_jumps.py: the table is empty")
    entries.sort(key=lambda entry: entry[:2])
    for address, (key, code, target, flags) in zip(range(start, stop, ENTRY.size), entries):
        ENTRY.pack_into(image, base + address - start, code - address, target - (address + 4), key - (address + 8) | flags)
    path.write_bytes(image)
    print(f"kernel: {len(entries)} jump labels sorted", file=sys.stderr)


main()
