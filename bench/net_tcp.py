#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TCP through msb-net and through passt, behind the same TAP bridge, in one run: iperf3 both ways, and new connections.

bench/net_tcp.py --build DIR [--seconds N] [--connections N]: JSON lines per backend and MTU, one for each direction and one for
connections (one after the other: a hundred bytes there and back, then closed). Needs root. The rates are the whole chain's, and
mean little on a busy machine; the backend's own processor time for each gigabyte or connection is steadier.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser()
ap.add_argument("--build", required=True)
ap.add_argument("--seconds", type=int, default=4)
ap.add_argument("--connections", type=int, default=2000)
args = ap.parse_args()

sys.path.insert(0, os.path.join(here, "../tests/net"))
from clients import dial  # noqa: E402
from servers import echo, serve_tcp  # noqa: E402
from world import Net, World, sh  # noqa: E402

ECHO = 7


def iperf(w, reverse):
    out = sh("iperf3", "-J", "-c", "93.184.216.34", "-t", str(args.seconds), *(["-R"] if reverse else []), ns=w.guest, timeout=60, check=False).stdout
    end = json.loads(out)["end"]
    return end["sum_received"]["bits_per_second"] / 1e9, end["sum_received"]["bytes"] / 1e9


def connect_again_and_again(w):
    """Connections a second."""
    began = time.monotonic()
    for _ in range(args.connections):
        with dial(w.guest, "93.184.216.34", ECHO) as s:
            s.sendall(bytes(100))
            left = 100
            while left > 0:
                left -= len(s.recv(left))
    return args.connections / (time.monotonic() - began)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Passt:
    def __init__(self, w, mtu):
        path = os.path.join(w.tmp, "passt.sock")
        self.p = w.spawn(w.host, "passt", "-f", "--runas", "0", "-s", path, "-m", str(mtu), "-a", "172.16.0.2", "-n", "30", "-g", "172.16.0.1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        s = socket.socket(socket.AF_UNIX)
        for _ in range(100):
            try:
                s.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.bridge = w.spawn(w.guest, os.path.join(args.build, "tests/tap_bridge"), "tap0", str(s.fileno()), pass_fds=(s.fileno(),), stdout=subprocess.PIPE)
        self.bridge.stdout.readline()
        s.close()
        g = w.guest
        sh("ip", "link", "set", "tap0", "mtu", str(mtu), "up", ns=g)
        sh("ip", "addr", "add", "172.16.0.2/30", "dev", "tap0", ns=g)
        sh("ip", "route", "add", "default", "via", "172.16.0.1", ns=g)

    def close(self):
        for p in (self.bridge, self.p):
            os.killpg(p.pid, 9)
            p.wait()
        time.sleep(0.3)


tmp = tempfile.mkdtemp(prefix="msb-bench-")
w = World(tmp)
try:
    w.spawn(w.world, "iperf3", "-s", "-B", "93.184.216.34", stdout=subprocess.DEVNULL)
    serve_tcp(w.world, "93.184.216.34", ECHO, echo)
    time.sleep(0.5)
    for mtu in (65520, 1500):
        for name, make in (("msb-net", lambda: Net(w, args.build, mtu=mtu)), ("msb-net+vnet", lambda: Net(w, args.build, mtu=mtu, vnet=True)), ("passt", lambda: Passt(w, mtu))):
            n = make()
            try:
                for reverse in (False, True):
                    began = cpu_seconds(n.p.pid)
                    rate, moved = iperf(w, reverse)
                    used = cpu_seconds(n.p.pid) - began
                    print(json.dumps({"backend": name, "mtu": mtu, "direction": "to_guest" if reverse else "from_guest",
                                      "gbit_s": round(rate, 2), "cpu_s_per_gb": round(used / moved, 2)}), flush=True)
                began = cpu_seconds(n.p.pid)
                rate = connect_again_and_again(w)
                used = cpu_seconds(n.p.pid) - began
                print(json.dumps({"backend": name, "mtu": mtu, "connections_s": round(rate),
                                  "cpu_us_per_connection": round(used / args.connections * 1e6)}), flush=True)
            finally:
                n.close()
finally:
    w.close()
