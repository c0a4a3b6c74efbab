#!/usr/bin/python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Churn, half-closes, resets and stalls through one msb-net, whose memory must stay flat and whose descriptors must be those of its flows.

tests/net/soak.py [--build DIR] [--seconds N]: N (20) seconds of traffic from a guest that is this machine's kernel behind a TAP
device. Prints a sample every tenth of the time, then "ok CASE" or "FAIL CASE: why". Needs root; exits 77 where it cannot run.
"""
import argparse
import contextlib
import os
import random
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time

from clients import datagram_fate, dial, lookup, read_all, refused
from servers import DNS_LOG, ZONE, count_then_reply, echo, serve_dns, serve_tcp, serve_udp_echo
from world import Net, World

TOP = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../.."))
ADDRESS = "93.184.216.34"
ECHO, COUNT, FLOOD, DEAF = 7, 9001, 9002, 9003
# What RSS may grow by from the first half to the end: ten minutes are some 500,000 connections, so 4 bytes each would show. Buffers
# come and go with the stalls, and the heap keeps what the most of them took: the highest sample of them so far is not counted.
GROWTH_KIB = 2048
PATIENCE_S = 10  # of clients


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Soak:
    def __init__(self, w, seconds):
        self.w, self.until = w, time.monotonic() + seconds
        self.done = {}
        self.wrong = []

    def churn(self):
        with dial(self.w.guest, ADDRESS, ECHO, PATIENCE_S) as s:
            sent = os.urandom(random.choice((1, 100, 3000, 70000)))
            threading.Thread(target=lambda: s.sendall(sent), daemon=True).start()
            got = b""
            while len(got) < len(sent):
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
            if got != sent:
                self.wrong.append(f"echo of {len(sent)} bytes gave {len(got)} others")

    def half_close(self):
        with dial(self.w.guest, ADDRESS, COUNT, PATIENCE_S) as s:
            size = random.randrange(200000)
            s.sendall(bytes(size))
            s.shutdown(socket.SHUT_WR)
            said = read_all(s)
            if said != b"%d" % size:
                self.wrong.append(f"{size} bytes before a half-close were counted as {said!r}")

    def reset_in_the_middle(self):
        s = dial(self.w.guest, ADDRESS, random.choice((ECHO, FLOOD, DEAF)), PATIENCE_S)
        s.sendall(bytes(5000))
        reset(s)

    def stalled_reader(self):
        with dial(self.w.guest, ADDRESS, FLOOD, PATIENCE_S) as s:
            s.recv(10)
            time.sleep(random.uniform(0.1, 1))

    def stalled_server(self):
        s = dial(self.w.guest, ADDRESS, DEAF, PATIENCE_S)
        s.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                s.sendall(bytes(100000))
        (reset if random.random() < 0.5 else socket.socket.close)(s)

    def refused_ones(self):
        refused(self.w, "10.9.8.7", 7777)
        refused(self.w, ADDRESS, 4444)

    def datagrams_and_lookups(self):
        datagram_fate(self.w, ADDRESS, ECHO, b"x")
        if lookup(self.w, f"h{random.randrange(200)}.many.test")[0] != 0:
            self.wrong.append("a lookup failed")
        time.sleep(0.5)  # each flow is kept for a minute of silence and has its own memory: that of a hundred, not of a thousand

    def repeat(self, what):
        while time.monotonic() < self.until:
            try:
                what()
            except OSError as e:
                self.wrong.append(f"{what.__name__}: {type(e).__name__}: {e}")
                time.sleep(0.1)
            self.done[what.__name__] = self.done.get(what.__name__, 0) + 1

    def start(self):
        workers = [threading.Thread(target=self.repeat, args=(what,), daemon=True)
                   for what, copies in ((self.churn, 4), (self.half_close, 2), (self.reset_in_the_middle, 2), (self.stalled_reader, 4),
                                        (self.stalled_server, 2), (self.refused_ones, 1), (self.datagrams_and_lookups, 1))
                   for _ in range(copies)]
        for worker in workers:
            worker.start()
        return workers


def deaf(c):
    """Reads nothing until the other side gives up."""
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(50):
        time.sleep(0.1)
        try:
            c.send(b"")
            if struct.unpack("B", c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0] != 1:
                return
        except OSError:
            return


def flood(c):
    while True:
        c.sendall(bytes(65536))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.environ.get("MSB_BUILD", TOP + "/build"))
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or not shutil.which("ip"):
        print("skip soak: needs root, /dev/net/tun and iproute2 to make network namespaces")
        return 77
    tmp = tempfile.mkdtemp(prefix="msb-soak-")
    w = World(tmp)
    failed = 0

    def case(name, good, seen):
        nonlocal failed
        print(f"ok {name}" if good else f"FAIL {name}: {seen}", flush=True)
        failed |= not good
    try:
        for port, handler in ((ECHO, echo), (COUNT, count_then_reply), (FLOOD, flood), (DEAF, deaf)):
            serve_tcp(w.world, ADDRESS, port, handler)
        serve_udp_echo(w.world, ADDRESS, ECHO)
        serve_dns(w.world, "8.8.8.8", ZONE, DNS_LOG)
        with Net(w, args.build) as n:
            soak = Soak(w, args.seconds)
            workers = soak.start()
            samples = []
            for _ in range(10):
                time.sleep(args.seconds / 10)
                stats = n.control(op="stats")
                tcp, udp = stats["tcp"], stats["udp"]
                samples.append((n.rss_kib(), len(os.listdir(f"/proc/{n.pid()}/fd")), tcp["flows"], udp["flows"], tcp["buffer_bytes"] // 1024))
                print("    resident %d KiB, %d descriptors, %d TCP and %d UDP flows, %d KiB buffered" % samples[-1], flush=True)
            for worker in workers:
                worker.join(30)
            case("every_worker_ended", not any(worker.is_alive() for worker in workers), "some hang")
            for _ in range(100):
                stats = n.control(op="stats")
                if stats["tcp"]["flows"] == 0:
                    break
                time.sleep(0.1)
            case("nothing_is_left_over", stats["tcp"]["flows"] == 0 and stats["tcp"]["buffer_bytes"] == 0, stats["tcp"])
            case("nothing_went_wrong", not soak.wrong, soak.wrong[:5])
            rest = [sample[0] - max(earlier[4] for earlier in samples[:i + 1]) for i, sample in enumerate(samples)]
            case("memory_is_flat", max(rest[8:]) - max(rest[1:5]) <= GROWTH_KIB, rest)
            # A UDP flow keeps its socket for a minute of silence.
            others = [fds - tcp - udp for _, fds, tcp, udp, _ in samples]
            # The median: flows may end between the counting of descriptors and that of flows.
            case("descriptors_are_the_flows", max(others) <= sorted(others)[len(others) // 2] + 24, others)
            least = min((soak.done.get(name, 0), name) for name in ("churn", "half_close", "reset_in_the_middle", "stalled_reader",
                                                                     "stalled_server", "refused_ones", "datagrams_and_lookups"))
            case("all_kinds_happened", least[0] > 0, least)
            print(f"    {stats['tcp']['opened']} connections, {stats['tcp']['reset']} reset: {soak.done}")
    finally:
        w.close()
        shutil.rmtree(tmp, ignore_errors=True)
    return failed


sys.exit(main())
