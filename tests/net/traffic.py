# SPDX-License-Identifier: Apache-2.0
"""Honest traffic passes, at its limits and in numbers."""
import contextlib
import http.client
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

from clients import *
from frames import *
from servers import *
from world import *


def tcp_udp_icmp_over_both_families(w, build):
    with Net(w, build, pcap=True) as n:
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


def a_capture_ends_at_its_limit(w, build):
    with Net(w, build, pcap=True, limits={"pcap_bytes": 100000}) as n:
        dial(w.guest, "1.2.3.4", 7).close()
        need(not n.control(op="stats")["capture"]["stopped"], "not before")
        read_all(dial(w.guest, "93.184.216.34", 9002))
        capture = n.control(op="stats")["capture"]
        size = os.path.getsize(n.pcap_path)
        need(capture == {"bytes": size, "stopped": True}, "%s, file of %d bytes" % (capture, size))
        need(24 < size <= 100000, "the file has %d bytes" % size)
        said = [e["text"] for e in n.audit() if e["event"] == "capture"]
        need(len(said) == 1 and "its limit is reached" in said[0], "the audit stream says so once: %s" % said)
        sh("tcpdump", "-nn", "-r", n.pcap_path, "-c", "3")
        need(read_all(dial(w.guest, "93.184.216.34", 9002)) == b"d" * 6000000, "traffic goes on")


def half_close_both_ways(w, build):
    with Net(w, build) as n:
        s = dial(w.guest, "93.184.216.34", 9001)
        payload = os.urandom(3 << 20)
        threading.Thread(target=lambda: (s.sendall(payload), s.shutdown(socket.SHUT_WR)), daemon=True).start()
        need(read_all(s) == b"%d" % len(payload), "bytes after the guest's half-close")


def refusals_are_true_and_quick(w, build):
    with Net(w, build) as n:
        need(refused(w, "93.184.216.34", 4444), "closed port is refused, not accepted")
        fate = datagram_fate(w, "93.184.216.34", 4445, b"x")
        need(fate == "ECONNREFUSED", "UDP to a closed port: " + fate)
        began = time.monotonic()
        fate = datagram_fate(w, "10.9.8.7", 7, b"x")
        need(fate not in ("answered", "silence"), "UDP to a denied address: " + fate)
        need(time.monotonic() - began < 1, "UDP denial was slow")


def publishing(w, build):
    guest = serve_tcp(w.guest, "::", 8080, http_ok)
    with guest, Net(w, build, ports=["0:8080", "0.0.0.0:0:8080", "0:9999/udp"]) as n:
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


def limits_hold(w, build):
    with Net(w, build, limits={"max_connections": 5, "ingress_bytes_per_s": 2000000}) as n:
        flows = [dial(w.guest, "93.184.216.34", 7) for _ in range(5)]
        need(refused(w, "93.184.216.34", 7), "the sixth connection")
        [s.close() for s in flows]
        deadline = time.monotonic() + 10
        while n.control(op="stats")["tcp"]["flows"]:
            need(time.monotonic() < deadline, "closed connections make room")
            time.sleep(0.1)
        s = dial(w.guest, "93.184.216.34", 9002)
        began = time.monotonic()
        n_bytes = len(read_all(s))
        took = time.monotonic() - began
        need(n_bytes == 6000000, "all of it")
        need(1.2 < took < 20, "6 MB at 2 MB/s took %.1f s" % took)
    with Net(w, build, limits={"max_total_bytes": 1000000}) as n:
        got = 0
        # The server speaks at once: the reset may come before dial() has seen that the connection was made.
        with contextlib.suppress(ConnectionResetError), dial(w.guest, "93.184.216.34", 9002) as s:
            got = len(read_all(s))
        need(got < 6000000 and refused(w, "93.184.216.34", 7), "the byte budget ends it")


def name_servers_follow_the_host(w, build):
    """msb-net has no files: it asks the supervisor, whom this test plays, for the host's resolv.conf."""
    with Net(w, build, dns={"upstreams": []}) as n:
        n.control(op="resolv_conf", text="# made by a test\nnameserver 8.8.8.8 # the one\nsearch test\n")
        need(lookup(w, "good.test") == (0, ["93.184.216.34"]), "a lookup by the name servers that it was told")
        n.ctl.settimeout(1)
        asked, deadline = None, time.monotonic() + 20
        while asked is None:
            need(time.monotonic() < deadline, "msb-net never asks for resolv.conf")
            need(lookup(w, "h%d.many.test" % (time.monotonic() * 10 % 200))[0] == 0, "lookups go on")
            with contextlib.suppress(TimeoutError):
                asked = n.frame()
        need(asked == (14, {"event": "resolv_conf"}), "an EVENT frame: %s" % (asked,))
        n.control(op="resolv_conf", text="nothing of use\n")
        need(lookup(w, "h0.many.test")[0] == 0 and lookup(w, "h1.many.test")[0] == 0, "a file without name servers changes nothing")
    with Net(w, build) as n:
        n.control(op="resolv_conf", text="nameserver 1.2.3.4\n")
        need(lookup(w, "good.test")[0] == 0, "name servers of the specification's stay")


def observe_mode_writes_the_list(w, build):
    with Net(w, build, policy={"default_egress": "deny", "observe": True}) as n:
        lookup(w, "good.test")
        need(passes(w, "93.184.216.34", 443, client_hello(b"good.test")), "observing lets it pass")
        need(passes(w, "1.2.3.4", 7, b"x"), "addresses too")
        need(refused(w, "169.254.169.254", 7777), "but never guarded places")
        rules = n.control(op="observed")["rules"]
        need("allow@good.test:tcp:443" in rules and "allow@1.2.3.4:tcp:7" in rules, rules)


def many_flows_and_churn(w, build):
    with Net(w, build) as n:
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


def real_servers(w, build):
    site = os.path.join(w.tmp, "site")
    os.makedirs(site, exist_ok=True)
    with open(os.path.join(site, "big"), "wb") as f:
        f.write(os.urandom(20 << 20))
    w.spawn(w.world, "python3", "-m", "http.server", "8000", "--bind", "1.2.3.4", "--directory", site, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for vnet, mtu in ((False, 65520), (False, 1500), (True, 1500), (True, 65520)):
        with Net(w, build, vnet=vnet, mtu=mtu) as n:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    dial(w.guest, "1.2.3.4", 8000).close()
                    break
                time.sleep(0.1)
            out = os.path.join(w.tmp, "got")
            sh("curl", "-sS", "-m", "60", "-o", out, "http://1.2.3.4:8000/big", ns=w.guest, timeout=70)
            need(sh("cmp", out, os.path.join(site, "big"), check=False).returncode == 0, "curl fetched other bytes (vnet %s, mtu %d)" % (vnet, mtu))


TESTS = [tcp_udp_icmp_over_both_families, a_capture_ends_at_its_limit, half_close_both_ways, refusals_are_true_and_quick, publishing, limits_hold, name_servers_follow_the_host, observe_mode_writes_the_list, many_flows_and_churn, real_servers]
