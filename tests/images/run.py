#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tests msb-image from outside: against other programs' archives and registries, hostile ones, kill -9 and full disks.

usage: tests/images/run.py [GROUP...]     groups: see GROUPS. MSB_BUILD names the build (build/).
Prints "ok CASE", "skip CASE: reason" or "FAIL CASE: why" for each case; exit 1 if one failed.
"""
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from support import Failed, Skipped, scratch_directory  # noqa: E402

GROUPS = ["archives", "differential", "hostile_layers", "disks", "disk_roots", "registry", "hostile_registry", "robust", "guest", "debian"]


def main():
    failed = 0
    for group in sys.argv[1:] or GROUPS:
        module = importlib.import_module(group)
        for name in [name for name in vars(module) if name.startswith("case_")]:
            title = f"{group}.{name[5:]}"
            start = time.monotonic()
            try:
                with scratch_directory() as scratch:
                    getattr(module, name)(scratch)
                result = f"ok {title}"
            except Skipped as why:
                result = f"skip {title}: {why}"
            except Failed as why:
                result, failed = f"FAIL {title}: {why}", failed + 1
            except Exception as why:  # the test itself broke: as bad
                traceback.print_exc()
                result, failed = f"FAIL {title}: {type(why).__name__}: {why}", failed + 1
            print(f"{result}: {time.monotonic() - start:.1f} s" if result.startswith("ok") else result, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
