# SPDX-License-Identifier: Apache-2.0
"""Servers in a namespace, as threads of this program."""
import contextlib
import re
import socket
import struct
import threading

from world import in_ns

DNS_LOG = []  # names that reached the resolver
ZONE = {"good.test": ["93.184.216.34"], "evil.test": ["93.184.216.34"], "rebind.test": ["127.0.0.1"], "mixed.test": ["10.0.0.1", "93.184.216.34"], "meta.test": ["169.254.169.254"], "own.test": ["203.1.2.1"], "six.test": ["fd00::1", "::ffff:10.0.0.1", "::1"]}
ZONE.update({"h%d.many.test" % i: ["93.184.216.34"] for i in range(200)})


def serve_tcp(ns, addr, port, handler):
    fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
    s = in_ns(ns, socket.socket, fam, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    s.listen(512)
    serve_listener(s, handler)
    return s


def serve_listener(s, handler):
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


def exact(c, n):
    out = b""
    while len(out) < n:
        piece = c.recv(n - len(out))
        if not piece:
            raise OSError("the other end has gone")
        out += piece
    return out


def socks5_server(ns, user, password, log):
    """A handler for serve_tcp(): a SOCKS5 proxy (RFC 1928) for IPv4 that insists on a user and password (RFC 1929)."""
    def handle(c):
        _, count = exact(c, 2)
        if 2 not in exact(c, count):
            return c.sendall(b"\5\xff")
        c.sendall(b"\5\2")
        name = exact(c, exact(c, 2)[1])
        good = (name, exact(c, exact(c, 1)[0])) == (user, password)
        c.sendall(b"\1\0" if good else b"\1\1")
        if not good:
            return log.append("wrong password")
        kind = exact(c, 4)
        if kind != b"\5\1\0\1":
            return log.append("refused %r" % kind)
        where = socket.inet_ntoa(exact(c, 4)), struct.unpack(">H", exact(c, 2))[0]
        log.append("%s:%d" % where)
        with in_ns(ns, socket.create_connection, where) as out:
            c.sendall(b"\5\0\0\1" + bytes(6))
            def back():
                with contextlib.suppress(OSError):
                    while data := out.recv(65536):
                        c.sendall(data)
                    c.shutdown(socket.SHUT_WR)
            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            while data := c.recv(65536):
                out.sendall(data)
            out.shutdown(socket.SHUT_WR)
            thread.join()
    return handle


def serve_dns(ns, addr, zone, zone_log):
    s = in_ns(ns, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((addr, 53))

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


def serve_udp_echo(ns, addr, port):
    s = in_ns(ns, socket.socket, socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((addr, port))

    def loop():
        while True:
            with contextlib.suppress(OSError):
                d, peer = s.recvfrom(65536)
                s.sendto(d, peer)
    threading.Thread(target=loop, daemon=True).start()
