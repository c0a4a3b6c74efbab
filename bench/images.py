#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Loading images: speed against gzip or zstd piped into sha256sum on the same data in the same run, peak memory of all
our processes, and the time to resolve a cached image.

usage: bench/images.py [--build DIR] [--megabytes N] [--files N]
Prints one JSON line for each measurement. The layer is half text, half random bytes, in files of 64 KiB.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests/images"))


def layer(path, megabytes):
    chance = random.Random(1)
    text = b" ".join(b"%d" % chance.randrange(10**6) for _ in range(200_000))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(megabytes * 16):
            start = chance.randrange(len(text) - 32768)
            add(tar, f"d{i % 100}/f{i}", chance.randbytes(32768) + text[start:start + 32768])


def add(tar, name, content):
    import io
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def many_files(path, count):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(count):
            tar.addfile(tarfile.TarInfo(f"usr/share/directory-{i // 500:05}/file-{i:07}.txt"))


def archive(layer_path, path, compress):
    """An OCI archive of that one layer, written without holding it in memory."""
    import hashlib
    from support import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest

    def hash_of(name):
        sha = hashlib.sha256()
        with open(name, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                sha.update(piece)
        return "sha256:" + sha.hexdigest()

    diff_id = hash_of(layer_path)
    blob = layer_path
    if compress:
        blob = layer_path + "." + compress[0]
        with open(blob, "wb") as out:
            subprocess.run([*compress, "-c", layer_path], stdout=out, check=True)
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [diff_id]}}).encode()
    descriptor = {"mediaType": OCI_LAYER, "digest": hash_of(blob), "size": os.path.getsize(blob)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [descriptor],
                           "config": {"mediaType": OCI_CONFIG, "digest": digest(config), "size": len(config)}}).encode()
    entry = {"mediaType": OCI_MANIFEST, "digest": digest(manifest), "size": len(manifest),
             "annotations": {"io.containerd.image.name": "bench:1"}}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(blob, "blobs/sha256/" + descriptor["digest"][7:])
        add(tar, "blobs/sha256/" + digest(config)[7:], config)
        add(tar, "blobs/sha256/" + digest(manifest)[7:], manifest)
        add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    return blob


def peak_memory(pid, stop, result):
    """Most of what all processes below `pid` held that no file backs (RssAnon), in MiB; sampled."""
    while not stop.is_set():
        total = 0
        for process in [pid, *children(pid)]:
            try:
                with open(f"/proc/{process}/status") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
            except OSError:
                pass
        result[0] = max(result[0], total / 1024)
        time.sleep(0.005)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found = [int(word) for word in file.read().split()]
    except OSError:
        return []
    return found + [grandchild for child in found for grandchild in children(child)]


def load(program, home, path):
    env = dict(os.environ, MSB_HOME=home)
    start = time.monotonic()
    child = subprocess.Popen([program, "load", "-q", "-i", path], env=env, stdout=subprocess.DEVNULL)
    stop, result = threading.Event(), [0.0]
    watcher = threading.Thread(target=peak_memory, args=(child.pid, stop, result))
    watcher.start()
    status = child.wait()
    seconds = time.monotonic() - start
    stop.set()
    watcher.join()
    if status != 0:
        raise SystemExit("load failed")
    return seconds, result[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(TOP, "build"))
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--files", type=int, default=1_000_000)
    options = parser.parse_args()
    program = os.path.join(options.build, "libexec/msb/msb-image")
    with tempfile.TemporaryDirectory(prefix="msb-bench-") as scratch:
        plain = f"{scratch}/layer.tar"
        layer(plain, options.megabytes)
        for name, compress, decompress in (("gzip", ["gzip", "-6"], "gzip -dc"), ("zstd", ["zstd", "-q"], "zstd -q -dc")):
            blob = archive(plain, f"{scratch}/image.tar", compress)
            best, theirs, memory = 1e9, 1e9, 0.0
            for turn in range(3):
                start = time.monotonic()
                subprocess.run(f"{decompress} {blob} | sha256sum", shell=True, check=True, stdout=subprocess.DEVNULL)
                theirs = min(theirs, time.monotonic() - start)
                seconds, peak = load(program, f"{scratch}/{name}{turn}", f"{scratch}/image.tar")
                best, memory = min(best, seconds), max(memory, peak)
            print(json.dumps({"what": f"load {options.megabytes} MiB {name}", "seconds": round(best, 3),
                              f"{decompress} | sha256sum": round(theirs, 3), "speed_percent": round(100 * theirs / best),
                              "peak_mib": round(memory, 1)}), flush=True)
        many_files(plain, options.files)
        archive(plain, f"{scratch}/image.tar", None)
        seconds, peak = load(program, f"{scratch}/many", f"{scratch}/image.tar")
        print(json.dumps({"what": f"load {options.files} files", "seconds": round(seconds, 1),
                          "peak_mib": round(peak, 1)}), flush=True)


if __name__ == "__main__":
    main()
