# SPDX-License-Identifier: Apache-2.0
"""System calls made by a thread of another process, as if code of its own had: what someone who has taken it over can do.

The thread is stopped with ptrace where it waits in a system call; the instruction that got it there is used again with other
registers. No code is put into the program, so what is tried is the program that is shipped. With `unfiltered`, the tracer
suspends the thread's seccomp filters (PTRACE_O_SUSPEND_SECCOMP): then the kernel's answer shows what stands behind them.

Needs root, and a kernel with CONFIG_CHECKPOINT_RESTORE (Debian's has it).
"""
import ctypes
import errno
import os
import time

from filters import libc

TRACEME, SINGLESTEP, GETREGS, SETREGS, DETACH, SYSCALL, SEIZE, INTERRUPT = 0, 9, 12, 13, 17, 24, 0x4206, 0x4207
O_EXITKILL, O_SUSPEND_SECCOMP = 1 << 20, 1 << 21
WALL = 0x40000000
NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
         "ds es fs gs").split()
SCRATCH = 1 << 16


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in NAMES]


class Killed(Exception):
    """The process died of the call; its argument is the signal."""


def ptrace(request, tid, data=None):
    address = ctypes.byref(data) if isinstance(data, ctypes.Structure) else data
    if libc.ptrace(request, tid, None, ctypes.cast(address, ctypes.c_void_p) if address is not None else None) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace {request:#x} of {tid}: {os.strerror(code)}")


class Held:
    """A thread of another process, held still. Leaving it lets the thread go on where it was."""

    def __init__(self, tid, unfiltered=False):
        self.tid = tid
        self.gone = False
        ptrace(SEIZE, tid, O_SUSPEND_SECCOMP if unfiltered else 0)
        ptrace(INTERRUPT, tid)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 30
        while True:
            pid, status = os.waitpid(self.tid, WALL | os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"thread {self.tid} does not stop")
            time.sleep(0.0005)
        if os.WIFSIGNALED(status) or os.WIFEXITED(status):
            self.gone = True
            raise Killed(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)

    def close(self):
        if not self.gone:
            ptrace(DETACH, self.tid)
            self.gone = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.close()
        except OSError:
            pass  # it has ended


class Thread(Held):
    """One that makes calls for us."""

    def __init__(self, tid, unfiltered=False):
        super().__init__(tid, unfiltered)
        self.memory = None
        self.scratch = 0
        self.saved = self.registers()
        with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
            for _ in range(1000):  # until it is just behind a system call
                if os.pread(memory.fileno(), 2, self.saved.rip - 2) == b"\x0f\x05":
                    return
                ptrace(SYSCALL, tid)
                self.wait()
                self.saved = self.registers()
        raise RuntimeError(f"thread {tid} makes no system calls")

    def registers(self):
        out = Registers()
        ptrace(GETREGS, self.tid, out)
        return out

    def call(self, number, *args):
        """What the kernel returned: negative values are errors."""
        regs = Registers.from_buffer_copy(self.saved)
        regs.rip -= 2
        regs.rax = number
        regs.orig_rax = (1 << 64) - 1  # nothing is to be restarted
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args):
            setattr(regs, name, value & (1 << 64) - 1)
        ptrace(SETREGS, self.tid, regs)
        ptrace(SINGLESTEP, self.tid)
        self.wait()
        result = self.registers().rax
        return result - (1 << 64) if result >> 63 else result

    def put(self, *parts):
        """Copies byte strings into memory of the process; their addresses there."""
        if not self.scratch:
            self.scratch = self.call(9, 0, SCRATCH, 3, 0x22, -1, 0)  # mmap, private and anonymous
            if self.scratch < 0:
                raise OSError(-self.scratch, "mmap in the other process")
            self.memory = open(f"/proc/{self.tid}/mem", "wb", buffering=0)
        addresses, at = [], self.scratch
        for part in parts:
            self.memory.seek(at)
            self.memory.write(part)
            addresses.append(at)
            at += len(part) + 15 & ~15
        return addresses

    def close(self):
        if self.memory:
            self.memory.close()
        if not self.gone:
            ptrace(SETREGS, self.tid, self.saved)
        super().close()


def text(result):
    """"yes", or the name of the error."""
    return "yes" if result >= 0 else errno.errorcode.get(-result, str(result))

