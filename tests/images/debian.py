# SPDX-License-Identifier: Apache-2.0
"""A whole Debian, made by mmdebstrap from the mirror that apt's own configuration names. A mirror that cannot be reached
fails the case. umoci is not asked: in the lab it takes longer than all else."""
import os
import subprocess
import sys
import tempfile

from support import PROGRAM, TOP, check, need, run


def case_debian_is_what_tar_unpacks(scratch):
    need("mmdebstrap")
    # Not in /tmp: the lab has a /tmp of its own.
    build = os.path.dirname(os.path.dirname(os.path.dirname(PROGRAM)))
    with tempfile.TemporaryDirectory(dir=build, prefix="debian.") as folder:
        tar = f"{folder}/debian.tar"
        run("mmdebstrap", "--variant=minbase", "--quiet", "bookworm", tar, timeout=600)
        check(os.path.getsize(tar) > 100 << 20, "that is no Debian")
        done = subprocess.run([f"{TOP}/tools/lab", "--timeout", "500", "--", sys.executable, "-B", f"{TOP}/tests/images/run.py", "debian_tree"],
                              env={**os.environ, "MSB_DEBIAN_TAR": tar}, capture_output=True, text=True, timeout=600)
        print(done.stdout, end="")
        check(done.returncode == 0 and done.stdout.count("ok debian_tree.") == 1, f"exit {done.returncode}: {done.stderr[-500:]}")
