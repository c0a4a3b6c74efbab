# SPDX-License-Identifier: Apache-2.0
"""What someone who has taken a process over would try next. Each attempt is a function of a Probe; what it returns is what
the kernel returned last, negative for an error."""
import socket
import struct

import filters

NUMBERS = {name: number for number, name in filters.call_names().items()}
HERE = -100  # AT_FDCWD
NEW_USER, NEW_NET, NEW_MOUNT = 0x10000000, 0x40000000, 0x00020000
TIOCSTI, KVM_CREATE_VM = 0x5412, 0xAE01

MAKE_DESCRIPTORS = ("openat", "socket", "memfd_create", "pidfd_open", "pidfd_getfd", "io_uring_setup", "userfaultfd", "perf_event_open")


class Probe:
    """Makes the calls of an attempt in a stopped thread and keeps them, so that the filters can be asked about the same."""

    def __init__(self, thread, stage, supervisor):
        self.thread, self.stage, self.supervisor = thread, stage, supervisor
        self.made = []
        self.opened = []

    def call(self, name, *args):
        self.made.append((NUMBERS[name], args))
        got = self.thread.call(NUMBERS[name], *args)
        if got >= 0 and name in MAKE_DESCRIPTORS:
            self.opened.append(got)
        return got

    def close(self):
        """What was opened is closed again: the process may have few descriptors left."""
        for fd in self.opened:
            self.thread.call(NUMBERS["close"], fd)

    def only_ask(self, name, *args):
        """For the filters alone: the process would not survive the call."""
        self.made.append((NUMBERS[name], args))
        return None

    def put(self, *parts):
        return self.thread.put(*(p if isinstance(p, bytes) else str(p).encode() + b"\0" for p in parts))

    def open(self, path, flags=0, mode=0):
        return self.call("openat", HERE, self.put(path)[0], flags, mode)

    def connect(self, family, kind, address):
        fd = self.call("socket", family, kind, 0)
        return fd if fd < 0 else self.call("connect", fd, self.put(address)[0], len(address))


def loopback(probe):
    port = probe.stage.listener.getsockname()[1]
    return probe.connect(socket.AF_INET, socket.SOCK_STREAM,
                         struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + b"\x7f\0\0\1" + bytes(8))


def unix_socket(probe, name):
    return probe.connect(socket.AF_UNIX, socket.SOCK_STREAM, struct.pack("<H", socket.AF_UNIX) + name)


def peer_memory(probe):
    with open(f"/proc/{probe.stage.victim}/maps", encoding="ascii") as maps:
        remote = int(maps.readline().split("-")[0], 16)
    local, vectors = probe.put(bytes(64), bytes(32))
    probe.put(bytes(64), struct.pack("<QQQQ", local, 8, remote, 8))
    return probe.call("process_vm_readv", probe.stage.victim, vectors, 1, vectors + 16, 1, 0)


def peer_descriptor(probe, pid):
    handle = probe.call("pidfd_open", pid, 0)
    return handle if handle < 0 else probe.call("pidfd_getfd", handle, 0, 0)


def peer_namespace(probe):
    handle = probe.call("pidfd_open", probe.stage.victim, 0)
    return handle if handle < 0 else probe.call("setns", handle, NEW_NET)


def upwards(probe):
    """Out of the tree through a descriptor that is held."""
    last = -9  # EBADF: no directory among them
    path = probe.put("../../../../../../../../etc/passwd")[0]
    for fd in range(3, 64):
        got = probe.call("openat", fd, path, 0)
        if got >= 0:
            del probe.made[:-1]  # this one is what counts
            return got
        if got != -9 and got != -20:  # neither closed nor no directory
            last = got
    return last


def abstract_name(probe):
    return b"\0" + probe.stage.root.name.encode()


ATTEMPTS = {
    # files
    "open /etc/passwd": lambda p: p.open("/etc/passwd"),
    "open a file of the user's": lambda p: p.open(p.stage.secret),
    "open a file of another sandbox": lambda p: p.open(p.stage.others),
    "open own environment": lambda p: p.open("/proc/self/environ"),
    "open another's environment": lambda p: p.open(f"/proc/{p.stage.victim}/environ"),
    "open the supervisor's descriptors": lambda p: p.open(f"/proc/{p.supervisor}/fd/2"),
    "open /dev/kvm": lambda p: p.open("/dev/kvm", 2),
    "climb from a descriptor": upwards,
    "make a file": lambda p: p.open("/tmp/msb-probe", 0o101, 0o600),
    "make a file in the home": lambda p: p.open(p.stage.home / "probe", 0o101, 0o600),
    "make a directory": lambda p: p.call("mkdir", p.put("/probe")[0], 0o700),
    "make a memory file": lambda p: p.call("memfd_create", p.put("x")[0], 0),
    # network
    "internet socket": lambda p: p.call("socket", socket.AF_INET, socket.SOCK_DGRAM, 0),
    "connect to a service of the host": loopback,
    "raw socket": lambda p: p.call("socket", socket.AF_INET, socket.SOCK_RAW, 1),
    "packet socket": lambda p: p.call("socket", socket.AF_PACKET, socket.SOCK_RAW, 0),
    "vsock socket": lambda p: p.call("socket", socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    "connect to an abstract socket": lambda p: unix_socket(p, abstract_name(p)),
    "connect to the control socket": lambda p: unix_socket(p, p.stage.control_socket() + b"\0"),
    # other processes
    "signal another process": lambda p: p.call("kill", p.stage.victim, 0),
    "signal the supervisor": lambda p: p.call("kill", p.supervisor, 0),
    "signal init": lambda p: p.call("kill", 1, 0),
    "trace another process": lambda p: p.call("ptrace", 0x4206, p.stage.victim, 0, 0),
    "read another's memory": peer_memory,
    "take another's descriptor": lambda p: peer_descriptor(p, p.stage.victim),
    "take the supervisor's descriptor": lambda p: peer_descriptor(p, p.supervisor),
    "enter another's network": peer_namespace,
    "change another's limits": lambda p: p.call("prlimit64", p.stage.victim, 7, p.put(struct.pack("<QQ", 1, 1))[0], 0),
    "make a process": lambda p: p.only_ask("clone", 17, 0, 0, 0, 0),
    # more rights
    "mount": lambda p: p.call("mount", p.put("none")[0], p.put("/")[0], p.put("tmpfs")[0], 0, 0),
    "unmount the root": lambda p: p.call("umount2", p.put("/")[0], 2),
    "change the root": lambda p: p.call("chroot", p.put("/")[0]),
    "new network namespace": lambda p: p.call("unshare", NEW_NET),
    "new mount namespace": lambda p: p.call("unshare", NEW_MOUNT),
    "become another user": lambda p: p.call("setuid", 1),
    "set the clock": lambda p: p.call("clock_settime", 0, p.put(struct.pack("<qq", 1, 0))[0]),
    "load a program into the kernel": lambda p: p.call("bpf", 5, p.put(bytes(128))[0], 128),
    "handle userfaults": lambda p: p.call("userfaultfd", 0),
    "count events": lambda p: p.call("perf_event_open", p.put(struct.pack("<II", 1, 128) + bytes(120))[0], 0, -1, -1, 0),
    "make a ring": lambda p: p.call("io_uring_setup", 1, p.put(bytes(120))[0]),
    "open by handle": lambda p: p.call("open_by_handle_at", HERE, p.put(struct.pack("<Ii", 8, 1) + bytes(8))[0], 0),
    "use a key ring": lambda p: p.call("add_key", p.put("user")[0], p.put("probe")[0], p.put(b"x")[0], 1, -4),
    "type into the terminal": lambda p: p.call("ioctl", 2, TIOCSTI, p.put(b"x")[0]),
    "make a machine": lambda p: p.call("ioctl", 3, KVM_CREATE_VM, 0),
    "executable memory": lambda p: p.call("mmap", 0, 4096, 7, 0x22, -1, 0),
    "make memory executable": lambda p: p.call("mprotect", p.put(b"\x90")[0], 4096, 5),
    "run a program": lambda p: p.only_ask("execve", p.put("/usr/bin/true")[0], 0, 0),
}
