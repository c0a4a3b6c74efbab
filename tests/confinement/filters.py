# SPDX-License-Identifier: Apache-2.0
"""The system call filters of a running thread, read back from the kernel, and what they let through.

A filter is a program of classic BPF over struct seccomp_data: number, architecture, instruction pointer, six arguments. Its
paths are walked with the number known and the arguments unknown, so the answer holds for every argument there is.
"""
import ctypes
import pathlib
import re
import struct

ALLOW = 0x7FFF0000
ARCH_X86_64 = 0xC000003E
SECCOMP_GET_FILTER = 0x420C
MAX_NUMBER = 600  # beyond what any kernel of today has
X32 = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def call_names():
    """{number: name} of this architecture's system calls, from the headers of the C library."""
    for path in ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"):
        if pathlib.Path(path).exists():
            return {int(n): name for name, n in re.findall(r"__NR_(\w+) (\d+)", pathlib.Path(path).read_text())}
    raise RuntimeError("asm/unistd_64.h is missing: install linux-libc-dev")


def read_filters(tid):
    """The programs on a thread that this one traces and that is stopped, oldest first; each [(code, jt, jf, k)...]."""
    programs = []
    while True:
        size = libc.ptrace(SECCOMP_GET_FILTER, tid, len(programs), None)
        if size < 0:
            break
        buffer = ctypes.create_string_buffer(size * 8)
        if libc.ptrace(SECCOMP_GET_FILTER, tid, len(programs), buffer) != size:
            raise OSError(ctypes.get_errno(), "PTRACE_SECCOMP_GET_FILTER")
        programs.append([struct.unpack_from("<HBBI", buffer.raw, 8 * i) for i in range(size)])
    return programs


class Unknown(Exception):
    pass


def load(offset, number, arch, args):
    if offset == 0:
        return number
    if offset == 4:
        return arch
    if offset >= 16:
        if args is None:
            raise Unknown
        return args[(offset - 16) // 8] >> (32 if offset % 8 else 0) & 0xFFFFFFFF
    raise ValueError(f"a filter reads offset {offset}")


def holds(code, a, k):
    return {0x10: a == k, 0x20: a > k, 0x30: a >= k, 0x40: bool(a & k)}[code & 0xF0]


def verdicts(program, number, arch=ARCH_X86_64, args=None, at=0, a=0, known=True, found=None):
    """The set of actions that the program may end with; with `args` there is one."""
    found = set() if found is None else found
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind = code & 7
        if code == 0x20:  # load a word
            try:
                a, known = load(k, number, arch, args), True
            except Unknown:
                known = False
        elif code == 0x54:  # and with a constant
            a &= k
        elif code == 0x05:
            at += k
        elif kind == 5:  # a comparison with a constant
            if known:
                at += jt if holds(code, a, k) else jf
            else:
                verdicts(program, number, arch, args, at + jt, a, known, found)
                at += jf
        elif code == 0x06:
            found.add(k)
            return found
        else:
            raise ValueError(f"a filter has instruction {code:#x}")


def allowed(programs, number, args=None):
    """"yes", "no" or, where it depends on arguments that are not given, "checked": every filter must say yes."""
    answer = "yes"
    for program in programs:
        seen = verdicts(program, number, args=args)
        if ALLOW not in seen:
            return "no"
        if seen != {ALLOW}:
            answer = "checked"
    return answer


def allowed_calls(programs):
    """{name: "yes" or "checked"} of everything that gets through."""
    names = call_names()
    out = {}
    for number in range(MAX_NUMBER):
        verdict = allowed(programs, number)
        if verdict != "no":
            out[names.get(number, str(number))] = verdict
    return out


def other_architectures_pass(programs):
    """Calls by the 32-bit entry or the x32 numbering that get through; there must be none."""
    out = []
    for number in range(MAX_NUMBER):
        if all(ALLOW in verdicts(program, number, arch=0x40000003) for program in programs):
            out.append(f"i386:{number}")
        if all(ALLOW in verdicts(program, number | X32) for program in programs):
            out.append(f"x32:{number}")
    return out
