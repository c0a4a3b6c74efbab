# SPDX-License-Identifier: Apache-2.0
"""Roots from disk images: every form that qemu-img writes gives the same disk, and what cannot be a root says so."""
import os
import random
import struct

from support import Store, check, equal, need, run

MIB = 1 << 20
FORMS = {
    "raw": ["-O", "raw"],
    "v3": ["-O", "qcow2"],
    "v2": ["-O", "qcow2", "-o", "compat=0.10"],
    "deflate": ["-c", "-O", "qcow2"],
    "zstd": ["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
    "small-clusters": ["-O", "qcow2", "-o", "cluster_size=512"],
    "large-clusters": ["-c", "-O", "qcow2", "-o", "cluster_size=2M"],
    "preallocated": ["-O", "qcow2", "-o", "preallocation=metadata"],
}


def make_ext4(path, tree, megabytes=24):
    run("/usr/sbin/mkfs.ext4", "-q", "-F", "-d", tree, path, f"{megabytes}M")
    return path


def make_tree(scratch):
    tree = f"{scratch}/tree"
    os.makedirs(f"{tree}/etc")
    chance = random.Random(4)
    for name, content in (("noise", chance.randbytes(3 * MIB + 5)), ("text", b"line\n" * 400_000), ("empty", b"")):
        with open(f"{tree}/etc/{name}", "wb") as file:
            file.write(content)
    return tree


def case_every_form_gives_the_same_disk(scratch):
    need("qemu-img")
    raw = make_ext4(f"{scratch}/raw", make_tree(scratch))
    with open(raw, "rb") as file:
        content = file.read()
    store = Store(scratch)
    digests = set()
    for name, form in FORMS.items():
        image = f"{scratch}/{name}.img"
        run("qemu-img", "convert", "-f", "raw", *form, raw, image)
        store.run("load", "--disk", f"{name}:1", "-i", image)
        digests.add(store.record(f"{name}:1")["manifest_digest"])
        [disk] = store.extents(store.record(f"{name}:1")["manifest_digest"])
        with open(disk, "rb") as file:
            check(file.read() == content, f"{name}: the disk is not the one that was converted")
    equal("images", len(digests), 1)
    equal("disks", len(os.listdir(f"{store.home}/images/disks")), 1)
    check(os.stat(disk).st_blocks * 512 < 12 * MIB, "blocks of zeros are stored")
    store.sound()
    store.refused("save", "raw:1", says="came as a disk image")
    for name in FORMS:
        store.run("rm", f"{name}:1")
    equal("disks left", os.listdir(f"{store.home}/images/disks"), [])


def case_a_snapshot_is_passed_over(scratch):
    need("qemu-img")
    raw = make_ext4(f"{scratch}/raw", make_tree(scratch))
    image = f"{scratch}/image"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    run("qemu-img", "snapshot", "-c", "before", image)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 7 {20 * MIB} 64k", image)
    store = Store(scratch)
    store.run("load", "--disk", "now:1", "-i", image)
    [disk] = store.extents(store.record("now:1")["manifest_digest"])
    with open(disk, "rb") as file:
        file.seek(20 * MIB)
        equal("what was written after the snapshot", file.read(64 << 10), b"\x07" * (64 << 10))


def case_a_damaged_disk_is_found(scratch):
    raw = make_ext4(f"{scratch}/raw", make_tree(scratch))
    store = Store(scratch)
    store.run("load", "--disk", "it:1", "-i", raw)
    [disk] = store.extents(store.record("it:1")["manifest_digest"])
    with open(disk, "r+b") as file:
        file.seek(5000)
        file.write(b"x")
    done = store.call("verify")
    equal("exit", done.returncode, 1)
    check(b"damaged disks/" in done.stdout, done.stdout.decode())


def partitioned(path, file_system, label, kind):
    """A disk with a table and one partition that holds `file_system`."""
    size = os.path.getsize(file_system)
    with open(path, "wb") as out:
        out.truncate(size + 4 * MIB)
    run("/usr/sbin/sfdisk", "-q", path, stdin=f"label: {label}\nstart=2048, size={size // 512}, type={kind}\n".encode())
    with open(path, "r+b") as out, open(file_system, "rb") as content:
        out.seek(2048 * 512)
        out.write(content.read())


def case_what_cannot_be_a_root_says_why(scratch):
    need("qemu-img")
    need("sfdisk")
    raw = make_ext4(f"{scratch}/raw", make_tree(scratch))
    store = Store(scratch)

    def refused(image, says):
        store.refused("load", "--disk", "bad:1", "-i", image, says=says)

    def patched(name, offset, data):
        with open(raw, "rb") as file:
            content = bytearray(file.read())
        content[offset:offset + len(data)] = data
        with open(f"{scratch}/{name}", "wb") as file:
            file.write(content)
        return f"{scratch}/{name}"

    over = f"{scratch}/over"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", over)
    refused(over, "backing file")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={scratch}/data", f"{scratch}/external", "8M")
    refused(f"{scratch}/external", "another file")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", f"{scratch}/extended", "8M")
    refused(f"{scratch}/extended", "extended L2")
    cut = f"{scratch}/cut"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, cut)
    os.truncate(cut, os.path.getsize(cut) - 200_000)
    refused(cut, "past the file's end")
    with open(raw, "rb") as file:
        file.seek(1024 + 0x60)
        features = struct.unpack("<I", file.read(4))[0]
    refused(patched("unclean", 1024 + 0x60, struct.pack("<I", features | 4)), "not unmounted")
    nothing = f"{scratch}/nothing"
    with open(nothing, "wb") as file:
        file.truncate(8 * MIB)
    refused(nothing, "no file system")
    with open(nothing, "r+b") as file:
        file.seek(510)
        file.write(b"\x55\xaaEFI PART")
    refused(nothing, "partition table")
    with open(nothing, "r+b") as file:
        file.write(bytes(1024))
    for kind, label in (("dos", "83"), ("gpt", "linux")):
        partitioned(nothing, raw, kind, label)
        refused(nothing, "dd if=FILE")
        # What the message says leads to a root.
        _, start, sectors, *_ = run("/usr/sbin/sfdisk", "-l", "-q", "-o", "Device,Start,Sectors,Type", nothing).decode().splitlines()[1].split()
        run("dd", f"if={nothing}", f"of={scratch}/part", "bs=512", f"skip={start}", f"count={sectors}", "conv=sparse", "status=none")
        store.run("load", "--disk", "part:1", "-i", f"{scratch}/part")
        [disk] = store.extents(store.record("part:1")["manifest_digest"])
        with open(disk, "rb") as ours, open(raw, "rb") as theirs:
            check(ours.read() == theirs.read(), f"{kind}: the partition is another one")
    os.truncate(nothing, 100)
    refused(nothing, "smaller than a block")
    store.refused("load", "--disk", "bad:1", "--max-layer-size", "1M", "-i", raw, says="holds more than")
    store.refused("load", "--disk", "bad:1", "--max-image-size", "1M", "-i", raw, says="more than")
    equal("left in tmp/", os.listdir(f"{store.home}/images/tmp"), [])
    done = store.call("load", "--disk", "bad:1", stdin=b"piped")
    check(b"must be a file" in done.stderr, Store.said(done))
