# SPDX-License-Identifier: Apache-2.0
"""What the guest's programs do."""
import errno
import socket
import struct
import time

from world import GATE4, in_ns


def need(condition, text):
    if not condition:
        raise AssertionError(text)


def dial(ns, addr, port, timeout=5):
    s = in_ns(ns, socket.socket, socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(timeout)
    s.connect((addr, port))
    return s


def refused(w, addr, port, limit=3.0):
    """True if the connection is refused clearly, and quickly for a busy machine: no retransmission's time-out has passed twice."""
    began = time.monotonic()
    try:
        dial(w.guest, addr, port).close()
        return False
    except (ConnectionRefusedError, OSError) as e:
        quick = time.monotonic() - began < limit
        return quick and not isinstance(e, TimeoutError)


def datagram_fate(w, addr, port, payload):
    """What a program of the guest's sees that sends a datagram: "answered", "silence", or the error it is told."""
    with in_ns(w.guest, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect((addr, port))
        s.send(payload)
        try:
            s.recv(10)
            return "answered"
        except TimeoutError:
            return "silence"
        except OSError as e:
            return errno.errorcode[e.errno]


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
