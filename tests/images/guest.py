# SPDX-License-Identifier: Apache-2.0
"""The same trees inside a sandbox, as its own kernel and overlayfs show them. Needs working KVM: tools/lab has it."""
import fcntl
import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import time

import torture
from support import TOP, Image, Store, check, equal, need, run

BUILD = os.environ.get("MSB_BUILD", os.path.join(TOP, "build"))
MSB = os.path.join(BUILD, "bin/msb")
# What the guest's busybox can tell of a file: name, type and mode, owners, size, time, device.
STAT = "stat -c '%n|%f|%u|%g|%s|%Y|%t|%T'"
LOOK = ("for d in bin dev etc acl-dir links names sizes sparse0.0-some sparse0.0-hole sparse0.1-many sparse1.0-some "
        "sparsegnu-some times attrs many deep*; do find /t/$d; done | sort | while IFS= read -r f; do " + STAT +
        " \"$f\"; [ -f \"$f\" ] && [ ! -L \"$f\" ] && sha256sum < \"$f\"; done; true")


def default_layer():
    """The only layer of the image that comes with msb, as a tar: it has the busybox."""
    with open(os.path.join(BUILD, "share/msb/default-image.oci.tar"), "rb") as file:
        data = file.read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        index = json.load(archive.extractfile("index.json"))
        manifest = json.load(archive.extractfile("blobs/sha256/" + index["manifests"][0]["digest"][7:]))
        return archive.extractfile("blobs/sha256/" + manifest["layers"][0]["digest"][7:]).read()


def msb(store, *words, timeout=120):
    done = subprocess.run([MSB, *words], env=store.env, capture_output=True, timeout=timeout)
    check(done.returncode == 0, f"msb {words[0]}: exit {done.returncode}: {done.stderr.decode()[-500:]}")
    return done.stdout


def case_the_guest_sees_what_tar_unpacks(scratch):
    tar = torture.base_layer(prefix="t/")  # below t/, so that the root stays a system that boots
    store = Store(scratch)
    root = torture.tar_of([({"name": "./", "type": torture.DIR, "mode": 0o1751, "uid": 3, "gid": 4, "mtime": 1000000000,
                             "pax_headers": torture.xattrs({"user.of-root": b"yes"})}, b"")])
    store.run("load", stdin=Image([default_layer(), tar, root]).archive("localhost/t:1"))
    os.makedirs(f"{scratch}/x")
    subprocess.run(["tar", "-x", "-p", "--numeric-owner", "-C", f"{scratch}/x"], input=tar, check=True, capture_output=True)
    look = LOOK.replace("/t/", f"{scratch}/x/t/")
    expected = subprocess.run(["busybox", "sh", "-c", look], capture_output=True, check=True).stdout
    expected = expected.replace(f"{scratch}/x/".encode(), b"/")
    got = msb(store, "run", "-q", "--no-net", "localhost/t:1", "--", "sh", "-c", LOOK)
    ours, theirs = got.split(b"\n"), expected.split(b"\n")
    check(len(theirs) > 1000, f"only {len(theirs)} lines to compare")
    # A directory's size is its file system's own business.
    wrong = [(a, b) for a, b in zip(ours, theirs)
             if a != b and not (b"|41" in b and [*a.split(b"|")[:4], *a.split(b"|")[5:]] == [*b.split(b"|")[:4], *b.split(b"|")[5:]])]
    check(not wrong and len(ours) == len(theirs), f"{len(wrong)} lines differ, such as {wrong[:3]}")
    equal("the root", msb(store, "run", "-q", "--no-net", "localhost/t:1", "--", "stat", "-c", "%a %u %g", "/"),
          b"1751 3 4\n")


def case_disk_images_are_roots(scratch):
    need("qemu-img")
    tree = f"{scratch}/tree"
    os.makedirs(tree)
    run("tar", "-x", "-p", "--numeric-owner", "-C", tree, stdin=default_layer())
    with open(f"{tree}/large", "wb") as file:
        file.write(random.Random(5).randbytes(5 << 20))
    os.chown(f"{tree}/large", 70000, 80000)
    with open(f"{tree}/large", "rb") as file:
        expected = hashlib.sha256(file.read()).hexdigest()
    run("/usr/sbin/mkfs.ext4", "-q", "-F", "-d", tree, f"{scratch}/raw", "32M")
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", f"{scratch}/raw", f"{scratch}/qcow2")
    run("mksquashfs", tree, f"{scratch}/squash", "-quiet", "-noappend", "-comp", "gzip")
    store = Store(scratch)
    for form in ("raw", "qcow2", "squash"):
        store.run("load", "--disk", f"{form}:1", "-i", f"{scratch}/{form}")
        got = msb(store, "run", "-q", "--no-net", f"{form}:1", "--", "sh", "-c",
                  "sha256sum < /large; stat -c '%u %g' /large; echo new > /written && cat /written")
        equal(form, got.decode().split(), [expected, "-", "70000", "80000", "new"])


def case_creating_waits_for_a_collector(scratch):
    store = Store(scratch)
    store.run("load", stdin=Image([default_layer()]).archive("localhost/t:1"))
    with open(f"{store.home}/images/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen([MSB, "create", "-q", "--no-net", "--name", "box", "localhost/t:1"], env=store.env,
                                 stdout=subprocess.DEVNULL)
        time.sleep(3)
        equal("waits", child.poll(), None)
    equal("exit", child.wait(timeout=60), 0)
    store.refused("rm", "localhost/t:1", says="needed by sandbox box")
    store.run("prune", "--all")
    equal("kept", len(store.images()), 1)
    msb(store, "rm", "-f", "box")
    store.run("rm", "localhost/t:1")
    equal("left", store.images(), [])
