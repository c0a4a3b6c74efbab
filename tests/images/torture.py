# SPDX-License-Identifier: Apache-2.0
"""Layers of everything a file system can hold, and trees described so that two can be compared."""
import hashlib
import os
import stat
import struct
import tarfile
import tempfile

from support import run, tar_of

DIR, SYM, LNK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHR, BLK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE


def xattrs(values):
    """PAX records of extended attributes; bytes pass through tarfile as surrogates."""
    return {"SCHILY.xattr." + name: value.decode("utf-8", "surrogateescape") for name, value in values.items()}


# VFS capability revision 2: CAP_NET_RAW effective and permitted.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
# POSIX ACL, version 2: user::rwx, user:1234:r--, group::r-x, mask::r-x, other::---
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, who) for tag, perm, who in (
    (0x01, 7, 0xFFFFFFFF), (0x02, 4, 1234), (0x04, 5, 0xFFFFFFFF), (0x10, 5, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)))


def sparse_members(old_gnu, prefix):
    """Files with holes in every format that GNU tar writes, as the bytes of their entries."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, size, pieces in (("some", 5_000_000, [(0, b"start"), (1_234_567, b"middle" * 1000), (4_999_996, b"end!")]),
                                   ("hole", 700_000, []), ("many", 2_000_000, [(i * 65536, b"%d" % i) for i in range(30)])):
            with open(f"{scratch}/{name}", "wb") as file:
                file.truncate(size)
                for offset, data in pieces:
                    file.seek(offset)
                    file.write(data)
        out = b""
        forms = [["--format=posix", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0")]
        for form in forms + ([["--format=gnu"]] if old_gnu else []):
            kind = "sparse" + form[-1][-3:]
            out += run("tar", "-c", "-S", "-b", "1", "--mtime=@5", "--owner=0", "--group=0", *form,
                       f"--transform=s|^|{prefix}{kind}-|", "-C", scratch, "some", "hole", "many")[:-1024]
    return out


def base_layer(for_go=False, prefix=""):
    """for_go: without the two things that Go's reader, which umoci uses, cannot read: empty attributes, old GNU maps."""
    long_name = "n" * 255
    deep = ["/".join(["deep" * 20] * depth) for depth in range(1, 13)]
    members = [
        ({"name": "./", "type": DIR, "mode": 0o751, "uid": 3, "gid": 4, "mtime": 1000000000}, b""),
        ({"name": "etc", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
        ({"name": "etc/big-owner", "uid": 70000, "gid": 4000000000, "mode": 0o640, "mtime": 7}, b"owner"),
        ({"name": "etc/empty", "mode": 0, "mtime": 7}, b""),
        ({"name": "bin", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
        ({"name": "bin/setuid", "mode": 0o4755, "uid": 0, "mtime": 7}, b"#!"),
        ({"name": "bin/setgid", "mode": 0o2755, "gid": 50, "mtime": 7}, b"#!"),
        ({"name": "bin/capable", "mode": 0o755, "mtime": 7, "pax_headers": xattrs({"security.capability": CAPABILITY})},
         b"#!"),
        ({"name": "tmp", "type": DIR, "mode": 0o1777, "mtime": 7}, b""),
        ({"name": "links", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
        ({"name": "links/one", "mode": 0o644, "mtime": 7, "pax_headers": xattrs({"user.shared": b"yes"})}, b"linked"),
        ({"name": "links/two", "type": LNK, "linkname": "links/one"}, b""),
        ({"name": "links/far", "type": SYM, "linkname": "/" + "t" * 300, "mtime": 8}, b""),
        ({"name": "links/dangling", "type": SYM, "linkname": "../nowhere", "uid": 9, "mtime": 8}, b""),
        ({"name": "dev", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
        ({"name": "dev/null", "type": CHR, "devmajor": 1, "devminor": 3, "mode": 0o666, "mtime": 7}, b""),
        ({"name": "dev/big", "type": BLK, "devmajor": 259, "devminor": 65793, "mode": 0o660, "mtime": 7}, b""),
        ({"name": "dev/fifo", "type": FIFO, "mode": 0o600, "mtime": 7}, b""),
        ({"name": "times", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
        ({"name": "times/ns", "mtime": 1234567890.5, "mode": 0o644,
          "pax_headers": {"mtime": "1234567890.123456789"}}, b""),
        ({"name": "times/before-1970", "mode": 0o644, "pax_headers": {"mtime": "-86400.25"}}, b""),
        ({"name": "times/after-2038", "mode": 0o644, "pax_headers": {"mtime": "5000000000"}}, b""),
        ({"name": "names", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
        ({"name": "names/" + long_name, "mode": 0o644, "mtime": 7}, b"long"),
        ({"name": "names/" + b"\xff\xfe not utf-8".decode("utf-8", "surrogateescape"), "mode": 0o644, "mtime": 7}, b"raw"),
        ({"name": "names/ spaces\tand\nlines", "mode": 0o644, "mtime": 7}, b"odd"),
        *(({"name": name, "type": DIR, "mode": 0o755, "mtime": 7}, b"") for name in deep),
        ({"name": deep[-1] + "/leaf", "mode": 0o644, "mtime": 7}, b"leaf"),
        ({"name": "acl", "mode": 0o750, "mtime": 7, "pax_headers": xattrs({"system.posix_acl_access": ACL})}, b"acl"),
        ({"name": "acl-dir", "type": DIR, "mode": 0o750, "mtime": 7,
          "pax_headers": xattrs({"system.posix_acl_default": ACL})}, b""),
        ({"name": "attrs", "mode": 0o644, "mtime": 7, "pax_headers": xattrs(
            {"user.text": b"value", **({} if for_go else {"user.empty": b""}), "user.bytes": bytes(range(1, 256)), "trusted.own": b"t",
             "user.large": b"x" * 3000})}, b""),
        ({"name": "sizes", "type": DIR, "mode": 0o755, "mtime": 7}, b""),
    ]
    for size in (1, 511, 512, 513, 4095, 4096, 4097, 300_000):
        members.append(({"name": f"sizes/{size}", "mode": 0o644, "mtime": 7}, bytes(i * 7 % 251 for i in range(size))))
    members.append(({"name": "many", "type": DIR, "mode": 0o755, "mtime": 7}, b""))
    members += [({"name": f"many/{i:05}-{'x' * (i % 100)}", "mode": 0o644, "mtime": i}, b"") for i in range(600)]
    for fields, _ in members:
        fields["name"] = prefix + fields["name"]
        if fields.get("type") == LNK:
            fields["linkname"] = prefix + fields["linkname"]
    return sparse_members(old_gnu=not for_go, prefix=prefix) + tar_of(members)


def upper_layers():
    """Two layers over it: whiteouts, opaque directories, kinds that change, links to what lies below."""
    second = tar_of([
        ({"name": "etc/.wh.empty"}, b""),
        ({"name": "many/.wh..wh..opq"}, b""),
        ({"name": "many/only", "mode": 0o644, "mtime": 9}, b"left"),
        ({"name": "tmp", "type": DIR, "mode": 0o700, "uid": 5, "mtime": 9}, b""),
        ({"name": "bin/setuid", "type": DIR, "mode": 0o755, "mtime": 9}, b""),
        ({"name": "bin/setuid/inside", "mode": 0o644, "mtime": 9}, b"now a directory"),
        ({"name": "links/three", "type": LNK, "linkname": "links/one"}, b""),
        ({"name": ".wh.acl"}, b""),
    ])
    third = tar_of([
        ({"name": "etc/empty", "mode": 0o600, "mtime": 10}, b"back again"),
        ({"name": ".wh.times"}, b""),
        ({"name": "names", "mode": 0o644, "mtime": 10}, b"a directory became a file"),
    ])
    return [second, third]


def describe(root):
    """Everything below `root` by path: kind, mode, owners, times, sizes, devices, content, attributes, link groups."""
    inodes, out = {}, {}

    def visit(path, shown):
        st = os.lstat(path)
        kind = stat.S_IFMT(st.st_mode)
        entry = {"mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid), "mtime": st.st_mtime_ns}
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry["device"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
        if kind == stat.S_IFLNK:
            entry["target"] = os.readlink(path)
        if kind == stat.S_IFREG:
            with open(path, "rb") as file:
                entry["size"], entry["sha256"] = st.st_size, hashlib.sha256(file.read()).hexdigest()
        if kind != stat.S_IFDIR:
            entry["links"] = st.st_nlink
            entry["same as"] = inodes.setdefault(st.st_ino, shown)
        names = sorted(os.listxattr(path, follow_symlinks=False))
        entry["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in names
                           if not name.startswith("trusted.overlay.")}
        out[shown] = entry
        if kind == stat.S_IFDIR:
            for name in sorted(os.listdir(path)):
                visit(os.path.join(path, name), os.path.join(shown, name))

    visit(os.fsencode(root), b"")
    return out


def differences(one, two):
    """What differs, at most twenty lines."""
    lines = []
    for path in sorted(set(one) | set(two)):
        if path not in one or path not in two:
            lines.append(f"{path!r} is only {'here' if path in one else 'there'}")
        elif one[path] != two[path]:
            keys = [key for key in one[path] if one[path].get(key) != two[path].get(key)]
            lines.append(f"{path[:60]!r}: " + ", ".join(f"{key}: {one[path].get(key)!r} / {two[path].get(key)!r}"[:160]
                                                        for key in keys))
    return lines[:20]
