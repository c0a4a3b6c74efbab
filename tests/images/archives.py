# SPDX-License-Identifier: Apache-2.0
"""load and save against the archives of skopeo, umoci and docker."""
import bz2
import gzip
import io
import json
import os
import tarfile

import torture
from support import PROGRAM, Image, Skipped, Store, check, digest, equal, need, run, tar_of, zstd

SMALL = tar_of([({"name": "etc/", "type": tarfile.DIRTYPE, "mode": 0o755}, b""),
                ({"name": "etc/motd", "mode": 0o644}, b"hello\n")])
SECOND = tar_of([({"name": "etc/.wh.motd"}, b""), ({"name": "bin/tool", "mode": 0o4755}, b"x" * 10000)])


def case_every_kind_of_archive_is_the_same_image(scratch):
    image = Image([SMALL, SECOND])
    archive = image.archive("localhost/a:1")
    kinds = {
        "plain": archive, "gzip": gzip.compress(archive), "zstd": zstd(archive),
        "two gzip members": gzip.compress(archive[:777]) + gzip.compress(archive[777:]),
        "docker": image.docker_archive("localhost/a:1"),
    }
    for kind, data in kinds.items():
        store = Store(scratch, kind.replace(" ", "_"))
        store.run("load", stdin=data)  # standard input
        record = store.record("localhost/a:1")
        equal(f"{kind}: config", record["config_digest"], image.config["digest"])
        equal(f"{kind}: layers", [layer["diff_id"] for layer in record["layers"]], [digest(SMALL), digest(SECOND)])
        if kind != "docker":
            equal(f"{kind}: manifest", record["manifest_digest"], image.manifest["digest"])
        store.sound()
    store = Store(scratch, "directory")
    store.run("load", "-i", image.layout(f"{scratch}/layout", "localhost/a:1"))
    equal("directory", store.record("localhost/a:1")["manifest_digest"], image.manifest["digest"])
    path = f"{scratch}/file.tar"
    with open(path, "wb") as file:
        file.write(archive)
    store = Store(scratch, "file")
    store.run("load", "-i", path, "-t", "other:2")
    equal("names", store.images()[0]["references"], ["docker.io/library/other:2", "localhost/a:1"])


def case_compressed_layers(scratch):
    for kind, compress in (("gzip", lambda data: gzip.compress(data, mtime=0)), ("zstd", zstd)):
        image = Image([SMALL, SECOND], compress)
        store = Store(scratch, kind)
        store.run("load", stdin=image.archive("localhost/a:1"))
        record = store.record("localhost/a:1")
        equal(f"{kind}: manifest", record["manifest_digest"], image.manifest["digest"])
        equal(f"{kind}: blobs", [layer["digest"] for layer in record["layers"]],
              [layer["digest"] for layer in image.layers])


def case_saved_archives_are_read_by_others(scratch):
    need("skopeo")
    image = Image([SMALL, SECOND], lambda data: gzip.compress(data, mtime=0))
    store = Store(scratch)
    store.run("load", stdin=image.archive("localhost/a:1"))
    path = f"{scratch}/saved.tar"
    store.run("save", "-o", path, "localhost/a:1")
    for transport in ("docker-archive", "oci-archive"):
        config = json.loads(run("skopeo", "inspect", "--config", "--raw", f"{transport}:{path}"))
        equal(f"{transport}: layers", config["rootfs"]["diff_ids"], [digest(SMALL), digest(SECOND)])
    target = f"{scratch}/layout"
    run("skopeo", "copy", "-q", f"docker-archive:{path}:localhost/a:1", f"oci:{target}:a")
    run("umoci", "unpack", "--image", f"{target}:a", f"{scratch}/bundle")
    equal("motd", os.path.exists(f"{scratch}/bundle/rootfs/etc/motd"), False)
    equal("mode", os.stat(f"{scratch}/bundle/rootfs/bin/tool").st_mode & 0o7777, 0o4755)


def case_archives_of_skopeo_and_umoci(scratch):
    need("skopeo")
    need("umoci")
    layout = f"{scratch}/umoci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:base")
    run("umoci", "unpack", "--image", f"{layout}:base", f"{scratch}/bundle")
    os.makedirs(f"{scratch}/bundle/rootfs/data")
    with open(f"{scratch}/bundle/rootfs/data/file", "w") as file:
        file.write("from umoci")
    run("umoci", "repack", "--image", f"{layout}:base", f"{scratch}/bundle")
    store = Store(scratch, "umoci_store")
    store.run("load", "-i", layout, "-t", "u:1")
    config = store.record("u:1")["config_digest"]
    for transport in ("docker-archive", "oci-archive"):
        path = f"{scratch}/{transport}.tar"
        run("skopeo", "copy", "-q", f"oci:{layout}:base", f"{transport}:{path}:localhost/u:2")
        store = Store(scratch, transport)
        store.run("load", "-i", path, "-t", "u:1")
        check(store.record("u:1")["layers"], f"{transport}: no layers")
        if transport == "oci-archive":
            equal("config", store.record("u:1")["config_digest"], config)


def case_save_reaches_what_it_is_given(scratch):
    """A file of another's in a directory of another's, for root; a pipe; a name in the working directory. No half archive stays."""
    store = Store(scratch)
    store.run("load", stdin=Image([SMALL]).archive("localhost/a:1"))
    archive = store.run("save", "localhost/a:1")
    os.makedirs(f"{scratch}/theirs")
    with open(f"{scratch}/theirs/saved.tar", "w"):
        pass
    if os.geteuid() == 0:
        os.chmod(f"{scratch}/theirs", 0o1755)
        for path in (f"{scratch}/theirs", f"{scratch}/theirs/saved.tar"):
            os.chown(path, 12345, 12345)
    store.run("save", "-o", f"{scratch}/theirs/saved.tar", "localhost/a:1")
    with open(f"{scratch}/theirs/saved.tar", "rb") as file:
        check(file.read() == archive, "the file differs")
    check(store.run("save", "-o", "/dev/stdout", "localhost/a:1") == archive, "what went through the pipe differs")
    run(PROGRAM, "save", "-o", "here.tar", "localhost/a:1", env=store.env, cwd=f"{scratch}/theirs")
    with open(f"{store.home}/images/layers/{digest(SMALL)[7:]}.split", "r+b") as file:
        file.truncate(3)
    for path in ("theirs/broken.tar", "none/saved.tar"):
        done = store.call("save", "-o", f"{scratch}/{path}", "localhost/a:1")
        equal(f"exit code of a save to {path}", done.returncode, 1)
    equal("files", sorted(os.listdir(f"{scratch}/theirs")), ["here.tar", "saved.tar"])


def case_round_trip_is_a_fixed_point(scratch):
    first = Image([SMALL, SECOND], lambda data: gzip.compress(data, mtime=0))
    second = Image([SMALL], config={"author": "other"})
    store = Store(scratch, "one")
    store.run("load", stdin=first.archive("localhost/a:1"))
    store.run("load", stdin=second.archive("localhost/b:1"))
    saved = store.run("save", "localhost/a:1", "localhost/b:1")
    again = Store(scratch, "two")
    again.run("load", stdin=saved)
    equal("names", [image["references"] for image in again.images()], [["localhost/b:1"], ["localhost/a:1"]])
    equal("config of a", again.record("localhost/a:1")["config_digest"], first.config["digest"])
    equal("manifest of b, which came uncompressed", again.record("localhost/b:1")["manifest_digest"],
          second.manifest["digest"])
    check(again.run("save", "localhost/a:1", "localhost/b:1") == saved, "saving what was saved gives other bytes")


def case_broken_archives_are_refused(scratch):
    store = Store(scratch)
    image = Image([SMALL])
    good = image.archive("localhost/a:1")
    store.refused("load", stdin=b"", says="neither index.json")
    store.refused("load", stdin=b"not a tar" * 200, says="checksum")
    store.refused("load", stdin=good[:3000], says="ends inside")
    store.refused("load", stdin=gzip.compress(good)[:-20], says="ends early")
    store.refused("load", stdin=bz2.compress(good))
    lying = Image([SMALL])
    lying.blobs[lying.layers[0]["digest"]] = SECOND
    store.refused("load", stdin=lying.archive("localhost/a:1"), says="another content than its digest")
    config = Image([SMALL], config={"rootfs": {"diff_ids": [digest(SECOND)]}})
    store.refused("load", stdin=config.archive("localhost/a:1"), says="but the config says")
    missing = Image([SMALL])
    del missing.blobs[missing.layers[0]["digest"]]
    store.refused("load", stdin=missing.archive("localhost/a:1"), says="is not in the archive")
    foreign = Image([SMALL]).archive("localhost/a:1").replace(b'"architecture": "amd64"', b'"architecture": "s390x"')
    store.refused("load", stdin=foreign)
    equal("images", store.images(), [])


def case_a_root_file_system_as_a_tar(scratch):
    need("skopeo")
    store = Store(scratch)
    for tar in (SECOND, gzip.compress(SECOND)):
        store.run("load", "--rootfs", "root:1", stdin=tar)
        record = store.record("root:1")
        equal("layer", [layer["diff_id"] for layer in record["layers"]], [digest(SECOND)])
        equal("command", record["config"]["cmd"], ["/bin/sh"])
    equal("images", len(store.images()), 1)
    store.sound()
    path = f"{scratch}/saved.tar"
    store.run("save", "-o", path, "root:1")
    run("skopeo", "inspect", f"oci-archive:{path}")
    store.refused("load", "--rootfs", "empty:1", stdin=bytes(10240), says="holds no files")
    store.refused("load", "--rootfs", "junk:1", stdin=b"junk" * 1000, says="checksum")


def case_a_directory_as_a_root(scratch):
    """Its layer, saved again and unpacked by GNU tar, is the directory."""
    if os.geteuid() != 0:
        raise Skipped("only root can make devices")
    tree = f"{scratch}/tree"
    os.makedirs(tree)
    run("tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=user.*", "-f", "-", "-C", tree, stdin=torture.base_layer())
    store = Store(scratch)
    store.run("load", "--rootfs", "tree:1", "-i", tree)
    digest_of_tree = store.record("tree:1")["manifest_digest"]
    store.run("load", "--rootfs", "again:1", "-i", tree)
    equal("digest", store.record("again:1")["manifest_digest"], digest_of_tree)
    layout = f"{scratch}/layout"
    os.makedirs(layout)
    run("tar", "-x", "-f", "-", "-C", layout, stdin=store.run("save", "tree:1"))
    os.makedirs(f"{scratch}/back")
    layer = store.record("tree:1")["layers"][0]["diff_id"][7:]
    run("tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=user.*", "-f", f"{layout}/blobs/sha256/{layer}", "-C", f"{scratch}/back")
    lines = torture.differences(torture.describe(f"{scratch}/back"), torture.describe(tree))
    check(not lines, "back / there:\n  " + "\n  ".join(lines))
    store.sound()


def headers_of_layer(store, scratch, name):
    """{path: PAX headers} of the one layer of an image, as save writes it."""
    layer = store.record(name)["layers"][0]["diff_id"][7:]
    with tarfile.open(fileobj=io.BytesIO(store.run("save", name))) as archive:
        inner = archive.extractfile(f"blobs/sha256/{layer}").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        return {member.name: member.pax_headers for member in tar}


def case_attributes_of_a_directory(scratch):
    """Of a file and of a link, which cannot be opened; the same for root and for whoever owns them."""
    if os.geteuid() != 0:
        raise Skipped("only root can give attributes to a link")
    tree = f"{scratch}/tree"
    os.makedirs(tree)
    with open(f"{tree}/file", "w"):
        pass
    os.symlink("nowhere", f"{tree}/link")
    for name in ("file", "link"):
        os.setxattr(f"{tree}/{name}", "security.msb", b"kept", follow_symlinks=False)
        os.setxattr(f"{tree}/{name}", "trusted.msb-test", b"left out", follow_symlinks=False)
    os.chmod(scratch, 0o755)
    for path in (tree, f"{tree}/file", f"{tree}/link"):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    store = Store(scratch)
    store.run("load", "--rootfs", "tree:1", "-i", tree)
    digest = store.record("tree:1")["manifest_digest"]
    for name, headers in headers_of_layer(store, scratch, "tree:1").items():
        wanted = {"SCHILY.xattr.security.msb": "kept"} if name in ("file", "link") else {}
        equal(f"attributes of {name}", {key: value for key, value in headers.items() if "xattr" in key}, wanted)
    theirs = Store(scratch, "theirs")
    os.makedirs(theirs.home, exist_ok=True)
    os.chown(theirs.home, 12345, 12345)
    run("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", PROGRAM, "load", "--rootfs", "tree:1", "-i", tree, env=theirs.env)
    equal("digest for its owner", theirs.record("tree:1")["manifest_digest"], digest)


def case_directories_that_are_no_root(scratch):
    store = Store(scratch)
    os.makedirs(f"{scratch}/tree")
    store.refused("load", "--rootfs", "bad:1", "-i", f"{scratch}/tree", says="the directory is empty")
    with open(f"{scratch}/tree/.wh.file", "w"):
        pass
    store.refused("load", "--rootfs", "bad:1", "-i", f"{scratch}/tree", says='".wh.file"')
    store.refused("load", "--rootfs", "bad:1", "--max-entries", "1", "-i", f"{scratch}", says="more than 1")
    done = store.call("load", "--disk", "bad:1", "-i", f"{scratch}/tree")
    check(b"is a directory: --rootfs takes it" in done.stderr, Store.said(done))
    equal("images", store.images(), [])
    equal("left in tmp/", os.listdir(f"{store.home}/images/tmp"), [])


def case_list_tag_remove_prune(scratch):
    store = Store(scratch)
    store.run("load", stdin=Image([SMALL, SECOND]).archive("localhost/a:1"))
    store.run("load", stdin=Image([SMALL], config={"author": "b"}).archive("localhost/b:1"))
    store.run("tag", "localhost/a:1", "again:2")
    store.run("rm", "localhost/a:1")
    check(store.record("again:2")["layers"], "the image went with its first name")
    user = f"{store.home}/sandboxes/box"
    os.makedirs(user)
    with open(f"{user}/spec.json", "w") as file:
        json.dump({"image": {"manifest_digest": store.record("again:2")["manifest_digest"]}}, file)
    equal("used by", store.record("again:2")["used_by"], ["box"])
    store.refused("rm", "again:2", says="needed by sandbox box")
    plan = json.loads(store.run("prune", "--all", "--dry-run", "--json"))
    equal("would go", plan["references"], ["localhost/b:1"])
    equal("still there", len(store.images()), 2)
    store.run("prune", "--all")
    equal("left", [image["references"] for image in store.images()], [["docker.io/library/again:2"]])
    store.sound()
    os.unlink(f"{user}/spec.json")
    store.run("prune", "--all", "--older-than", "1d")
    equal("too young to go", len(store.images()), 1)
    store.run("prune", "--all", "--keep-size", "1G")
    equal("small enough to stay", len(store.images()), 1)
    store.run("prune", "--all")
    left = [name for _, _, names in os.walk(f"{store.home}/images") for name in names]
    equal("files left", left, ["lock"])
