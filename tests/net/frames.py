# SPDX-License-Identifier: Apache-2.0
"""Frames as bytes, and a guest that is nothing but a frame socket."""
import select
import socket
import struct
import time


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


class RawTcp:
    """A TCP client that sends whatever segments it is told to."""

    def __init__(self, raw, src, dst, dport, sport=5555):
        self.raw, self.src, self.dst, self.sport, self.dport = raw, src, dst, sport, dport
        self.seq, self.ack, self.got = 1000, 0, b""

    def segment(self, flags, data=b"", at=0):
        """`at`: distance of the data from the next byte of the stream."""
        t = tcp(self.src, self.dst, self.sport, self.dport, (self.seq + at) & 0xffffffff, self.ack, flags, data)
        six = ":" in self.src
        self.raw.send(eth(ip6(self.src, self.dst, 6, t) if six else ip4(self.src, self.dst, 6, t), 0x86dd if six else 0x0800))

    def answers(self, seconds=0.7):
        """The flags of the segments that come; data goes to self.got."""
        flags, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            f = self.raw.recv(0.2)
            if f is None:
                continue
            at = 34 if f[12:14] == b"\x08\x00" and f[23] == 6 else 54 if f[12:14] == b"\x86\xdd" and f[20] == 6 else 0
            if not at or struct.unpack(">H", f[at + 2:at + 4])[0] != self.sport:
                continue
            seq, = struct.unpack(">I", f[at + 4:at + 8])
            size = (struct.unpack(">H", f[16:18])[0] + 14 if at == 34 else len(f)) - at - (f[at + 12] >> 4) * 4
            data = f[len(f) - size:] if size else b""
            flags.append(f[at + 13])
            if f[at + 13] & 2:
                self.ack = seq + 1
            elif data and seq == self.ack:
                self.got += data
                self.ack = (seq + len(data)) & 0xffffffff
        return flags

    def connect(self):
        self.segment(2)
        flags = self.answers(0.5)
        if 0x12 not in flags:
            return False
        self.seq += 1
        self.segment(0x10)
        return True


def fragments4(packet, size):
    """An IPv4 packet (20-byte header) cut into pieces of `size` bytes, a multiple of 8."""
    body, src, dst = packet[20:], socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    return [ip4(src, dst, packet[9], body[at:at + size], 77, (at // 8) | (0x2000 if at + size < len(body) else 0))
            for at in range(0, len(body), size)]
