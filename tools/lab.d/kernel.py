# SPDX-License-Identifier: Apache-2.0
"""Makes the lab's kernel and initramfs from Debian's packages, in a cache directory."""

import fcntl
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile

PACKAGE = re.compile(r"linux-image-6\.12\.(\d+)\+deb12-amd64-unsigned")

# Loaded before the root is mounted, in this order.
EARLY_MODULES = ["9pnet_virtio", "9p", "overlay"]
# Loaded meanwhile. Everything else (ext4, erofs, tun, veth, nf_tables, vhost_vsock and so on) is loaded when it is first
# used, as on any Debian machine: the whole module tree is visible in the lab, with the host's modprobe and device nodes for
# what loads on opening.
LATE_MODULES = ["kvm-amd"]

HERE = pathlib.Path(__file__).resolve().parent
AGENT = sorted((HERE / "agent").glob("*.cc")) + sorted((HERE / "agent").glob("*.h"))


class KernelError(Exception):
    """The kernel or the initramfs could not be made; the text says why and what helps."""


def cache_directory():
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = pathlib.Path(base) if base.startswith("/") else pathlib.Path.home() / ".cache"
    path = root / "msb" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _run(what, argv, **kwargs):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **kwargs)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-10:])
        raise KernelError(f"{what} failed: {' '.join(argv)}\n{tail}")
    return done.stdout


def _newest_package():
    names = _run("looking for the kernel", ["apt-cache", "search", "--names-only", r"^linux-image-6\.12\..*-amd64-unsigned$"])
    found = [m for m in (PACKAGE.fullmatch(line.split(" ")[0]) for line in names.splitlines()) if m]
    return max(found, key=lambda m: int(m[1]))[0] if found else None


def _unpack(package, into, cache):
    """Downloads a Debian package with apt (which checks its signature) and unpacks it below `into`."""
    with tempfile.TemporaryDirectory(dir=cache, prefix="download.") as work:
        sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        _run("downloading the kernel", ["apt-get", "-q", *sandbox, "download", package], cwd=work)
        for deb in sorted(pathlib.Path(work).glob("*.deb")):
            _run("unpacking", ["dpkg-deb", "-x", str(deb), str(into)])


def _fetch(cache):
    """Returns the directory of the newest unpacked kernel, made if there is none."""
    have = sorted(cache.glob("linux-6.12.*"), key=lambda p: int(p.name.split(".")[2]))
    if have:
        return have[-1]
    package = _newest_package()
    if package is None and os.geteuid() == 0:
        _run("apt-get update", ["apt-get", "-q", "update"])
        package = _newest_package()
    if package is None:
        raise KernelError("apt knows no linux-image-6.12.*-amd64-unsigned package (Debian 12 has it in its main and security"
                          " archives); try: apt-get update")
    print(f"lab: unpacking {package} (once)", file=sys.stderr)
    partial = pathlib.Path(tempfile.mkdtemp(dir=cache, prefix="unpack."))
    try:
        _unpack(package, partial, cache)
        release = next((partial / "lib/modules").iterdir()).name
        _run("depmod", ["/sbin/depmod", "-b", str(partial), release])
        _write_vmlinux(next((partial / "boot").glob("vmlinuz-*")), partial / "boot/vmlinux")
        partial.chmod(0o755)
        final = cache / f"linux-{release.split('+')[0]}"
        partial.rename(final)
        return final
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_vmlinux(bzimage, target):
    """Writes the uncompressed kernel that a bzImage carries: QEMU starts it directly, with no decompressor to emulate.

    Linux boot protocol (2.08 and later): setup_sects at 0x1f1, payload_offset and payload_length at 0x248, counted from the
    end of the set-up sectors. The payload is a zstd frame and the 4-byte size of what comes out.
    """
    data = bzimage.read_bytes()
    start = (data[0x1F1] + 1) * 512 + int.from_bytes(data[0x248:0x24C], "little")
    length = int.from_bytes(data[0x24C:0x250], "little")
    payload = data[start : start + length - 4]
    if data[0x202:0x206] != b"HdrS" or payload[:4] != b"\x28\xb5\x2f\xfd":
        raise KernelError(f"{bzimage} is not a zstd-compressed bzImage")
    with open(target, "wb") as out:
        done = subprocess.run(["zstd", "-dqc"], input=payload, stdout=out, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise KernelError(f"zstd could not unpack {bzimage}: {done.stderr.decode('utf-8', 'replace')}")


def _module_order(modules, names):
    """Returns the files (relative to `modules`) that load `names`, each after what it depends on."""
    depends = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
    by_name = {pathlib.Path(p).name.split(".")[0].replace("-", "_"): p for p in depends}
    order = []
    for name in names:
        path = by_name.get(name.replace("-", "_"))
        if path is None:
            raise KernelError(f"the kernel package has no module {name}")
        for need in [*reversed(depends[path]), path]:
            if need not in order:
                order.append(need)
    return order


class _Cpio:
    """A newc archive, the kernel's initramfs format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self._out = bytearray()
        self._inode = 0

    def add(self, name, mode, data=b""):
        self._inode += 1
        fields = [self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name.encode()) + 1, 0]
        self._out += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        self._pad()
        self._out += data
        self._pad()

    def _pad(self):
        self._out += b"\0" * (-len(self._out) % 4)

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self._out)


def _build_agent(work):
    """Compiles the lab's PID 1 and returns it. Static: it starts before there is a root file system."""
    target = pathlib.Path(work) / "init"
    sources = [str(path) for path in AGENT if path.suffix == ".cc"]
    _run("building the lab's agent", ["g++", "-std=c++20", "-O2", "-static", "-s", "-fno-exceptions", "-fno-rtti", "-Wall",
                                      "-Wextra", "-Wconversion", "-Wshadow", "-o", str(target), *sources])
    return target.read_bytes()


def _initramfs(agent, modules):
    cpio = _Cpio()
    for directory in ("dev", "early", "late", "host", "upper", "root"):
        cpio.add(directory, stat.S_IFDIR | 0o755)
    cpio.add("init", stat.S_IFREG | 0o755, agent)
    early = _module_order(modules, EARLY_MODULES)
    late = [m for m in _module_order(modules, LATE_MODULES) if m not in early]
    for stage, paths in (("early", early), ("late", late)):
        for number, path in enumerate(paths):
            data = (modules / path).read_bytes()
            data = lzma.decompress(data) if path.endswith(".xz") else data
            # The kernel finds type information by this section's name and spends much of the loading time on it.
            data = data.replace(b"\0.BTF\0", b"\0.btf\0")
            name = pathlib.Path(path).name.split(".")[0]
            cpio.add(f"{stage}/{number:02}-{name}", stat.S_IFREG | 0o644, data)
    return cpio.finish()


def prepare():
    """Returns (kernel image, initramfs, directory that holds lib/modules), all below the cache directory.

    The first call downloads and unpacks; later ones only look. Safe to call from several processes at once.
    """
    cache = cache_directory()
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = _fetch(cache)
        modules = next((tree / "lib/modules").iterdir())
        kernel = tree / "boot/vmlinux"
        key = hashlib.sha256(tree.name.encode())
        for path in [*AGENT, HERE / "kernel.py"]:
            key.update(path.read_bytes())
        initramfs = tree / f"initramfs-{key.hexdigest()[:16]}"
        if not initramfs.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="build.") as work:
                partial = pathlib.Path(work) / "initramfs"
                partial.write_bytes(_initramfs(_build_agent(work), modules))
                # Other work trees share this cache: keep the few that were used last.
                for old in sorted(tree.glob("initramfs-*"), key=lambda p: p.stat().st_mtime)[:-3]:
                    old.unlink()
                partial.rename(initramfs)
        os.utime(initramfs)
    return kernel, initramfs, tree
