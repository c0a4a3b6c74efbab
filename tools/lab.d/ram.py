# SPDX-License-Identifier: Apache-2.0
"""Which files a lab should have in its memory before a command starts.

Every opening of a file of the host is several round trips to QEMU. Under the instruction clock such a wait is not counted as
what it is: the clock jumps to the next timer. So what is timed, and what it loads, must be in memory.
"""

import os
import subprocess

# What nearly every command opens.
COMMON = [
    "/bin/sh", "/bin/bash", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/hosts", "/etc/resolv.conf", "/etc/host.conf", "/usr/lib/locale/C.utf8", "/usr/share/locale/locale.alias",
    "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", "/usr/lib/x86_64-linux-gnu/libnss_files.so.2",
    *(f"/usr/bin/{name}" for name in (
        "cat", "chmod", "cp", "cut", "date", "dd", "echo", "env", "false", "grep", "head", "ln", "ls", "md5sum", "mkdir", "mv",
        "rm", "sed", "seq", "sha256sum", "sleep", "sort", "tail", "test", "touch", "tr", "true", "truncate", "wc")),
]
MAX_FILES = 50000


class RamError(Exception):
    """A path that --ram names cannot be used."""


def _program(name):
    """Returns the file that running `name` would start, or None."""
    if "/" in name:
        return os.path.abspath(name) if os.path.isfile(name) else None
    for directory in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = os.path.join(directory or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


def _files_of(path):
    if not os.path.isdir(path):
        return [path]
    return [os.path.join(top, name) for top, _, names in os.walk(path) for name in names]


def _is_elf(path):
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _libraries(programs):
    """Returns the shared objects that dynamic programs load, as ldd tells."""
    if not programs:
        return []
    done = subprocess.run(["ldd", *programs], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, check=False)
    words = (word for line in done.stdout.splitlines() if line.startswith("\t") for word in line.split())
    return [word for word in words if word.startswith("/")]


def files(paths, command=(), common=False):
    """Returns the files that `paths` (from --ram) stand for, the command's program if one is given, with `common` also what
    nearly every command opens, and the libraries that all these load.
    """
    wanted = []
    for path in paths:
        if not os.path.exists(path):
            raise RamError(f"--ram {path}: there is no such file")
        wanted += _files_of(os.path.abspath(path))
    program = _program(command[0]) if command else None
    if program is not None:
        wanted.append(program)
    if common:
        wanted += [file for path in COMMON if os.path.exists(path) for file in _files_of(path)]
    if len(wanted) > MAX_FILES:
        raise RamError(f"--ram: more than {MAX_FILES} files")
    wanted += _libraries([path for path in wanted if _is_elf(path)])
    return list(dict.fromkeys(wanted))
