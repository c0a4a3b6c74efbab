#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""msb-net against real network stacks: this machine's kernel plays the guest behind a TAP device, and the world.

Three network namespaces are made for each run: "guest" (TAP device), "host" (msb-net), "world" (servers at public
addresses on the loopback interface, routed through a veth pair). Needs root; exits 77 with the reason where it cannot run.
"""
import argparse, contextlib, http.client, json, os, re, select, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

GUEST4, GATE4 = "172.16.0.2", "172.16.0.1"
GUEST6, GATE6 = "fd42:6d73:62::2", "fd42:6d73:62::1"
WORLD4, WORLD6 = ["93.184.216.34", "8.8.8.8", "1.2.3.4", "10.9.8.7", "169.254.169.254", "168.63.129.16", "198.18.0.9"], ["2606:2800:220:1::34", "fd00:ec2::254"]
TAG = "msbt%d" % os.getpid()


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


import ctypes
libc = ctypes.CDLL(None, use_errno=True)


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
                "vnet_hdr": vnet, "policy": policy or {}, "dns": more.pop("dns", {"upstreams": ["8.8.8.8"]}), "fds": {"audit": audit, "pcap": pcap} if more.pop("pcap", False) else {"audit": audit}}
        spec.update(more)
        os.write(wfd, json.dumps(spec).encode())
        os.close(wfd)
        fds = (r, theirs.fileno(), ctl_theirs.fileno(), audit, pcap)
        self.err = open(os.path.join(w.tmp, "msb-net.err"), "w+")
        self.p = w.spawn(w.host, os.path.join(build, "libexec/msb/msb-net"), "--config-fd", str(r), "--frame-fd", str(theirs.fileno()), "--control-fd", str(ctl_theirs.fileno()), "--confinement", os.environ.get("MSB_NET_CONFINEMENT", "auto"), pass_fds=fds, stderr=self.err)
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
        with open(self.audit_path) as f:
            return [json.loads(line) for line in f]

    def rss_kib(self):
        pid = int(sh("pgrep", "-P", str(self.p.pid), check=False).stdout.split()[0]) if "msb-net" not in open("/proc/%d/comm" % self.p.pid).read() else self.p.pid
        return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % pid).read()).group(1))

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


# ---- servers in the world, as threads of this program
def serve_tcp(ns, addr, port, handler):
    fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
    s = in_ns(ns, socket.socket, fam, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    s.listen(512)

    def loop():
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            threading.Thread(target=run, args=(c,), daemon=True).start()

    def run(c):
        with contextlib.suppress(OSError), c:
            handler(c)
    threading.Thread(target=loop, daemon=True).start()
    return s


def echo(c):
    while True:
        d = c.recv(65536)
        if not d:
            return
        c.sendall(d)


def count_then_reply(c):  # half-close: counts to EOF, then answers
    n = 0
    while True:
        d = c.recv(65536)
        if not d:
            break
        n += len(d)
    c.sendall(str(n).encode())


def http_ok(c):
    buf = b""
    while True:
        while b"\r\n\r\n" not in buf:
            d = c.recv(4096)
            if not d:
                return
            buf += d
        head, buf = buf.split(b"\r\n\r\n", 1)
        host = re.search(rb"(?i)host: *([^\r\n]*)", head)
        body = b"host=" + (host.group(1) if host else b"")
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve_dns(ns, addr, zone):
    s = in_ns(ns, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((addr, 53))
    zone_log = []

    def loop():
        while True:
            try:
                q, peer = s.recvfrom(4096)
            except OSError:
                return
            at, labels = 12, []
            while q[at]:
                labels.append(q[at + 1:at + 1 + q[at]].decode("latin1"))
                at += q[at] + 1
            name, (qtype,) = ".".join(labels).lower(), struct.unpack(">H", q[at + 1:at + 3])
            zone_log.append(name)
            answers = [a for a in zone.get(name, []) if (":" in a) == (qtype == 28) and qtype in (1, 28)]
            out = q[:2] + struct.pack(">HHHHH", 0x8180 | (0 if name in zone else 3), 1, len(answers), 0, 0) + q[12:at + 5]
            for a in answers:
                raw = socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)
                out += b"\xc0\x0c" + struct.pack(">HHIH", qtype, 1, 60, len(raw)) + raw
            s.sendto(out, peer)
    threading.Thread(target=loop, daemon=True).start()
    return zone_log


def serve_udp_echo(ns, addr, port):
    s = in_ns(ns, socket.socket, socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((addr, port))

    def loop():
        while True:
            with contextlib.suppress(OSError):
                d, peer = s.recvfrom(65536)
                s.sendto(d, peer)
    threading.Thread(target=loop, daemon=True).start()


# ---- clients in the guest
def dial(ns, addr, port, timeout=5):
    s = in_ns(ns, socket.socket, socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(timeout)
    s.connect((addr, port))
    return s


def refused(w, addr, port, limit=1.0):
    """True if the connection is refused clearly, and quickly."""
    began = time.monotonic()
    try:
        dial(w.guest, addr, port).close()
        return False
    except (ConnectionRefusedError, OSError) as e:
        quick = time.monotonic() - began < limit
        return quick and not isinstance(e, TimeoutError)


def read_all(s):
    out = b""
    while True:
        d = s.recv(65536)
        if not d:
            return out
        out += d


def lookup(w, name, server=GATE4, qtype=1, tcp=False):
    q = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l for l in (p.encode("latin1") for p in name.split("."))) + b"\0" + struct.pack(">HH", qtype, 1)
    if tcp:
        s = dial(w.guest, server, 53)
        s.sendall(struct.pack(">H", len(q)) + q)
        d = s.recv(2)
        r = s.recv(struct.unpack(">H", d)[0])
    else:
        s = in_ns(w.guest, socket.socket, socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.sendto(q, (server, 53))
        r, _ = s.recvfrom(4096)
    s.close()
    rcode, count = r[3] & 15, struct.unpack(">H", r[6:8])[0]
    addrs, at = [], 12
    while r[at]:
        at += r[at] + 1
    at += 5
    for _ in range(count):
        at += 2 if r[at] >= 0xc0 else next(i for i in range(at, len(r)) if r[i] == 0) + 1 - at
        t, _, _, n = struct.unpack(">HHIH", r[at:at + 10])
        at += 10
        if t in (1, 28):
            addrs.append(socket.inet_ntop(socket.AF_INET if t == 1 else socket.AF_INET6, r[at:at + n]))
        at += n
    return rcode, addrs


def client_hello(name, split_records=False, ech=False):
    sni = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    ext = struct.pack(">HH", 0, len(sni)) + sni
    if ech:
        ext += struct.pack(">HH", 0xfe0d, 4) + b"\0\0\0\0"
    body = b"\x03\x03" + bytes(32) + b"\0" + struct.pack(">HHH", 4, 0x1301, 0x00ff) + b"\x01\0" + struct.pack(">H", len(ext)) + ext
    hs = b"\x01" + struct.pack(">I", len(body))[1:] + body
    if split_records:
        cut = len(hs) // 2
        return b"\x16\x03\x01" + struct.pack(">H", cut) + hs[:cut] + b"\x16\x03\x01" + struct.pack(">H", len(hs) - cut) + hs[cut:]
    return b"\x16\x03\x01" + struct.pack(">H", len(hs)) + hs


def passes(w, addr, port, first):
    """Whether an echo server got `first`."""
    try:
        s = dial(w.guest, addr, port)
        s.sendall(first)
        s.settimeout(3)
        got = s.recv(65536)
        s.close()
        return bool(got)
    except OSError:
        return False


# ---- raw frames
def checksum(data):
    if len(data) % 2:
        data += b"\0"
    s = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def eth(payload, kind, src=b"\x02\x6d\x73\x62\0\x02", dst=b"\x02\x6d\x73\x62\0\x01"):
    return dst + src + struct.pack(">H", kind) + payload


def ip4(src, dst, proto, payload, ident=1, frag=0, ttl=64):
    h = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, frag, ttl, proto, 0, socket.inet_aton(src), socket.inet_aton(dst))
    return h[:10] + struct.pack(">H", checksum(h)) + h[12:] + payload


def ip6(src, dst, proto, payload):
    return struct.pack(">IHBB", 0x60000000, len(payload), proto, 64) + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + payload


def pseudo(src, dst, proto, n):
    if ":" in src:
        return socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + struct.pack(">IHBB", n, 0, 0, proto)
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack(">BBH", 0, proto, n)


def tcp(src, dst, sport, dport, seq, ack, flags, data=b"", window=65535):
    h = struct.pack(">HHIIBBHHH", sport, dport, seq & 0xffffffff, ack & 0xffffffff, 0x50, flags, window, 0, 0) + data
    return h[:16] + struct.pack(">H", checksum(pseudo(src, dst, 6, len(h)) + h)) + h[18:]


def udp(src, dst, sport, dport, data):
    h = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
    return h[:6] + struct.pack(">H", checksum(pseudo(src, dst, 17, len(h)) + h) or 0xffff) + h[8:]


class Raw:
    def __init__(self, net):
        self.s = net.frames
        self.buf = b""

    def send(self, frame):
        self.s.sendall(struct.pack(">I", len(frame)) + frame)

    def recv(self, timeout=2.0):
        end = time.monotonic() + timeout
        while True:
            if len(self.buf) >= 4:
                n = struct.unpack(">I", self.buf[:4])[0]
                if len(self.buf) >= 4 + n:
                    f, self.buf = self.buf[4:4 + n], self.buf[4 + n:]
                    return f
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.s], [], [], left)[0]:
                return None
            self.buf += self.s.recv(1 << 20)


TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def need(condition, text):
    if not condition:
        raise AssertionError(text)


@test
def tcp_udp_icmp_over_both_families(w, build):
    n = Net(w, build, pcap=True)
    try:
        for addr in ("93.184.216.34", "2606:2800:220:1::34"):
            s = dial(w.guest, addr, 7)
            s.sendall(b"hello" * 1000)
            got = b""
            while len(got) < 5000:
                got += s.recv(65536)
            need(got == b"hello" * 1000, "echo over " + addr)
            s.close()
            u = in_ns(w.guest, socket.socket, socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
            u.settimeout(3)
            for size in (1, 1400, 9000, 40000):
                u.sendto(b"x" * size, (addr, 7))
                need(len(u.recv(65536)) == size, "UDP of %d bytes over %s" % (size, addr))
            sh("ping", "-c", "2", "-i", "0.2", "-W", "2", addr, ns=w.guest)
        sh("ping", "-c", "1", "-W", "2", GATE4, ns=w.guest)
        sh("ping", "-6", "-c", "1", "-W", "2", GATE6, ns=w.guest)
        if shutil.which("tshark"):
            out = sh("tshark", "-r", n.pcap_path, "-T", "fields", "-e", "_ws.malformed", "-e", "tcp.analysis.retransmission", check=True).stdout
            need("Malformed" not in out, "tshark finds malformed frames")
    finally:
        n.close()


@test
def half_close_both_ways(w, build):
    n = Net(w, build)
    try:
        s = dial(w.guest, "93.184.216.34", 9001)
        payload = os.urandom(3 << 20)
        threading.Thread(target=lambda: (s.sendall(payload), s.shutdown(socket.SHUT_WR)), daemon=True).start()
        need(read_all(s) == b"%d" % len(payload), "bytes after the guest's half-close")
    finally:
        n.close()


@test
def refusals_are_true_and_quick(w, build):
    n = Net(w, build)
    try:
        need(refused(w, "93.184.216.34", 4444), "closed port is refused, not accepted")
        u = in_ns(w.guest, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        u.settimeout(2)
        u.connect(("93.184.216.34", 4445))
        u.send(b"x")
        try:
            u.recv(10)
            need(False, "UDP to a closed port")
        except ConnectionRefusedError:
            pass
        u2 = in_ns(w.guest, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        u2.settimeout(2)
        u2.connect(("10.9.8.7", 7))
        u2.send(b"x")
        began = time.monotonic()
        try:
            u2.recv(10)
            need(False, "UDP to a denied address got an answer")
        except TimeoutError:
            need(False, "UDP denial was silent")
        except OSError:
            need(time.monotonic() - began < 1, "UDP denial was slow")
    finally:
        n.close()


@test
def forbidden_places_stay_forbidden(w, build):
    for policy in ({}, {"profiles": ["all"]}, {"rules": ["allow@any"]}):
        n = Net(w, build, policy=policy)
        try:
            guarded = ["127.0.0.1", "169.254.169.254", "168.63.129.16", "203.1.2.1", "192.168.77.1", GATE4, "2a01:1::1", "fd00:ec2::254", GATE6, "::ffff:127.0.0.1" if False else "64:ff9b::7f00:1"]
            places = guarded + ([] if policy else ["10.9.8.7", "198.18.0.9", "2002:7f00:1::1", "2001::1", "fec0::1", "64:ff9b::a09:807"])
            for addr in places:
                if addr == "127.0.0.1":
                    continue  # the guest's own stack keeps it; raw frames try it below
                need(refused(w, addr, 7777), "%s under %s" % (addr, policy))
        finally:
            n.close()


@test
def raw_frames_cannot_escape(w, build):
    n = Net(w, build, policy={"profiles": ["all"]}, raw=True)
    try:
        r = Raw(n)
        seq = 1000

        def syn(src, dst, dport, mac=None):
            kw = {"src": mac} if mac else {}
            p = ip6(src, dst, 6, tcp(src, dst, 5555, dport, seq, 0, 2)) if ":" in src else ip4(src, dst, 6, tcp(src, dst, 5555, dport, seq, 0, 2))
            r.send(eth(p, 0x86dd if ":" in src else 0x0800, **kw))

        def answer_flags():
            f = r.recv(0.7)
            while f is not None:
                at = 14
                if f[12:14] == b"\x08\x00" and f[23] == 6:
                    return f[14 + 20 + 13]
                if f[12:14] == b"\x86\xdd" and f[20] == 6:
                    return f[14 + 40 + 13]
                f = r.recv(0.3)
            return None
        for dst in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "203.1.2.1", "169.254.169.254"):
            syn(GUEST4, dst, 7777)
            need(answer_flags() in (None, 0x14), "loopback by raw frame: " + dst)
        for dst in ("::1", "::ffff:127.0.0.1", "::ffff:192.168.77.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::"):
            syn(GUEST6, dst, 7777)
            need(answer_flags() in (None, 0x14), "forbidden spelling: " + dst)
        # other source addresses and MACs get no answer at all
        for src in ("1.1.1.1", "172.16.0.3", GATE4, "93.184.216.34"):
            syn(src, "93.184.216.34", 7)
            need(answer_flags() is None, "spoofed source " + src)
        syn(GUEST4, "93.184.216.34", 7, mac=b"\x02\0\0\0\0\x99")
        need(answer_flags() is None, "spoofed MAC")
        # a good one works
        syn(GUEST4, "93.184.216.34", 7)
        need(answer_flags() == 0x12, "an honest SYN is answered")
        # malformed frames are dropped and counted
        good = eth(ip4(GUEST4, "93.184.216.34", 17, udp(GUEST4, "93.184.216.34", 5000, 7, b"x")), 0x0800)
        for cut in range(0, len(good)):
            r.send(good[:cut])
        for i in range(14, len(good)):
            r.send(good[:i] + bytes([good[i] ^ 0xff]) + good[i + 1:])
        stats = n.control(op="stats")
        need(stats["drops"].get("truncated", 0) > 5 and stats["drops"].get("bad_checksum", 0) > 5, "drops are counted: %s" % stats["drops"])
        need(stats["drops"].get("spoofed_address", 0) >= 4 and stats["drops"].get("spoofed_mac", 0) >= 1, "spoofing is counted: %s" % stats["drops"])
        need(all(e.get("address") not in ("127.0.0.1", "::1") or e["event"] == "deny" for e in n.audit()), "audit shows no loopback")
    finally:
        n.close()


@test
def fragments_and_overlaps(w, build):
    n = Net(w, build, raw=True)
    try:
        r = Raw(n)
        d = udp(GUEST4, "93.184.216.34", 6000, 7, bytes(range(256)) * 8)
        half = (len(d) // 2) & ~7
        r.send(eth(ip4(GUEST4, "93.184.216.34", 17, d[half:], 7, half // 8), 0x0800))
        r.send(eth(ip4(GUEST4, "93.184.216.34", 17, d[:half], 7, 0x2000), 0x0800))
        f = r.recv(2)
        while f is not None and f[23] != 17:
            f = r.recv(2)
        need(f is not None and f.endswith(bytes(range(256))), "fragments in reverse order arrive whole")
        r.send(eth(ip4(GUEST4, "93.184.216.34", 17, d[:half], 8, 0x2000), 0x0800))
        r.send(eth(ip4(GUEST4, "93.184.216.34", 17, d[half - 8:], 8, (half - 8) // 8), 0x0800))
        f = r.recv(0.7)
        need(f is None or f[23] != 17, "overlapping fragments are dropped")
        need(n.control(op="stats")["drops"].get("fragment", 0) >= 1, "and counted")
    finally:
        n.close()


@test
def names_bind_and_are_confirmed(w, build):
    n = Net(w, build, policy={"default_egress": "deny", "rules": ["allow@dns", "allow@good.test", "allow@*.cdn.test"]})
    try:
        hello = lambda name, **k: client_hello(name, **k)
        need(refused(w, "93.184.216.34", 443), "an address nobody was given")
        need(lookup(w, "evil.test") == (3, []), "a name no rule allows")
        need("evil.test" not in DNS_LOG and not any("tunnel" in x for x in DNS_LOG), "blocked names never leave")
        need(lookup(w, "secret-data.tunnel.evil.test")[0] == 3, "tunnelling by name")
        need(not any("tunnel" in x for x in DNS_LOG), "tunnelled name did not reach the resolver")
        need(lookup(w, "secret.tunnel.test", server="8.8.8.8")[0] == 3, "an unlisted resolver is not reached")
        need(lookup(w, "secret.tunnel.test", server="8.8.8.8", tcp=True)[0] == 3, "nor over TCP")
        need(not any("tunnel" in x for x in DNS_LOG), "nothing left")
        need(lookup(w, "GOOD.test") == (0, ["93.184.216.34"]), "an allowed name")
        need(passes(w, "93.184.216.34", 443, hello(b"good.test")), "the confirmed name")
        need(not passes(w, "93.184.216.34", 443, hello(b"evil.test")), "SNI of another site on the shared address")
        need(not passes(w, "93.184.216.34", 443, hello(b"good.test", split_records=True)), "ClientHello over two records")
        need(not passes(w, "93.184.216.34", 443, hello(b"good.test", ech=True)), "encrypted ClientHello")
        need(not passes(w, "93.184.216.34", 443, hello(b"good.test\0.evil.test")), "odd bytes in SNI")
        need(not passes(w, "93.184.216.34", 443, hello("g\u00f6od.test".encode("latin1"))), "non-ASCII SNI")
        need(not passes(w, "93.184.216.34", 443, b"SSH-2.0-x\r\n"), "opaque protocol in strict mode")
        s = dial(w.guest, "93.184.216.34", 80)
        s.sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
        need(b"host=good.test" in s.recv(4096), "HTTP by Host")
        s.sendall(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        try:
            need(b"evil" not in s.recv(4096), "second request for another host")
        except ConnectionResetError:
            pass
        s.close()
        for head in (b"GET / HTTP/1.1\r\nHost: good.test\r\nHost: evil.test\r\n\r\n", b"GET http://evil.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", b"CONNECT evil.test:80 HTTP/1.1\r\nHost: good.test\r\n\r\n", b"GET / HTTP/1.1\nHost: evil.test\n\n",
                     b"\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", b"POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"):
            need(not passes(w, "93.184.216.34", 80, head), "ambiguous request %r" % head)
        u = in_ns(w.guest, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        u.settimeout(2)
        u.connect(("93.184.216.34", 443))
        u.send(b"\xc0" + bytes(1200))
        try:
            u.recv(10)
            need(False, "QUIC passed")
        except TimeoutError:
            need(False, "QUIC denial was silent")
        except OSError:
            pass
        need(refused(w, "8.8.8.8", 853), "DNS over TLS elsewhere")
        for odd in ("good.test\0x", "go od.test", "good.test\n", "-good.test"):
            need(lookup(w, odd)[0] == 3, "odd name %r" % odd)
        need(any(e["event"] == "deny" and e["reason"] for e in n.audit()), "denials are explained")
    finally:
        n.close()


@test
def rebinding_answers_are_removed(w, build):
    n = Net(w, build)
    try:
        need(lookup(w, "rebind.test") == (3, []), "an answer into loopback")
        need(lookup(w, "mixed.test") == (0, ["93.184.216.34"]), "only the public address is left")
        need(lookup(w, "meta.test") == (3, []) and lookup(w, "own.test") == (3, []), "metadata and the host's own address")
        need(lookup(w, "six.test", qtype=28) == (3, []), "mapped and ULA answers")
        need(lookup(w, "host.msb.internal") == (0, [GATE4]), "the host's alias")
        need(lookup(w, "good.test", tcp=True) == (0, ["93.184.216.34"]), "over TCP")
        need(lookup(w, "good.test", server=GATE6) == (0, ["93.184.216.34"]), "over IPv6")
        began = time.monotonic()
        results = []
        threads = [threading.Thread(target=lambda i=i: results.append(lookup(w, "h%d.many.test" % i))) for i in range(200)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        need(len(results) == 200 and time.monotonic() - began < 10, "200 lookups at once")
    finally:
        n.close()


@test
def host_services_only_by_port(w, build):
    n = Net(w, build, policy={"rules": ["allow@host:tcp:7777"]})
    try:
        need(passes(w, GATE4, 7777, b"x"), "the named port")
        need(passes(w, GATE6, 7777, b"x"), "over IPv6")
        need(refused(w, GATE4, 7778), "another port")
    finally:
        n.close()


@test
def policy_swap_under_load(w, build):
    n = Net(w, build)
    try:
        s = dial(w.guest, "93.184.216.34", 7)
        stop, sent = threading.Event(), [0]

        def load():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    s.sendall(b"y" * 10000)
                    sent[0] += len(s.recv(65536))
        t = threading.Thread(target=load, daemon=True)
        t.start()
        n.control(op="policy", policy={"profiles": ["public"], "rules": ["deny@8.8.8.8"]})
        time.sleep(0.3)
        before = sent[0]
        time.sleep(0.2)
        need(t.is_alive() and sent[0] > before, "a flow still allowed goes on")
        try:
            n.control(op="policy", policy={"rules": ["allow@nonsense"]})
            need(False, "a policy that cannot be enforced was taken")
        except RuntimeError:
            pass
        n.control(op="policy", policy={"profiles": ["none"]})
        t.join(3)
        need(not t.is_alive(), "a flow now denied is cut")
        need(refused(w, "93.184.216.34", 7), "and no new one starts")
        need(n.control(op="explain", target="93.184.216.34:7")["connection"]["verdict"] == "deny", "explain agrees")
    finally:
        n.close()


@test
def publishing(w, build):
    guest = serve_tcp(w.guest, "::", 8080, http_ok)
    n = Net(w, build, ports=["0:8080", "0.0.0.0:0:8080", "0:9999/udp"])
    try:
        kind, ready = n.ready
        ports = ready["ports"]
        need(all(p["host"] > 0 for p in ports), "the chosen ports are reported")
        for p in ports[:2]:
            for _ in range(20):
                c = in_ns(w.host, http.client.HTTPConnection, "127.0.0.1", p["host"], )
                c.sock = dial(w.host, "127.0.0.1", p["host"])
                c.request("GET", "/")
                need(c.getresponse().status == 200, "HTTP into the guest")
                c.close()
        peer = dial(w.world, "203.1.2.1", ports[1]["host"])
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        need(b"200 OK" in peer.recv(4096), "from another machine")
        u = in_ns(w.guest, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        u.bind(("0.0.0.0", 9999))
        u.settimeout(3)
        c = in_ns(w.host, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        c.settimeout(3)
        c.sendto(b"ping", ("127.0.0.1", ports[2]["host"]))
        d, a = u.recvfrom(100)
        u.sendto(d + b"pong", a)
        need(c.recv(100) == b"pingpong", "UDP into the guest and back")
        added = n.control(op="ports_add", port="127.0.0.1:0:8080")["ports"][0]
        need(dial(w.host, "127.0.0.1", added["host"]) is not None, "a port added while running")
        n.control(op="ports_remove", port={"host": added["host"], "guest": 8080})
        try:
            dial(w.host, "127.0.0.1", added["host"])
            need(False, "a removed port still listens")
        except ConnectionRefusedError:
            pass
        try:
            n.control(op="ports_add", port="127.0.0.1:%d:1" % ports[0]["host"])
            need(False, "a busy port was accepted")
        except RuntimeError as e:
            need("in use" in str(e), str(e))
    finally:
        n.close()
        guest.close()


@test
def limits_hold(w, build):
    n = Net(w, build, limits={"max_connections": 5, "ingress_bytes_per_s": 2000000})
    try:
        flows = [dial(w.guest, "93.184.216.34", 7) for _ in range(5)]
        need(refused(w, "93.184.216.34", 7), "the sixth connection")
        [s.close() for s in flows]
        time.sleep(0.2)
        s = dial(w.guest, "93.184.216.34", 9002)
        began = time.monotonic()
        n_bytes = len(read_all(s))
        took = time.monotonic() - began
        need(n_bytes == 6000000, "all of it")
        need(1.2 < took < 6, "6 MB at 2 MB/s took %.1f s" % took)
    finally:
        n.close()
    n = Net(w, build, limits={"max_total_bytes": 1000000})
    try:
        s = dial(w.guest, "93.184.216.34", 9002)
        try:
            got = len(read_all(s))
        except ConnectionResetError:
            got = 0
        need(got < 6000000 and refused(w, "93.184.216.34", 7), "the byte budget ends it")
    finally:
        n.close()


@test
def observe_mode_writes_the_list(w, build):
    n = Net(w, build, policy={"default_egress": "deny", "observe": True})
    try:
        lookup(w, "good.test")
        need(passes(w, "93.184.216.34", 443, client_hello(b"good.test")), "observing lets it pass")
        need(passes(w, "1.2.3.4", 7, b"x"), "addresses too")
        need(refused(w, "169.254.169.254", 7777), "but never guarded places")
        rules = n.control(op="observed")["rules"]
        need("allow@good.test:tcp:443" in rules and "allow@1.2.3.4:tcp:7" in rules, rules)
    finally:
        n.close()


@test
def many_flows_and_churn(w, build):
    n = Net(w, build)
    try:
        base = n.rss_kib()
        flows = []
        for i in range(500):
            flows.append(dial(w.guest, "93.184.216.34", 7))
        grown = n.rss_kib() - base
        need(grown / 500 <= 8, "%.1f KiB per idle flow" % (grown / 500))
        [s.close() for s in flows]

        def churn():
            for _ in range(50):
                s = dial(w.guest, "93.184.216.34", 7)
                s.sendall(b"z" * 3000)
                got = 0
                while got < 3000:
                    got += len(s.recv(65536))
                s.close()
        threads = [threading.Thread(target=churn) for _ in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        time.sleep(0.3)
        stats = n.control(op="stats")
        need(stats["tcp"]["flows"] <= 2 and stats["tcp"]["buffer_bytes"] == 0, "nothing is left over: %s" % stats["tcp"])
        print("    idle %d KiB, %.2f KiB per idle flow" % (base, grown / 500))
    finally:
        n.close()


@test
def real_servers(w, build):
    site = os.path.join(w.tmp, "site")
    os.makedirs(site, exist_ok=True)
    with open(os.path.join(site, "big"), "wb") as f:
        f.write(os.urandom(20 << 20))
    w.spawn(w.world, "python3", "-m", "http.server", "8000", "--bind", "1.2.3.4", "--directory", site, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for vnet, mtu in ((False, 65520), (False, 1500), (True, 1500), (True, 65520)):
        n = Net(w, build, vnet=vnet, mtu=mtu)
        try:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    dial(w.guest, "1.2.3.4", 8000).close()
                    break
                time.sleep(0.1)
            out = os.path.join(w.tmp, "got")
            sh("curl", "-sS", "-m", "60", "-o", out, "http://1.2.3.4:8000/big", ns=w.guest, timeout=70)
            need(sh("cmp", out, os.path.join(site, "big"), check=False).returncode == 0, "curl fetched other bytes (vnet %s, mtu %d)" % (vnet, mtu))
        finally:
            n.close()


ZONE = {"good.test": ["93.184.216.34"], "evil.test": ["93.184.216.34"], "rebind.test": ["127.0.0.1"], "mixed.test": ["10.0.0.1", "93.184.216.34"], "meta.test": ["169.254.169.254"], "own.test": ["203.1.2.1"], "six.test": ["fd00::1", "::ffff:10.0.0.1", "::1"]}
ZONE.update({"h%d.many.test" % i: ["93.184.216.34"] for i in range(200)})
DNS_LOG = []


def main():
    global DNS_LOG
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", required=True)
    ap.add_argument("names", nargs="*")
    args = ap.parse_args()
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or not shutil.which("ip"):
        print("skipped: needs root, /dev/net/tun and iproute2 to make network namespaces")
        return 77
    tmp = tempfile.mkdtemp(prefix="msb-net-")
    w = World(tmp)
    failed = 0
    try:
        for addr in ("93.184.216.34", "2606:2800:220:1::34", "1.2.3.4"):
            serve_tcp(w.world, addr, 7, echo)
            serve_udp_echo(w.world, addr, 7)
        for addr in ("10.9.8.7", "169.254.169.254", "168.63.129.16", "198.18.0.9", "fd00:ec2::254"):
            serve_tcp(w.world, addr, 7777, echo)
        serve_tcp(w.host, "0.0.0.0", 7777, echo)
        serve_tcp(w.host, "::1", 7777, echo)
        serve_tcp(w.host, "127.0.0.1", 7778, echo)
        serve_tcp(w.world, "93.184.216.34", 443, echo)
        serve_tcp(w.world, "93.184.216.34", 80, http_ok)
        serve_tcp(w.world, "8.8.8.8", 853, echo)
        serve_tcp(w.world, "93.184.216.34", 9001, count_then_reply)
        serve_tcp(w.world, "93.184.216.34", 9002, lambda c: c.sendall(b"d" * 6000000))
        DNS_LOG = serve_dns(w.world, "8.8.8.8", ZONE)
        for fn in TESTS:
            if args.names and fn.__name__ not in args.names:
                continue
            began = time.monotonic()
            try:
                fn(w, args.build)
                print("ok   %-40s %.1f s" % (fn.__name__, time.monotonic() - began), flush=True)
            except Exception as e:
                failed += 1
                print("FAIL %-40s %s: %s" % (fn.__name__, type(e).__name__, e), flush=True)
                if os.environ.get("MSB_TRACE"):
                    import traceback
                    traceback.print_exc()
                with contextlib.suppress(OSError):
                    print("     " + open(os.path.join(tmp, "msb-net.err")).read().strip()[-800:])
    finally:
        w.close()
        shutil.rmtree(tmp, ignore_errors=True)
    print("%d failed" % failed if failed else "all passed")
    return 1 if failed else 0


sys.exit(main())
