# SPDX-License-Identifier: Apache-2.0
"""Many at once, kill -9 at any moment, full disks: the store stays sound and a second try works."""
import fcntl
import os
import random
import signal
import subprocess
import sys
import tarfile
import time

from hostile_registry import counts, registry
from support import Image, Skipped, Store, check, equal, run, tar_of

PULLS = 200
NOISE = random.Random(5).randbytes(3 << 20)


def layers():
    big = tar_of([({"name": f"part{i}"}, NOISE[i << 18:(i + 1) << 18]) for i in range(12)], tarfile.USTAR_FORMAT)
    small = tar_of([({"name": f"small/{i}"}, b"x" * i) for i in range(500)], tarfile.USTAR_FORMAT)
    return [big, small]


def case_two_hundred_pulls_make_one_copy(scratch):
    store = Store(scratch)
    with registry(scratch, "slow", Image(layers())) as (host, state):
        running = [store.start("pull", "-q", "--plain-http", f"{host}/a:1", stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE) for _ in range(PULLS)]
        for child in running:
            _, said = child.communicate(timeout=200)
            equal(f"exit ({said.decode()[-300:]})", child.returncode, 0)
        equal("times that a layer was fetched", counts(state)["layer"], 2)
    equal("images", len(store.images()), 1)
    equal("files in layers/", len(os.listdir(f"{store.home}/images/layers")), 4)
    equal("files in tmp/", os.listdir(f"{store.home}/images/tmp"), [])
    store.sound()


def killed_at_random(store, words, times, longest, stdin=None):
    chance = random.Random(6)
    ended = 0
    for _ in range(times):
        with (open(stdin, "rb") if stdin else open(os.devnull, "rb")) as source:
            child = store.start(*words, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(timeout=chance.uniform(0.002, longest))
            ended += 1
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        store.sound()
    return ended


def case_a_broken_download_is_taken_up_by_the_next_pull(scratch):
    image = Image(layers())
    store = Store(scratch)
    with registry(scratch, "breaks_for_ever", image) as (host, _):
        store.refused("pull", "-q", "--plain-http", "--retries", "0", f"{host}/a:1")
    [kept] = os.listdir(f"{store.home}/images/partial")
    size = os.path.getsize(f"{store.home}/images/partial/{kept}")
    check(size >= 1 << 19, f"only {size} bytes are kept")
    with registry(scratch, "well", image) as (host, state):
        store.run("pull", "-q", "--plain-http", f"{host}/a:1")
        equal("layers that were continued", counts(state)["ranges"], 1)
    equal("left", os.listdir(f"{store.home}/images/partial"), [])
    store.sound()


def case_a_damaged_beginning_is_fetched_again(scratch):
    image = Image(layers())
    store = Store(scratch)
    with registry(scratch, "breaks_for_ever", image) as (host, _):
        store.refused("pull", "-q", "--plain-http", "--retries", "0", f"{host}/a:1")
    [kept] = os.listdir(f"{store.home}/images/partial")
    with open(f"{store.home}/images/partial/{kept}", "r+b") as file:
        file.seek(300_000)
        file.write(b"not what came")
    with registry(scratch, "well", image) as (host, state):
        store.run("pull", "-q", "--plain-http", f"{host}/a:1")
        check(counts(state)["layer"] >= 3, "the layer was not fetched again")
    equal("left", os.listdir(f"{store.home}/images/partial"), [])
    store.sound()


def case_prune_removes_beginnings(scratch):
    store = Store(scratch)
    with registry(scratch, "breaks_for_ever", Image(layers())) as (host, _):
        store.refused("pull", "-q", "--plain-http", "--retries", "0", f"{host}/a:1")
    equal("kept", len(os.listdir(f"{store.home}/images/partial")), 1)
    store.run("prune")
    equal("left", os.listdir(f"{store.home}/images/partial"), [])


def case_kill_9_during_pulls(scratch):
    store = Store(scratch)
    with registry(scratch, "slow", Image(layers())) as (host, _):
        words = ["pull", "-q", "--plain-http", f"{host}/a:1"]
        killed_at_random(store, words, 25, 0.6)
        store.run(*words)
        store.sound()
        equal("images", len(store.images()), 1)
        equal("files in tmp/", os.listdir(f"{store.home}/images/tmp"), [])


def case_kill_9_during_loads(scratch):
    store = Store(scratch)
    archive = f"{scratch}/archive.tar"
    with open(archive, "wb") as file:
        file.write(Image(layers()).archive("localhost/a:1"))
    killed_at_random(store, ["load", "-q"], 25, 0.1, stdin=archive)
    store.run("load", "-i", archive)
    equal("images", len(store.images()), 1)
    store.run("prune", "--all")
    equal("left", [name for _, _, names in os.walk(f"{store.home}/images") for name in names], ["lock"])


def case_full_disk(scratch):
    """In a mount namespace of its own: a file system of two megabytes, then of sixteen."""
    if os.geteuid() != 0:
        raise Skipped("needs root to mount a small file system")
    archive = f"{scratch}/archive.tar"
    with open(archive, "wb") as file:
        file.write(Image(layers()).archive("localhost/a:1"))
    script = ("import sys, os, subprocess\n"
              f"sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})\n"
              "from support import Store, equal, check\n"
              f"store = Store({scratch!r}, 'small')\n"
              "os.makedirs(store.home)\n"
              "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'none', store.home], check=True)\n"
              f"said = store.refused('load', '-i', {archive!r}, says='No space left')\n"
              "equal('images', store.images(), [])\n"
              "subprocess.run(['mount', '-o', 'remount,size=16m', store.home], check=True)\n"
              f"store.run('load', '-i', {archive!r})\n"
              "store.sound()\n"
              "equal('images', len(store.images()), 1)\n")
    run("unshare", "-m", sys.executable, "-c", script)


def case_pull_waits_for_a_collector(scratch):
    """prune holds the store alone; a load that comes meanwhile waits and succeeds."""
    store = Store(scratch)
    store.run("ls")
    archive = f"{scratch}/archive.tar"
    with open(archive, "wb") as file:
        file.write(Image(layers()).archive("localhost/a:1"))
    with open(f"{store.home}/images/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = store.start("load", "-i", archive, stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        equal("waits", child.poll(), None)
    equal("exit", child.wait(timeout=60), 0)
    store.sound()
    check(store.images(), "no image")
