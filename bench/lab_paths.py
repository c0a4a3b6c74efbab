#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The part of bench/run that runs in the lab: times the command's paths, writes the samples as JSON to a file.

lab_paths.py BUILD OUTPUT RUNS. Everything that is timed is copied into memory first: opening a file of the host makes the
instruction clock jump.
"""
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time

from private_memory import private_kib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/images"))
from support import Image  # noqa: E402

BUILD, OUTPUT, RUNS = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
TOP = pathlib.Path("/tmp/msb-bench")
MSB = str(TOP / "bin/msb")
IMAGE = "localhost/msb-default"
ENV = {"PATH": "/usr/bin:/bin", "HOME": "/root", "MSB_HOME": str(TOP / "home")}


def install():
    for part in ("bin", "libexec", "share", "bench"):
        shutil.copytree(BUILD / part, TOP / part)


def timed(*words):
    """Milliseconds from starting msb until it has ended, and the moment it began."""
    actions = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    start = time.monotonic_ns()
    pid = os.posix_spawn(MSB, ["msb", *words], ENV, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    end = time.monotonic_ns()
    if status != 0:
        raise SystemExit(f"msb {' '.join(words)}: status {status}")
    return (end - start) / 1e6, start


def cost(*words):
    return timed(*words)[0]


def text(*words):
    return subprocess.run([MSB, *words], env=ENV, check=True, capture_output=True, text=True).stdout


def settle():
    """What the last operation left behind ends before the next is timed."""
    for _ in range(200):
        alive = [p for p in pathlib.Path("/proc").glob("[0-9]*/comm") if read(p).startswith("msb-")]
        if not alive:
            return
        time.sleep(0.02)


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def boot_steps(name, began):
    """Where a start's time went, from the moments that the supervisor role logs when the guest is ready."""
    for _ in range(200):  # the command may be answered before the log has its line
        told = re.findall(r"ready: (\{.*\})", read(TOP / "home/sandboxes" / name / "logs/vmm.log"))
        if told:
            break
        time.sleep(0.02)
    at = json.loads(told[-1])
    agent = at["told_ns"] - (at["agent_ready_ns"] - at["agent_started_ns"])  # its first line, on the host's clock
    return {"command_to_supervisor": (at["started_ns"] - began) / 1e6,
            "setup": (at["machine_ran_ns"] - at["started_ns"]) / 1e6,
            "kernel_to_agent": (agent - at["machine_ran_ns"]) / 1e6,
            "agent_mounts": (at["mounted_ns"] - at["agent_started_ns"]) / 1e6,
            "agent_ready": (at["agent_ready_ns"] - at["mounted_ns"]) / 1e6,
            "vmm_to_ready": (at["told_ns"] - at["started_ns"]) / 1e6}


def many_layers(count):
    """An image of so many layers, in the store as localhost/layers."""
    tars = []
    for n in range(count):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(f"file{n}"))
        tars.append(out.getvalue())
    (TOP / "layers.tar").write_bytes(Image(tars).archive("localhost/layers"))
    cost("load", "-q", "-i", str(TOP / "layers.tar"))


def resolve(image):
    """Milliseconds from a cached image's name to the table of its extents in the machine role's hands."""
    done = subprocess.run([str(TOP / "bench/resolve_image"), ENV["MSB_HOME"], image], env=ENV, check=True, capture_output=True, text=True)
    times = json.loads(done.stdout)
    return sum(times[step] for step in ("resolve", "spec", "open", "hand")) / 1e6


def main():
    samples = {}

    def add(name, value):
        samples.setdefault(name, []).append(value)

    install()
    archive = str(TOP / "share/msb/default-image.oci.tar")
    for _ in range(RUNS):
        shutil.rmtree(TOP / "home", ignore_errors=True)
        add("load_2mb_archive", cost("load", "-q", "-i", archive))
    many_layers(100)
    for key, image in (("resolve", IMAGE), ("resolve_100", "localhost/layers")):
        for _ in range(RUNS):
            add(key, resolve(image))
    cost("run", "-q", "--no-net", IMAGE, "--", "true")  # makes the cached empty disk
    settle()
    for _ in range(RUNS):
        add("run_true", cost("run", "-q", "--no-net", IMAGE, "--", "true"))
        settle()
    for _ in range(RUNS):
        add("run_true_net", cost("run", "-q", IMAGE, "--", "true"))
        settle()
    for n in range(RUNS):
        name = f"box{n}"
        total, began = timed("create", "-q", "--no-net", "-n", name, IMAGE)
        add("create", total)
        time.sleep(1)
        for key, value in boot_steps(name, began).items():
            add("boot." + key, value)
        for _ in range(3):
            add("exec_true", cost("exec", name, "--", "true"))
        time.sleep(1)
        pids = [int(p.parent.name) for p in pathlib.Path("/proc").glob("[0-9]*/comm") if read(p).startswith("msb-")]
        roles = {"machine" if b"--machine" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes() else "supervisor": private_kib(p)
                 for p in pids}
        add("idle_private_kib", sum(roles.values()))
        add("idle_private_kib.machine", roles["machine"])
        add("stop", cost("stop", name))
        settle()
    for size in ("512M", "4G"):
        for _ in range(RUNS):
            _, began = timed("create", "-q", "--no-net", "-m", size, "-n", "sized", IMAGE)
            steps = boot_steps("sized", began)
            add(f"boot_{size}.kernel_to_agent", steps["kernel_to_agent"])
            add(f"boot_{size}.vmm_to_ready", steps["vmm_to_ready"])
            cost("rm", "-f", "sized")
            settle()
    for n in range(RUNS, 100):
        cost("create", "-q", "--no-start", "--no-net", "-n", f"box{n}", IMAGE)
    for _ in range(RUNS):
        add("ls_100", cost("ls"))
    for _ in range(RUNS):
        add("msb_version", cost("--version"))
    with open(OUTPUT, "w", encoding="utf-8") as file:
        json.dump({"samples": samples, "kernel": os.uname().release}, file)


main()
