# SPDX-License-Identifier: Apache-2.0
"""The table of escape attempts: each case fails if the attempt succeeds."""
import contextlib
import http.client
import os
import socket
import struct
import subprocess
import threading
import time

from clients import *
from frames import *
from servers import *
from world import *


def forbidden_places_stay_forbidden(w, build):
    for policy in ({}, {"profiles": ["all"]}, {"rules": ["allow@any"]}):
        with Net(w, build, policy=policy) as n:
            guarded = ["127.0.0.1", "169.254.169.254", "168.63.129.16", "203.1.2.1", "192.168.77.1", GATE4, "2a01:1::1", "fd00:ec2::254", GATE6, "::ffff:127.0.0.1" if False else "64:ff9b::7f00:1"]
            places = guarded + ([] if policy else ["10.9.8.7", "198.18.0.9", "2002:7f00:1::1", "2001::1", "fec0::1", "64:ff9b::a09:807"])
            for addr in places:
                if addr == "127.0.0.1":
                    continue  # the guest's own stack keeps it; raw frames try it below
                need(refused(w, addr, 7777), "%s under %s" % (addr, policy))


def raw_frames_cannot_escape(w, build):
    with Net(w, build, policy={"profiles": ["all"]}, raw=True) as n:
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


def fragments_and_overlaps(w, build):
    with Net(w, build, raw=True) as n:
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


def names_bind_and_are_confirmed(w, build):
    with Net(w, build, policy={"default_egress": "deny", "rules": ["allow@dns", "allow@good.test", "allow@*.cdn.test"]}) as n:
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
        fate = datagram_fate(w, "93.184.216.34", 443, b"\xc0" + bytes(1200))
        need(fate not in ("answered", "silence"), "QUIC: " + fate)
        need(refused(w, "8.8.8.8", 853), "DNS over TLS elsewhere")
        for odd in ("good.test\0x", "go od.test", "good.test\n", "-good.test"):
            need(lookup(w, odd)[0] == 3, "odd name %r" % odd)
        need(any(e["event"] == "deny" and e["reason"] for e in n.audit()), "denials are explained")


def rebinding_answers_are_removed(w, build):
    with Net(w, build) as n:
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


def host_services_only_by_port(w, build):
    with Net(w, build, policy={"rules": ["allow@host:tcp:7777"]}) as n:
        need(passes(w, GATE4, 7777, b"x"), "the named port")
        need(passes(w, GATE6, 7777, b"x"), "over IPv6")
        need(refused(w, GATE4, 7778), "another port")


def policy_swap_under_load(w, build):
    with Net(w, build) as n:
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


def answered(raw, protocol4, seconds=0.5):
    """Whether anything of that protocol comes back to the guest."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        f = raw.recv(0.2)
        if f is not None and f[12:14] == b"\x08\x00" and f[23] == protocol4:
            return f
    return None


def overlapping_segments_have_one_version(w, build):
    """What was judged is what the server gets: of bytes sent twice, the first in order count."""
    with Net(w, build, policy={"default_egress": "deny", "rules": ["allow@dns", "allow@good.test"]}, raw=True) as n:
        r = Raw(n)
        query = struct.pack(">HHHHHH", 9, 0x0100, 1, 0, 0, 0) + b"\4good\4test\0" + struct.pack(">HH", 1, 1)
        good, evil = b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"

        def open_flow(sport):
            r.send(eth(ip4(GUEST4, GATE4, 17, udp(GUEST4, GATE4, 4000, 53, query)), 0x0800))
            need(answered(r, 17) is not None, "the name is looked up")
            t = RawTcp(r, GUEST4, "93.184.216.34", 80, sport)
            need(t.connect(), "the flow opens")
            return t
        t = open_flow(6001)
        t.segment(0x18, evil[20:], 20)  # out of order, for later
        t.segment(0x18, good)  # in order, over it
        t.answers()
        need(b"host=good.test" in t.got and b"evil" not in t.got, "the first in order counts: %r" % t.got)
        t = open_flow(6002)
        t.segment(0x18, good[:20])
        t.segment(0x18, evil[10:], 10)  # begins in what was taken already
        t.answers()
        need(b"evil" not in t.got, "an overlap cannot change the judged name: %r" % t.got)
        t = open_flow(6003)
        t.segment(0x18, good)
        t.seq += len(good)
        t.answers()
        t.segment(0x18, evil)
        t.answers()
        need(b"evil" not in t.got, "a later request for another host: %r" % t.got)
        t = open_flow(6004)
        t.segment(0x38, good[:5] + b"X" + good[5:])  # urgent data is no way to hide a byte
        t.answers()
        need(b"evil" not in t.got, "urgent")


def tiny_fragments_are_judged_whole(w, build):
    with Net(w, build, policy={"rules": ["deny@1.2.3.4"]}, raw=True) as n:
        r = Raw(n)
        for dst, dport in (("10.9.8.7", 7777), ("1.2.3.4", 7), ("169.254.169.254", 7777)):
            for piece in fragments4(ip4(GUEST4, dst, 6, tcp(GUEST4, dst, 5556, dport, 1, 0, 2)), 8):
                r.send(eth(piece, 0x0800))
            f = answered(r, 6)
            need(f is None or f[34 + 13] & 0x12 != 0x12, "a SYN in pieces of 8 bytes reached " + dst)
            for piece in fragments4(ip4(GUEST4, dst, 17, udp(GUEST4, dst, 5557, dport, b"out")), 8):
                r.send(eth(piece, 0x0800))
            need(answered(r, 17) is None, "a datagram in pieces of 8 bytes reached " + dst)
        for piece in fragments4(ip4(GUEST4, "93.184.216.34", 17, udp(GUEST4, "93.184.216.34", 5557, 7, b"honest")), 8):
            r.send(eth(piece, 0x0800))
        need(answered(r, 17) is not None, "while an allowed one passes")


def icmp_and_udp_reach_no_forbidden_place(w, build):
    with Net(w, build, policy={"profiles": ["all"]}, raw=True) as n:
        r = Raw(n)

        def ping(dst):
            body = struct.pack(">BBHHH", 8, 0, 0, 7, 1) + b"data"
            body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
            r.send(eth(ip4(GUEST4, dst, 1, body), 0x0800))
            f = answered(r, 1)
            return f is not None and f[34] == 0
        need(ping("93.184.216.34"), "an allowed address answers")
        for dst in ("127.0.0.1", "169.254.169.254", "168.63.129.16", "203.1.2.1", "192.168.77.1", "0.0.0.0"):
            need(not ping(dst), "ping of " + dst)
            r.send(eth(ip4(GUEST4, dst, 17, udp(GUEST4, dst, 5558, 7777, b"x")), 0x0800))
            need(answered(r, 17, 0.3) is None, "datagram to " + dst)
        for dst in ("224.0.0.1", "255.255.255.255", "172.16.0.3"):
            r.send(eth(ip4(GUEST4, dst, 17, udp(GUEST4, dst, 5558, 7, b"x")), 0x0800))
            need(answered(r, 17, 0.3) is None, "group or broadcast " + dst)
        # An error that the guest makes up is no way in either.
        r.send(eth(ip4(GUEST4, "93.184.216.34", 1, struct.pack(">BBHI", 3, 4, 0, 68) + bytes(28)), 0x0800))
        r.send(eth(ip4(GUEST4, GATE4, 1, struct.pack(">BBHI", 5, 1, 0, 0x7f000001) + bytes(28)), 0x0800))
        need(ping("93.184.216.34"), "and it goes on")


def other_resolvers_are_no_way_out(w, build):
    with Net(w, build, policy={"profiles": ["public"], "rules": ["deny@*.evil.test"]}) as n:
        need(refused(w, "8.8.8.8", 443), "a known DNS-over-HTTPS address")
        need(refused(w, "8.8.8.8", 853), "DNS over TLS")
        before = len(DNS_LOG)
        need(lookup(w, "evil.test", server="8.8.8.8")[0] == 3, "a query to 8.8.8.8 is answered by the proxy")
        need(lookup(w, "a.evil.test", server="1.2.3.4")[1] == [], "and one to any other address")
        need(not any("evil" in x for x in DNS_LOG[before:]), "nothing of it left")
        for qtype in (16, 33, 64, 65, 12, 255):
            need(lookup(w, "evil.test", qtype=qtype)[0] in (3, 4, 5), "type %d of a denied name" % qtype)
        need(not any("evil" in x for x in DNS_LOG[before:]), "of no type")


def names_do_not_outlive_the_proxy(w, build):
    policy = {"default_egress": "deny", "rules": ["allow@dns", "allow@good.test"]}
    with Net(w, build, policy=policy):
        lookup(w, "good.test")
        need(passes(w, "93.184.216.34", 443, client_hello(b"good.test")), "allowed after the lookup")
        open_flow = dial(w.guest, "93.184.216.34", 443)
    with open_flow, Net(w, build, policy=policy):
        need(refused(w, "93.184.216.34", 443), "a new proxy knows of no lookup")
        with contextlib.suppress(OSError):
            open_flow.sendall(b"x")
            open_flow.settimeout(2)
            need(not open_flow.recv(10), "a flow of the old proxy goes on")


def policy_swap_before_the_name_is_shown(w, build):
    with Net(w, build, policy={"default_egress": "deny", "rules": ["allow@dns", "allow@good.test"]}) as n:
        lookup(w, "good.test")
        s = dial(w.guest, "93.184.216.34", 443)
        n.control(op="policy", policy={"default_egress": "deny", "rules": ["allow@dns", "allow@other.test"]})
        try:
            s.sendall(client_hello(b"good.test"))
            s.settimeout(2)
            need(not s.recv(100), "a flow that waited for its name was judged by the old policy")
        except OSError:
            pass
        need(refused(w, "93.184.216.34", 443), "new flows")


def spellings_of_a_name_agree(w, build):
    with Net(w, build, policy={"default_egress": "deny", "rules": ["allow@dns", "allow@good.test"]}) as n:
        need(lookup(w, "GoOd.TeSt") == (0, ["93.184.216.34"]), "case in a query")
        need(passes(w, "93.184.216.34", 443, client_hello(b"GOOD.TEST")), "case in SNI")
        for name in (b"good.test.evil.test", b"xgood.test", b"good.test:443", b"good.test%00", b"good.test ", b"good..test", b"*.test",
                     b"93.184.216.34", b"", b"good.test\r", b"xn--good.test", b"a" * 300):
            need(not passes(w, "93.184.216.34", 443, client_hello(name)), "SNI %r" % name)
        for host in (b"good.test.evil.test", b"good.test@evil.test", b"evil.test#good.test", b"good.test, evil.test", b"good.test\x00evil.test",
                     b"good.test:80:80", b"[good.test]", b"", b"93.184.216.34"):
            need(not passes(w, "93.184.216.34", 80, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"), "Host %r" % host)
        need(not passes(w, "93.184.216.34", 80, b"GET / HTTP/1.1\r\nHost: good.test\r\n Host: evil.test\r\n\r\n"), "a folded line")
        need(not passes(w, "93.184.216.34", 80, b"GET / HTTP/1.1\r\nHost : good.test\r\nHost: evil.test\r\n\r\n"), "a blank before the colon")


def ingress_follows_its_rules(w, build):
    guest = serve_tcp(w.guest, "::", 8081, echo)
    with guest, Net(w, build, ports=["0.0.0.0:0:8081"], policy={"profiles": ["public"], "rules": ["deny:ingress@203.1.2.2:tcp:8081"]}) as n:
        port = n.ready[1]["ports"][0]["host"]

        def reaches(ns, address):
            try:
                with dial(ns, address, port) as s:
                    s.sendall(b"in")
                    return s.recv(10) == b"in"
            except OSError:
                return False
        need(reaches(w.host, "127.0.0.1"), "the host may")
        need(not reaches(w.world, "203.1.2.1"), "the denied peer may not")



def the_proxy_itself_is_confined(w, build):
    """What a guest owns that takes msb-net over: no files, no programs, no capabilities, no user of the host."""
    with Net(w, build, confinement="require") as n:
        pid = n.pid()
        with open("/proc/%d/status" % pid) as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        need(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", "filter and no_new_privs")
        need(all(int(status[k], 16) == 0 for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), "capabilities: %s" % status)
        need(os.listdir("/proc/%d/root" % pid) == [], "its root is empty")
        for kind in ("user", "mnt", "ipc", "uts"):
            need(os.readlink("/proc/%d/ns/%s" % (pid, kind)) != os.readlink("/proc/self/ns/" + kind), kind + " namespace")
        for name in os.listdir("/proc/%d/fd" % pid):
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
            need(target.startswith(("socket:", "pipe:", "anon_inode:", w.tmp, "/dev/null")), "descriptor %s is %s" % (name, target))
        need(passes(w, "93.184.216.34", 7, b"x"), "and it works")


TESTS = [
    forbidden_places_stay_forbidden,
    raw_frames_cannot_escape,
    fragments_and_overlaps,
    names_bind_and_are_confirmed,
    rebinding_answers_are_removed,
    host_services_only_by_port,
    policy_swap_under_load,
    overlapping_segments_have_one_version,
    tiny_fragments_are_judged_whole,
    icmp_and_udp_reach_no_forbidden_place,
    other_resolvers_are_no_way_out,
    names_do_not_outlive_the_proxy,
    policy_swap_before_the_name_is_shown,
    spellings_of_a_name_agree,
    ingress_follows_its_rules,
    the_proxy_itself_is_confined,
]
