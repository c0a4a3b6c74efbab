#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What idle flows cost in msb-net: memory for each, and processor time while nothing happens.

bench/net_idle.py --build DIR [--flows N] [--seconds N]: one JSON line. Needs root.
"""
import argparse
import json
import os
import resource
import shutil
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/net"))
from world import Net, World, in_ns  # noqa: E402

ADDRESS = ("93.184.216.34", 7)


def hold(ns):
    """A server that accepts and does nothing else."""
    listener = in_ns(ns, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(ADDRESS)
    listener.listen(4096)
    held = []

    def loop():
        while True:
            held.append(listener.accept()[0])
    threading.Thread(target=loop, daemon=True).start()


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", required=True)
    ap.add_argument("--flows", type=int, default=10000)
    ap.add_argument("--seconds", type=int, default=10)
    args = ap.parse_args()
    # Both ends of every flow are descriptors of this program.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.flows = min(args.flows, (hard - 200) // 2)
    tmp = tempfile.mkdtemp(prefix="msb-bench-")
    w = World(tmp)
    try:
        hold(w.world)
        with Net(w, args.build) as n:
            empty = n.rss_kib()
            flows = []
            for _ in range(args.flows):
                s = in_ns(w.guest, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
                s.settimeout(10)
                s.connect(ADDRESS)
                flows.append(s)
            time.sleep(1)
            full, ticks = n.rss_kib(), cpu_ticks(n.pid())
            time.sleep(args.seconds)
            idle = (cpu_ticks(n.pid()) - ticks) / os.sysconf("SC_CLK_TCK")
            stats = n.control(op="stats")
            print(json.dumps({"flows": stats["tcp"]["flows"], "rss_empty_kib": empty, "rss_kib": full,
                              "kib_per_flow": round((full - empty) / args.flows, 2), "idle_seconds": args.seconds, "cpu_seconds": idle}))
    finally:
        w.close()
        shutil.rmtree(tmp, ignore_errors=True)


main()
