# SPDX-License-Identifier: Apache-2.0
"""The tree a kernel sees in our disks against what tar and umoci unpack: byte for byte, attribute for attribute. Needs
root and a kernel with EROFS: tools/lab has both."""
import contextlib
import gzip
import os
import subprocess
import tempfile

import torture
from support import Image, Skipped, Store, check, need, run


@contextlib.contextmanager
def mounted(disk, target):
    subprocess.run(["modprobe", "-a", "erofs", "loop", "overlay"], stderr=subprocess.DEVNULL, check=False)
    os.makedirs(target, exist_ok=True)
    done = subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop", disk, target], capture_output=True)
    if done.returncode != 0:
        with open("/proc/filesystems") as file:
            if "erofs" not in file.read():
                raise Skipped("this kernel has no EROFS")
        check(False, f"mount: {done.stderr.decode()}")
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


@contextlib.contextmanager
def disk_with_attributes():
    """A directory on ext4, which keeps every attribute that a tmpfs may not."""
    with tempfile.TemporaryDirectory(prefix="msb-ext4-") as scratch:
        image = f"{scratch}/disk"
        subprocess.run(["modprobe", "-a", "loop", "ext4"], stderr=subprocess.DEVNULL, check=False)
        run("truncate", "-s", "512M", image)
        run("/usr/sbin/mkfs.ext4", "-q", "-I", "256", image)
        os.makedirs(f"{scratch}/mount")
        done = subprocess.run(["mount", "-o", "loop", image, f"{scratch}/mount"], capture_output=True)
        if done.returncode != 0:
            raise Skipped("no loop devices here")
        try:
            os.makedirs(f"{scratch}/mount/work")
            yield f"{scratch}/mount/work"
        finally:
            subprocess.run(["umount", f"{scratch}/mount"], check=True)


def seen(scratch, image, name):
    """The tree of `image` as the kernel shows it."""
    store = Store(scratch, name)
    store.run("load", stdin=image.archive("localhost/t:1"))
    disk = store.root_disk("localhost/t:1", f"{scratch}/{name}.erofs")
    run("fsck.erofs", disk)
    with mounted(disk, f"{scratch}/{name}.root") as root:
        return torture.describe(root)


def compare(got, expected):
    lines = torture.differences(got, expected)
    check(not lines, f"{len(lines)} differences (ours / theirs):\n  " + "\n  ".join(lines))


def case_one_layer_as_tar_unpacks_it(scratch):
    tar = torture.base_layer()
    with disk_with_attributes() as work:
        run("tar", "-x", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-f", "-", "-C", work, stdin=tar)
        expected = torture.describe(work)
    compare(seen(scratch, Image([tar]), "one"), expected)


def without_trusted(tree):
    return {path: {**entry, "xattrs": {name: value for name, value in entry["xattrs"].items() if not name.startswith("trusted.")}}
            for path, entry in tree.items()}


def case_a_directory_as_it_is(scratch):
    """All of it, and the same as tar packs it; but attributes of root's own only in the tar."""
    store = Store(scratch)
    with disk_with_attributes() as work:
        run("tar", "-x", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-f", "-", "-C", work, stdin=torture.base_layer())
        expected = torture.describe(work)
        store.run("load", "--rootfs", "walked:1", "-i", work)
        packed = run("tar", "-c", "--xattrs", "--xattrs-include=*", "--format=posix", "-S", "-C", work, ".")
    store.run("load", "--rootfs", "packed:1", stdin=packed)
    for name in ("walked", "packed"):
        disk = store.root_disk(f"{name}:1", f"{scratch}/{name}.erofs")
        run("fsck.erofs", disk)
        with mounted(disk, f"{scratch}/{name}.root") as root:
            compare(torture.describe(root), expected if name == "packed" else without_trusted(expected))


def case_three_layers_as_umoci_unpacks_them(scratch):
    need("umoci")
    image = Image([torture.base_layer(for_go=True), *torture.upper_layers()], lambda tar: gzip.compress(tar, 1))
    with disk_with_attributes() as work:
        layout = image.layout(f"{scratch}/layout", "t:1")
        run("umoci", "raw", "unpack", "--image", f"{layout}:1", f"{work}/root")
        expected = torture.describe(f"{work}/root")
    got = seen(scratch, image, "three")
    # umoci leaves on the root the time at which it wrote the later layers.
    del got[b""]["mtime"], expected[b""]["mtime"]
    compare(got, expected)


def case_under_overlayfs(scratch):
    """As a sandbox mounts it: the same tree, and its root's attributes too."""
    image = Image([torture.base_layer(), *torture.upper_layers()])
    store = Store(scratch)
    store.run("load", stdin=image.archive("localhost/t:1"))
    disk = store.root_disk("localhost/t:1", f"{scratch}/disk")
    store.run("mkfs-upper", f"{scratch}/upper.ext4", "64M")
    with mounted(disk, f"{scratch}/lower") as lower:
        expected = torture.describe(lower)
        os.makedirs(f"{scratch}/upper")
        os.makedirs(f"{scratch}/merged")
        run("mount", "-o", "loop", f"{scratch}/upper.ext4", f"{scratch}/upper")
        try:
            run("mount", "-t", "overlay", "overlay", "-o",
                f"lowerdir={lower},upperdir={scratch}/upper/upper,workdir={scratch}/upper/work", f"{scratch}/merged")
            try:
                got = torture.describe(f"{scratch}/merged")
            finally:
                run("umount", f"{scratch}/merged")
        finally:
            run("umount", f"{scratch}/upper")
    # The root itself is the upper's; what the guest makes of it is the agent's business.
    got.pop(b"")
    expected.pop(b"")
    compare(got, expected)
