# SPDX-License-Identifier: Apache-2.0
"""Which system calls each kind of thread of ours makes once its filter stands, as strace saw them.

strace -ff writes a file for each thread. A thread counts from where its filter was installed: by itself, or before it was made.
"""
import collections
import os
import pathlib
import re
import shutil

MADE_THREAD = re.compile(r"clone3?\(.*CLONE_THREAD.*= (\d+)$")
MADE_PROCESS = re.compile(r"clone\(.*CLONE_VFORK.*= (\d+)$")
NAMED = re.compile(r'prctl\(PR_SET_NAME, "(\w+)"')
INSTALLED = re.compile(r"seccomp\(SECCOMP_SET_MODE_FILTER, .*= 0$")
CALL = re.compile(r"(?:<\.\.\. )?(\w+)(?:\(| resumed>)")


def wrap(build, target, programs, output):
    """A build tree whose `programs` (below libexec/msb) run under strace, their traces going to files `output`/x.TID.

    The program itself is started by its real path, and finds what it starts beside that: the wrapped programs again.
    """
    shutil.copytree(build / "libexec", target / "libexec", ignore=shutil.ignore_patterns(*programs))
    for part in ("bin", "share", "tests"):
        if (build / part).exists():
            shutil.copytree(build / part, target / part, ignore=shutil.ignore_patterns("CMakeFiles", "*.cmake"))
    output.mkdir()
    output.chmod(0o777)
    for name in programs:
        real = target / "real" / name / name
        real.parent.mkdir(parents=True)
        shutil.copy(build / "libexec/msb" / name, real)
        for other in os.listdir(build / "libexec/msb"):
            if other not in programs:
                (real.parent / other).symlink_to(target / "libexec/msb" / other)
        script = target / "libexec/msb" / name
        # -D: the program stays the child of whoever started it, with its number.
        script.write_text(f'#!/bin/sh\nexec strace -D -ff -o {output}/trace {real} "$@"\n')
        script.chmod(0o755)
    for name in programs:
        for other in programs:
            if other != name:
                (target / "real" / name / other).symlink_to(target / "libexec/msb" / other)
    return target


def role_of(lines):
    """By the command line that the process was started with."""
    for line in lines[:100]:
        if line.startswith("execve(") and line.endswith("= 0"):
            if '"--machine"' in line:
                return "machine"
            if '"unpack-layer"' in line:
                return "unpacker"
            if '"--frame-fd"' in line:
                return "net"
            if '"load"' in line:
                return "loader"
            if '"save"' in line:
                return "saver"
    return None


def kind_of(role, lines):
    """A machine's threads have filters of their own."""
    name = next((m[1] for m in map(NAMED.match, lines[:50]) if m), "")
    return "vcpu" if name.startswith("vcpu") else "disk" if name.startswith("vd") else role


def used(output):
    """{kind of thread: Counter of calls} from the traces of a directory."""
    traces = {path.name.rpartition(".")[2]: path.read_text(errors="replace").splitlines() for path in pathlib.Path(output).iterdir()}
    made = {}  # thread: (its maker, whether the filter stood then)
    started = {}  # process: who started it when that one's filter stood, which the process lives under from its first call on
    for tid, lines in traces.items():
        stands = False
        for line in lines:
            if INSTALLED.match(line):
                stands = True
            elif match := MADE_THREAD.match(line):
                made[match[1]] = (tid, stands)
            elif stands and (match := MADE_PROCESS.match(line)):
                started[match[1]] = tid
    out = collections.defaultdict(collections.Counter)
    for tid, lines in traces.items():
        first, stands = tid, False
        while first in made:
            first, before = made[first]
            stands = stands or before
        role = role_of(traces.get(first, ()))
        if role is None:
            continue
        counter = out[kind_of(role, lines) if first != tid else role]
        for line in lines:
            if stands and (match := CALL.match(line)):
                counter[match[1]] += 1
            stands = stands or bool(INSTALLED.match(line))
        if first in started:
            out[role_of(traces[started[first]])].update(match[1] for match in map(CALL.match, lines) if match)
    return out


def rare(*sources):
    """Calls that a list's comments say are "only" for something no load of a test walks through."""
    return {name for source in sources for name in re.findall(r"__NR_(\w+)[^/\n]*// only ", pathlib.Path(source).read_text())}
