# SPDX-License-Identifier: Apache-2.0
"""Layers that lie, lead astray or ask for too much: a clear refusal or the safe reading, never more."""
import gzip
import os
import resource
import subprocess
import tarfile

from support import Image, PROGRAM, Store, check, equal, tar_of, zstd

SYM, LNK, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def load(store, tar, *options):
    return store.call("load", *options, stdin=Image([tar]).archive("localhost/h:1"))


def case_refused(scratch):
    store = Store(scratch)
    outside = f"{scratch}/outside"
    os.makedirs(outside)
    cases = {
        "upwards": ([({"name": "../../outside/x"}, b"x")], "leads upwards"),
        "upwards inside": ([({"name": "a/../../x"}, b"x")], "leads upwards"),
        "below a file": ([({"name": "f"}, b""), ({"name": "f/x"}, b"x")], "not a directory"),
        "a circle of links": ([({"name": "a", "type": SYM, "linkname": "b"}, b""),
                               ({"name": "b", "type": SYM, "linkname": "a"}, b""), ({"name": "a/x"}, b"x")],
                              "too many symbolic links"),
        "a hard link upwards": ([({"name": "h", "type": LNK, "linkname": "../outside"}, b"")], "leads upwards"),
        "a hard link to nothing": ([({"name": "h", "type": LNK, "linkname": "nothing"}, b"")], "no layer has"),
        "a hard link to a directory": ([({"name": "d", "type": DIR}, b""),
                                        ({"name": "h", "type": LNK, "linkname": "d"}, b"")], "directory"),
        "a whiteout of no name": ([({"name": ".wh."}, b"")], "whiteout of no name"),
        "a whiteout upwards": ([({"name": ".wh..."}, b"")], "whiteout of no name"),
        "below a whiteout": ([({"name": ".wh.d/x"}, b"x")], "below a whiteout"),
        "a name too long": ([({"name": "n" * 256}, b"")], "255"),
        "a size that lies": ([({"name": "f", "pax_headers": {"size": "99999"}}, b"x")], ""),
        "a negative sparse map": ([({"name": "f", "pax_headers": {"GNU.sparse.size": "10", "GNU.sparse.map": "-1,1"}},
                                    b"x")], "not a number"),
        "a sparse map that lies": ([({"name": "f", "pax_headers": {"GNU.sparse.size": "10", "GNU.sparse.map": "0,9"}},
                                     b"x")], "account for"),
        "a type nobody knows": ([({"name": "f", "type": b"Z"}, b"")], "do not agree"),
    }
    for what, (members, says) in cases.items():
        done = load(store, tar_of(members))
        said = store.said(done)
        check(done.returncode == 1 and says in said, f"{what}: exit {done.returncode}: {said}")
    equal("images", store.images(), [])
    equal("outside", os.listdir(outside), [])
    store.sound()


def case_read_safely(scratch):
    store = Store(scratch)
    tar = tar_of([({"name": "etc", "type": DIR, "mode": 0o755}, b""),
                  ({"name": "out", "type": SYM, "linkname": "/../../../etc"}, b""),
                  ({"name": "out/passwd"}, b"root"), ({"name": "/absolute"}, b"a"),
                  ({"name": "twice"}, b"one"), ({"name": "twice"}, b"two two")])
    done = load(store, tar)
    check(done.returncode == 0, store.said(done))
    disk = store.root_disk("localhost/h:1", f"{scratch}/disk")
    listing = subprocess.run(["dump.erofs", "--path=/etc/passwd", disk], capture_output=True, text=True)
    check("4" in listing.stdout and listing.returncode == 0, f"etc/passwd: {listing.stdout} {listing.stderr}")


def case_bombs_end_at_the_limits(scratch):
    store = Store(scratch)
    zeros = bytes(64 << 20)
    bomb = Image([tar_of([({"name": "zeros"}, zeros)])], lambda tar: gzip.compress(tar, 1))
    store.refused("load", "--max-layer-size", "16M", stdin=bomb.archive("localhost/h:1"), says="longer than")
    store.refused("load", "--max-file-size", "16M", stdin=bomb.archive("localhost/h:1"), says="a file of")
    store.refused("load", "--max-image-size", "16M", stdin=bomb.archive("localhost/h:1"), says="more than")
    many = tar_of([({"name": f"f{i}"}, b"") for i in range(2000)], tarfile.USTAR_FORMAT)
    store.refused("load", "--max-entries", "1000", stdin=Image([many]).archive("localhost/h:1"), says="more than 1000")
    deep = tar_of([({"name": "d/" * 2000 + "f"}, b"")], tarfile.GNU_FORMAT)
    done = load(store, deep)
    check(done.returncode == 0, f"a depth that PATH_MAX allows: {store.said(done)}")
    store.run("rm", "localhost/h:1")
    store.refused("load", stdin=Image([tar_of([({"name": "d/" * 2100 + "f"}, b"")])]).archive("localhost/h:1"),
                  says="longer than 4096")


def case_memory_stays_bounded(scratch):
    """A gigabyte of zeros in a few kilobytes, and JSON that is mostly brackets: no process of ours grows with it."""
    store = Store(scratch)
    path = f"{scratch}/bomb.tar"
    layer = tar_of([({"name": "zeros"}, bytes(256 << 20))], tarfile.GNU_FORMAT)
    with open(path, "wb") as file:
        file.write(Image([layer], zstd).archive("localhost/h:1"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    code = ("import resource,subprocess,sys\n"
            "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
            "print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    out = subprocess.run(["python3", "-c", code, PROGRAM, "load", "-i", path], capture_output=True, text=True,
                         env=store.env, check=True).stdout.split()
    equal("exit", out[0], "0")
    check(int(out[1]) < 64 << 10, f"{int(out[1]) >> 10} MiB at the peak (before: {before >> 10})")
    store.refused("load", stdin=tar_of([({"name": "index.json"}, b"[" * 1_000_000)]), says="index.json")


def case_truncated_at_every_block(scratch):
    store = Store(scratch)
    tar = tar_of([({"name": "a"}, b"x" * 700), ({"name": "l", "type": SYM, "linkname": "a"}, b""),
                  ({"name": "n" * 200, "pax_headers": {"SCHILY.xattr.user.a": "b"}}, b"y")])
    for length in range(256, len(tar) - 1024, 512):
        done = load(store, tar[:length])
        check(done.returncode == 1, f"cut at {length}: exit {done.returncode}: {store.said(done)}")
    store.sound()
