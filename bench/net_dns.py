#!/usr/bin/python3 -B
# SPDX-License-Identifier: Apache-2.0
"""What msb-net takes to answer a question of the guest's from its cache: from sending the frame to having the answer's.

bench/net_dns.py --build DIR [--count N]: one JSON line, milliseconds. To be run on the instruction clock:
    tools/lab --icount --ram build/libexec --ram /usr/bin/python3 -- bench/net_dns.py --build build
The figures include this program's own sending and receiving, measured on an echo in the same way and told beside them. Needs root.
"""
import argparse
import json
import os
import shutil
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/net"))
from frames import Raw, eth, ip4, udp  # noqa: E402
from servers import serve_dns  # noqa: E402
from world import GATE4, GUEST4, Net, World  # noqa: E402

QUESTION = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\4good\4test\0" + struct.pack(">HH", 1, 1)
FRAME = eth(ip4(GUEST4, GATE4, 17, udp(GUEST4, GATE4, 4000, 53, QUESTION)), 0x0800)


class Echo:
    """A peer that sends every frame back: what the measuring itself takes, and a change of processes."""

    def __init__(self):
        self.frames, theirs = socket.socketpair()

        def loop():
            while data := theirs.recv(65536):
                theirs.sendall(data)
        threading.Thread(target=loop, daemon=True).start()


def ask(raw):
    start = time.monotonic_ns()
    raw.send(FRAME)
    while True:
        frame = raw.recv(5)
        if frame is None:
            raise SystemExit("no answer")
        if frame[12:14] == b"\x08\x00" and frame[23] == 17:
            return (time.monotonic_ns() - start) / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    tmp = tempfile.mkdtemp(prefix="msb-bench-")
    w = World(tmp)
    try:
        asked = []
        serve_dns(w.world, "8.8.8.8", {"good.test": ["93.184.216.34"]}, asked)
        with Net(w, args.build, raw=True, dns={"upstreams": ["8.8.8.8"], "max_queries_per_s": 100000}) as n:
            raw = Raw(n)
            first = ask(raw)
            cached = sorted(ask(raw) for _ in range(args.count))
            hits = n.control(op="stats")["dns"]["cache_hits"]
        if hits < args.count or len(asked) != 1:
            raise SystemExit(f"{hits} of {args.count} came from the cache, {len(asked)} questions went out")
        echo = Raw(Echo())
        own = statistics.median(ask(echo) for _ in range(args.count))
        print(json.dumps({"from_cache": round(statistics.median(cached), 4), "from_cache_99": round(cached[len(cached) * 99 // 100], 4),
                          "with_upstream": round(first, 4), "measuring": round(own, 4)}))
    finally:
        w.close()
        shutil.rmtree(tmp, ignore_errors=True)


main()
