# SPDX-License-Identifier: Apache-2.0
"""The part of debian.py that runs in the lab: the tree of MSB_DEBIAN_TAR as our disk shows it against what tar unpacks."""
import os

import torture
from differential import compare, disk_with_attributes, mounted
from support import Store, check, run


def tar():
    with open(os.environ["MSB_DEBIAN_TAR"], "rb") as file:
        return file.read()


def case_as_tar_unpacks_it(scratch):
    store = Store(scratch)
    store.run("load", "--rootfs", "localhost/debian:1", stdin=tar())
    with disk_with_attributes() as work:
        run("tar", "-x", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-f", os.environ["MSB_DEBIAN_TAR"], "-C", work)
        expected = torture.describe(work)
    check(len(expected) > 3000, f"only {len(expected)} files")
    disk = store.root_disk("localhost/debian:1", f"{scratch}/disk")
    run("fsck.erofs", disk)
    with mounted(disk, f"{scratch}/root") as root:
        compare(torture.describe(root), expected)
