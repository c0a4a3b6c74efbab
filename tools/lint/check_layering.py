#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: docs/architecture.md's table, checked. Prints one line for each forbidden include."""
import pathlib
import re
import subprocess
import sys

ROOMS = {
    # A room is the longest prefix that fits. Everything may include itself and the standard library.
    "base": set(),
    "proto": {"base"},
    "vmm/memory": {"base"},
    "devices": {"base", "vmm/memory"},
    "vmm": {"base", "proto", "devices", "vmm/memory"},
    "net": {"base", "proto"},
    "fs": {"base", "proto"},
    "oci": {"base"},
    "guest-agent": {"base", "proto"},
    "supervisor": {"base", "proto"},
    "sdk": {"supervisor/supervisor.h"},
    "tools": {"base", "proto", "supervisor"},
    "kernel-config": set(),
    "tests": None,  # anything
    "bench": None,
}
# Fakes that tests of other rooms may use.
TEST_FILE = re.compile(r"(_test|_fuzz|_bench)\.cc$|/testing/")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def room_of(path: str):
    fits = [room for room in ROOMS if path == room or path.startswith(room + "/")]
    return max(fits, key=len) if fits else None


def main() -> int:
    top = pathlib.Path(__file__).resolve().parents[2]
    files = subprocess.run(["git", "-C", str(top), "ls-files", "-co", "--exclude-standard", "*.cc", "*.h", "*.S"],
                           check=True, capture_output=True, text=True).stdout.split()
    bad = 0
    for name in files:
        room = room_of(name)
        if room is None:
            print(f"{name}: lies in no room")
            bad += 1
            continue
        allowed = ROOMS[room]
        text = (top / name).read_text(encoding="utf-8", errors="replace")
        for include in INCLUDE.findall(text):
            target = room_of(include)
            if target is None:
                # Not root-relative: only a file beside it, inside tools that are built on their own.
                if (top / name).parent.joinpath(include).exists() and room in ("tools", "tests", "bench", "kernel-config"):
                    continue
                print(f"{name}: include \"{include}\" is not relative to the repository's top")
                bad += 1
                continue
            if target == room or allowed is None or target in allowed or include in allowed:
                continue
            if TEST_FILE.search(name) and "/testing/" in include:
                continue
            print(f"{name}: {room} may not include {include} ({target})")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
