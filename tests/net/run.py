#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""msb-net against real network stacks: this machine's kernel plays the guest behind a TAP device, and the world.

Three network namespaces are made for each run: "guest" (TAP device), "host" (msb-net), "world" (servers at public
addresses on the loopback interface, routed through a veth pair). Needs root; exits 77 with the reason where it cannot run.
"""
import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time

import escapes
import traffic
from servers import *
from world import *


def main():
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
        serve_dns(w.world, "8.8.8.8", ZONE, DNS_LOG)
        for fn in traffic.TESTS + escapes.TESTS:
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
