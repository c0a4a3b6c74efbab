# SPDX-License-Identifier: Apache-2.0
"""What a process of ours holds of the host's memory for itself."""
import pathlib
import re


def private_kib(pid):
    """KiB of private memory; guest RAM is left out: that is a shared mapping of a memfd. 0 for a process that has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    total = 0
    guest = False
    for line in lines:
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            guest = "/memfd:" in line
        elif not guest and line.startswith("Private_"):
            total += int(line.split()[1])
    return total
