# SPDX-License-Identifier: Apache-2.0
"""The empty ext4 for a sandbox's writes, at every order of size, by e2fsck and resize2fs."""
import os
import tempfile
import time

from support import Store, check, need, run

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SIZES = [16 * MIB, 17 * MIB + 4096, 64 * MIB, 127 * MIB, 128 * MIB, 129 * MIB, 256 * MIB + 4096 * 5, GIB, 8 * GIB - 4096,
         8 * GIB, 8 * GIB + 4096, 10 * GIB, 100 * GIB, TIB, 4 * TIB + 12288, 16 * TIB]


def case_every_size_is_clean_and_made_in_milliseconds(scratch):
    need("e2fsck")
    store = Store(scratch)
    # Most file systems cannot hold a sparse file of 16 TiB; tmpfs can.
    memory = tempfile.TemporaryDirectory(prefix="msb-images-", dir="/dev/shm") if os.path.isdir("/dev/shm") else None
    for size in SIZES:
        path = f"{memory.name if memory else scratch}/disk"
        start = time.monotonic()
        store.run("mkfs-upper", path, str(size))
        taken = time.monotonic() - start
        check(os.path.getsize(path) == size, f"{size}: the file has {os.path.getsize(path)} bytes")
        used = os.stat(path).st_blocks * 512
        check(used <= 2 * MIB + size // 2048, f"{size}: {used} bytes are taken at once")
        check(taken < 2, f"{size}: took {taken:.1f} s")
        out = run("/usr/sbin/e2fsck", "-f", "-n", path, timeout=300).decode()
        check("WARNING" not in out and "Fix" not in out, f"{size}: {out}")
        os.unlink(path)


def case_it_grows(scratch):
    need("resize2fs")
    store = Store(scratch)
    path = f"{scratch}/disk"
    store.run("mkfs-upper", path, "64M")
    os.truncate(path, 300 * MIB)
    run("/usr/sbin/resize2fs", path, timeout=300)
    run("/usr/sbin/e2fsck", "-f", "-n", path)


def case_wrong_sizes_are_refused(scratch):
    store = Store(scratch)
    for size in ("0", "16777215", "17T", "16777217", "-1", "x"):
        done = store.call("mkfs-upper", f"{scratch}/disk", size)
        check(done.returncode in (1, 2), f"{size}: exit {done.returncode}")
        check(not os.path.exists(f"{scratch}/disk"), f"{size}: a file is left")
