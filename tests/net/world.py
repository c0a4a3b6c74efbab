# SPDX-License-Identifier: Apache-2.0
"""The namespaces guest, host and world, and one msb-net between them."""
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

GUEST4, GATE4 = "172.16.0.2", "172.16.0.1"
GUEST6, GATE6 = "fd42:6d73:62::2", "fd42:6d73:62::1"
WORLD4, WORLD6 = ["93.184.216.34", "8.8.8.8", "1.2.3.4", "10.9.8.7", "169.254.169.254", "168.63.129.16", "198.18.0.9"], ["2606:2800:220:1::34", "fd00:ec2::254"]
TAG = "msbt%d" % os.getpid()
libc = ctypes.CDLL(None, use_errno=True)


def sh(*argv, check=True, ns=None, timeout=20, text=True, **kw):
    if ns:
        argv = ("ip", "netns", "exec", ns) + argv
    return subprocess.run(argv, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=text, timeout=timeout, **kw)


class World:
    """The namespaces and the servers; torn down whatever happens."""

    def __init__(self, tmp):
        self.tmp, self.procs = tmp, []
        self.guest, self.host, self.world = (TAG + s for s in ("g", "h", "w"))
        for ns in (self.guest, self.host, self.world):
            sh("ip", "netns", "add", ns)
            sh("ip", "link", "set", "lo", "up", ns=ns)
        sh("ip", "link", "add", "out0", "netns", self.host, "type", "veth", "peer", "name", "in0", "netns", self.world)
        for ns, dev, a4, a6 in ((self.host, "out0", "203.1.2.1/24", "2a01:1::1/64"), (self.world, "in0", "203.1.2.2/24", "2a01:1::2/64")):
            sh("ip", "addr", "add", a4, "dev", dev, ns=ns)
            sh("ip", "addr", "add", a6, "dev", dev, "nodad", ns=ns)
            sh("ip", "link", "set", dev, "up", ns=ns)
        sh("ip", "route", "add", "default", "via", "203.1.2.2", ns=self.host)
        sh("ip", "-6", "route", "add", "default", "via", "2a01:1::2", ns=self.host)
        sh("ip", "addr", "add", "192.168.77.1/24", "dev", "lo", ns=self.host)  # an address of the host's own
        sh("sysctl", "-qw", "net.ipv4.ping_group_range=0 0", ns=self.host)
        for a in WORLD4:
            sh("ip", "addr", "add", a + "/32", "dev", "lo", ns=self.world)
        for a in WORLD6:
            sh("ip", "addr", "add", a + "/128", "dev", "lo", "nodad", ns=self.world)

    def spawn(self, ns, *argv, **kw):
        p = subprocess.Popen(("ip", "netns", "exec", ns) + argv, start_new_session=True, **kw)
        self.procs.append(p)
        return p

    def close(self):
        for p in self.procs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()
        for ns in (self.guest, self.host, self.world):
            sh("ip", "netns", "del", ns, check=False)


class InNamespace:
    """Runs the calling thread inside a namespace."""

    def __init__(self, ns):
        self.ns = ns

    def __enter__(self):
        self.old = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        fd = os.open("/var/run/netns/" + self.ns, os.O_RDONLY)
        libc.setns(fd, 0x40000000)
        os.close(fd)

    def __exit__(self, *a):
        libc.setns(self.old, 0x40000000)
        os.close(self.old)


def in_ns(ns, fn, *a):
    with InNamespace(ns):
        return fn(*a)


class Net:
    """One msb-net with a guest on its frame socket."""

    def __init__(self, w, build, policy=None, vnet=False, mtu=65520, raw=False, **more):
        self.w = w
        mine, theirs = socket.socketpair()
        ctl, ctl_theirs = socket.socketpair()
        self.ctl = ctl
        self.audit_path = os.path.join(w.tmp, "audit.log")
        self.pcap_path = os.path.join(w.tmp, "net.pcap")
        audit = os.open(self.audit_path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        pcap = os.open(self.pcap_path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        r, wfd = os.pipe()
        spec = {"version": 1, "guest": {"mtu": mtu, "ipv4": {"address": GUEST4, "prefix": 30, "gateway": GATE4}, "ipv6": {"address": GUEST6, "prefix": 64, "gateway": GATE6}},
                "vnet_hdr": vnet, "policy": policy or {}, "dns": more.pop("dns", {"upstreams": ["8.8.8.8"]}), }
        confinement = more.pop("confinement", "auto")
        more_fds = ["--audit-fd", str(audit)] + (["--pcap-fd", str(pcap)] if more.pop("pcap", False) else [])
        spec.update(more)
        os.write(wfd, json.dumps(spec).encode())
        os.close(wfd)
        fds = (r, theirs.fileno(), ctl_theirs.fileno(), audit, pcap)
        self.err = open(os.path.join(w.tmp, "msb-net.err"), "w+")
        self.p = w.spawn(w.host, os.path.join(build, "libexec/msb/msb-net"), "--config-fd", str(r), "--frame-fd", str(theirs.fileno()), "--control-fd", str(ctl_theirs.fileno()), *more_fds, "--confinement", confinement, pass_fds=fds, stdout=subprocess.DEVNULL, stderr=self.err)
        for fd in (r, audit, pcap):
            os.close(fd)
        theirs.close(); ctl_theirs.close()
        self.bridge = None
        self.frames = mine
        self.ready = self.receive()
        if raw:
            return
        self.bridge = w.spawn(w.guest, os.path.join(build, "tests/tap_bridge"), "tap0", str(mine.fileno()), *(["--vnet"] if vnet else []), pass_fds=(mine.fileno(),), stdout=subprocess.PIPE)
        self.bridge.stdout.readline()
        mine.close()
        g = w.guest
        sh("ip", "link", "set", "tap0", "address", "02:6d:73:62:00:02", ns=g)
        sh("ip", "link", "set", "tap0", "mtu", str(mtu), ns=g)
        sh("sysctl", "-qw", "net.ipv6.conf.tap0.accept_ra=0", ns=g, check=False)
        sh("ip", "link", "set", "tap0", "up", ns=g)
        sh("ip", "addr", "add", GUEST4 + "/30", "dev", "tap0", ns=g)
        sh("ip", "addr", "add", GUEST6 + "/64", "dev", "tap0", "nodad", ns=g)
        sh("ip", "route", "add", "default", "via", GATE4, ns=g)
        sh("ip", "-6", "route", "add", "default", "via", GATE6, ns=g)

    def receive(self):
        self.ctl.settimeout(20)
        while True:
            kind, body = self.frame()
            if kind != 14:  # an EVENT asks for something that no test has to give
                return (kind, body)

    def frame(self):
        head = self.exact(8)
        n, kind = struct.unpack("<IB", head[:5])
        body = json.loads(self.exact(n))
        return (kind, body)

    def exact(self, n):
        out = b""
        while len(out) < n:
            piece = self.ctl.recv(n - len(out))
            if not piece:
                self.err.seek(0)
                raise RuntimeError("msb-net ended: " + self.err.read())
            out += piece
        return out

    def control(self, **request):
        body = json.dumps(request).encode()
        self.ctl.sendall(struct.pack("<IBBH", len(body), 2, 0, 0) + body)
        kind, reply = self.receive()
        if kind == 4:
            raise RuntimeError(reply["text"])
        return reply

    def audit(self):
        self.control(op="stats")  # lines wait a moment to be written together, but not longer than for the next request
        with open(self.audit_path) as f:
            return [json.loads(line) for line in f]

    def pid(self):
        """Of msb-net: ip-netns-exec becomes it."""
        return self.p.pid

    def rss_kib(self):
        with open("/proc/%d/status" % self.pid()) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.close()

    def close(self):
        self.ctl.close()
        for p in (self.bridge, self.p):
            if p:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        self.frames.close()
        for _ in range(100):
            if "tap0" not in sh("ip", "link", ns=self.w.guest).stdout:
                return
            time.sleep(0.05)
