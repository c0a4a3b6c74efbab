#!/usr/bin/python3 -B
# SPDX-License-Identifier: Apache-2.0
"""A real guest's traffic through msb-net, through passt and through QEMU's user network (libslirp), in one run.

bench/net_guest.py [--build DIR] [--seconds N] [--requests N] [--json FILE] [BACKEND...]

The machine is ours each time; only what holds the other end of its frame socket differs. The others do not speak the virtio-net
header, so their guest gets plain frames; libslirp's gets an MTU of 1500, since that is what libslirp can. iperf3 and curl run in
the guest, iperf3 and nginx in another network namespace behind a veth pair. Needs root and a KVM that can run guests
(tools/lab is one: its rates compare with each other and with nothing else).
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
sys.path.insert(0, str(TOP / "tests/net"))
from world import World, sh  # noqa: E402

ADDRESS = "93.184.216.34"
IMAGE = "localhost/msb-net-bench:latest"
NGINX = """daemon off; master_process off; pid TMP/nginx.pid; error_log TMP/nginx.err; worker_rlimit_nofile 4096;
events {} http { access_log off; client_body_temp_path TMP/b; proxy_temp_path TMP/p; fastcgi_temp_path TMP/f;
uwsgi_temp_path TMP/u; scgi_temp_path TMP/s; keepalive_requests 1000000;
server { listen 80; location / { return 200 "ok"; } }
server { listen 81; keepalive_timeout 0; location / { return 200 "ok"; } } }
"""
# In place of msb-vmm: the same, with a link that the backend speaks.
VMM = """#!/usr/bin/python3 -IS
import json, os, sys
with open(3, closefd=False) as f:
    spec = json.load(f)
if spec["net"]["enabled"]:
    spec["net"]["config"]["vnet_hdr"] = False
    spec["net"]["config"]["guest"]["mtu"] = MTU
fd = os.memfd_create("spec", 0)
with open(fd, "w", closefd=False) as f:
    json.dump(spec, f)
os.lseek(fd, 0, os.SEEK_SET)
os.dup2(fd, 3)
os.execv("REAL", ["msb-vmm", *sys.argv[1:]])
"""
# In place of msb-net, which finds the frame socket at descriptor 4.
NET = """#!/bin/sh
exec COMMAND
"""
PASST = "passt -f -F 4 --runas 0 -m 65520 -a 172.16.0.2 -n 30 -g 172.16.0.1 -M 02:6d:73:62:00:01"
SLIRP = ("qemu-system-x86_64 -M none -nodefaults -display none -monitor none -serial none -accel tcg "
         "-netdev user,id=u,net=172.16.0.0/24,host=172.16.0.1,dns=172.16.0.3,dhcpstart=172.16.0.15 "
         "-netdev stream,id=s,server=off,addr.type=fd,addr.str=4 "
         "-netdev hubport,id=a,hubid=0,netdev=u -netdev hubport,id=b,hubid=0,netdev=s")
BACKENDS = {"msb-net": ("msb-net", None, None), "passt": ("passt", PASST, 65520), "libslirp": ("qemu-system", SLIRP, 1500)}


def install(build, to, command, mtu):
    """A copy of the release tree, with `command` in msb-net's place."""
    for part in ("bin", "libexec", "share"):
        shutil.copytree(build / part, to / part)
    if command is None:
        return
    programs = to / "libexec/msb"
    (programs / "msb-vmm").rename(programs / "msb-vmm.real")
    for name, text in (("msb-vmm", VMM.replace("MTU", str(mtu)).replace("REAL", str(programs / "msb-vmm.real"))),
                       ("msb-net", NET.replace("COMMAND", command))):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)


def cpu_seconds(name):
    """Of all processes whose name begins so."""
    ticks = 0
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        comm, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
        if comm.startswith(name):
            ticks += int(rest[11]) + int(rest[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Guest:
    def __init__(self, world, installation, home):
        self.world, self.program = world, str(installation / "bin/msb")
        self.env = dict(os.environ, MSB_HOME=str(home))

    def msb(self, *words, timeout=120):
        done = subprocess.run(["ip", "netns", "exec", self.world.host, self.program, *words], env=self.env, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(f"msb {' '.join(words[:6])}: status {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def iperf(self, seconds, *more):
        report = json.loads(self.msb("exec", "box", "--", "iperf3", "-J", "-c", ADDRESS, "-t", str(seconds), *more))
        if "sum_received" not in report["end"]:
            raise RuntimeError(f"iperf3 {' '.join(more)}: {report.get('error', report['end'])}")
        end = report["end"]["sum_received"]
        return end["bits_per_second"] / 1e9, end["bytes"] / 1e9

    def per_second(self, port, count):
        """Requests that curl in the guest gets answered, by its own clock."""
        out = self.msb("exec", "box", "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total}\\n",
                       f"http://{ADDRESS}:{port}/[1-{count}]").split()
        if out[::2] != ["200"] * count:
            raise RuntimeError(f"{count} requests: {out[:4]}")
        return count / sum(map(float, out[1::2]))


def measure(guest, process, options):
    rows = {}
    for name, more in (("from_guest", ()), ("to_guest", ("-R",))):
        guest.iperf(1, *more)
        began = cpu_seconds(process)
        rate, moved = guest.iperf(options.seconds, *more)
        rows[name + "_gbit_s"], rows[name + "_cpu_s_per_gb"] = rate, (cpu_seconds(process) - began) / moved
    for name, port in (("requests_s", 80), ("connections_s", 81)):
        guest.per_second(port, 20)
        began = cpu_seconds(process)
        rows[name] = guest.per_second(port, options.requests)
        rows[name[:-2] + "_cpu_us"] = (cpu_seconds(process) - began) * 1e6 / options.requests
    return {key: round(value, 3) for key, value in rows.items()}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json")
    parser.add_argument("backends", nargs="*", metavar="BACKEND")
    options = parser.parse_args()
    chosen = options.backends or list(BACKENDS)
    if not set(chosen) <= set(BACKENDS):
        parser.error("backends are " + ", ".join(BACKENDS))
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="msb-bench-"))
    tmp.chmod(0o755)
    world = World(str(tmp))
    results = {}
    try:
        (tmp / "nginx.conf").write_text(NGINX.replace("TMP", str(tmp)), encoding="utf-8")
        world.spawn(world.world, "nginx", "-c", str(tmp / "nginx.conf"))
        world.spawn(world.world, "iperf3", "-s", "-B", ADDRESS, stdout=subprocess.DEVNULL)
        image = tmp / "image.tar"
        subprocess.run([TOP / "tools/make_default_image", image, "--reference", IMAGE, "--program", "/usr/bin/curl", "--program",
                        "/usr/bin/iperf3"], check=True)
        for name in chosen:
            process, command, mtu = BACKENDS[name]
            installation = tmp / name
            install(options.build.resolve(), installation, command, mtu)
            guest = Guest(world, installation, tmp / ("home-" + name))
            try:
                guest.msb("load", "-q", "-i", str(image))
                guest.msb("create", "-q", "--name", "box", IMAGE)
                results[name] = measure(guest, process, options)
                print(json.dumps({"backend": name, **results[name]}), flush=True)
            except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                for log in (tmp / ("home-" + name)).glob("sandboxes/box/logs/*.log"):
                    print(f"{log.name}: {log.read_text(errors='replace')[-800:]}", file=sys.stderr)
            finally:
                subprocess.run(["ip", "netns", "exec", world.host, guest.program, "rm", "-f", "box"], env=guest.env, check=False,
                               capture_output=True)
                time.sleep(0.5)
    finally:
        world.close()
        shutil.rmtree(tmp, ignore_errors=True)
    columns = list(next(iter(results.values()), {}))
    print(f"{'':24}" + "".join(f"{name:>12}" for name in results))
    for column in columns:
        print(f"{column:24}" + "".join(f"{results[name][column]:12.2f}" for name in results))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0 if set(results) == set(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
