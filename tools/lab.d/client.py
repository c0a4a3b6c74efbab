# SPDX-License-Identifier: Apache-2.0
"""The lab's client: carries one command's streams between this process and the lab, and returns its exit status."""

import errno
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import time
import tty

import wire

LAB_FAILED = 125
TIMED_OUT = 124
# A command that is asked to end by a signal has this long to do so.
GRACE_SECONDS = 3.0
# Names that mean nothing in the lab: they lead to the caller's session, whose files are not there.
DROPPED = {"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "DISPLAY", "WAYLAND_DISPLAY"}


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


def window_size():
    try:
        rows, columns, _, _ = struct.unpack("<HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        rows, columns = 24, 80
    return rows, columns


class Client:
    """`sock` is connected to a server; `limit` is in seconds from the command's start, None for none."""

    def __init__(self, sock, limit):
        self.sock = sock
        self.limit = limit
        self.deadline = None
        self.decoder = wire.Decoder()
        self.unsent = bytearray()
        self.outputs = {wire.STDOUT: (1, bytearray()), wire.STDERR: (2, bytearray())}
        self.broken = set()
        self.reads_stdin = False
        self.stdin_credit = wire.WINDOW
        self.status = None
        self.signals = []
        self.grace = None
        self.signalled = None
        self.wakeup, self.wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self, argv, interactive=False, stdin=True, out=None, ram=(), fresh=False):
        """Runs a command and returns the exit status that this process should have.

        `out` is the directory whose contents come back, `ram` the files that are put into the lab's memory first; `fresh` makes
        the lab forget what it cached of the host's files. Standard input is passed on if it is no terminal, or `interactive`;
        with `stdin` False it is left alone.
        """
        self.reads_stdin = interactive or (stdin and not os.isatty(0))
        umask = os.umask(0o22)
        os.umask(umask)
        env = {k: v for k, v in os.environ.items() if k not in DROPPED}
        env["MSB_LAB"] = "1"
        flags = (wire.FLAG_STDIN * self.reads_stdin) | (wire.FLAG_TTY * interactive) | (wire.FLAG_FRESH * fresh)
        size = window_size() if interactive else (0, 0)
        self.sock.setblocking(False)
        self._send(wire.START, wire.pack_start(argv, env, ram, os.getcwd(), out or "", umask, size, flags))
        handled = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
        if interactive:
            handled.append(signal.SIGWINCH)
        signal.set_wakeup_fd(self.wakeup_write, warn_on_full_buffer=False)
        for number in handled:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda n, _: self.signals.append(n))
        saved = None
        if interactive and os.isatty(0):
            saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)  # keep what was typed ahead
        try:
            return self._loop()
        finally:
            if saved is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)

    def _send(self, kind, payload=b""):
        self.unsent += wire.pack(kind, 0, payload)

    def _loop(self):
        while True:
            pending = any(buffer for _, buffer in self.outputs.values())
            if self.status is not None and not pending:
                return self.status
            now = time.monotonic()
            for end, why in ((self.deadline, "timeout"), (self.grace, "signal")):
                if end is not None and now >= end:
                    return self._give_up(why)
            ends = [e for e in (self.deadline, self.grace) if e is not None]
            self._wait(min(ends) - now if ends else None)
            for number in self._take_signals():
                if number == signal.SIGWINCH:
                    self._send(wire.RESIZE, wire.SIZE.pack(*window_size()))
                elif self.signalled is not None or self.deadline is None and self.limit is not None:
                    self.signalled = number
                    return self._give_up("signal")
                else:
                    self.signalled = number
                    self.grace = time.monotonic() + GRACE_SECONDS
                    self._send(wire.SIGNAL, wire.U32.pack(number))

    def _take_signals(self):
        taken, self.signals = self.signals, []
        return taken

    def _give_up(self, why):
        if why == "timeout":
            say(f"timeout: the command did not end within {self.limit:g} s; it was ended")
            return TIMED_OUT
        return 128 + self.signalled

    def _wait(self, timeout):
        poll = select.poll()
        poll.register(self.wakeup, select.POLLIN)
        if self.status is None:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.unsent else 0))
        if self.reads_stdin and self.stdin_credit > 0 and self.status is None and len(self.unsent) < wire.WINDOW:
            poll.register(0, select.POLLIN)
        for fd, buffer in self.outputs.values():
            if buffer:
                poll.register(fd, select.POLLOUT)
        ready = dict(poll.poll(None if timeout is None else max(0, timeout * 1000)))
        if self.wakeup in ready:
            os.read(self.wakeup, 4096)
        for kind, (fd, buffer) in self.outputs.items():
            if fd in ready and buffer:
                self._write(kind, fd, buffer)
        if 0 in ready and self.reads_stdin:
            self._read_stdin()
        events = ready.get(self.sock.fileno(), 0)
        if events & select.POLLOUT:
            self._flush()
        if events & ~select.POLLOUT:
            self._receive()

    def _write(self, kind, fd, buffer):
        """Writes what never blocks: poll() promises room for PIPE_BUF bytes in a pipe."""
        try:
            done = os.write(fd, memoryview(buffer)[: select.PIPE_BUF])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EPIPE:
                say(f"cannot write: {error}")
            self.broken.add(kind)
            self._send(wire.CLOSE, wire.U32.pack(kind))
            buffer.clear()
            return
        del buffer[:done]
        self._acknowledge(kind, done)

    def _acknowledge(self, kind, count):
        self._send(wire.ACK, wire.ACKED.pack(kind, count))

    def _read_stdin(self):
        try:
            data = os.read(0, min(wire.CHUNK, self.stdin_credit))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._send(wire.STDIN, data)
        if not data:
            self.reads_stdin = False
        self.stdin_credit -= len(data)

    def _flush(self):
        try:
            sent = self.sock.send(memoryview(self.unsent)[: 256 << 10])
            del self.unsent[:sent]
        except OSError:
            pass

    def _receive(self):
        try:
            data = self.sock.recv(256 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._fail("the lab is gone")
            return
        for kind, _, payload in self.decoder.feed(data):
            if kind in self.outputs:
                if kind not in self.broken:
                    self.outputs[kind][1].extend(payload)
            elif kind == wire.HELLO:
                if self.limit is not None:
                    self.deadline = time.monotonic() + self.limit
            elif kind == wire.ACK:
                self.stdin_credit += wire.ACKED.unpack(payload)[1]
            elif kind == wire.EXIT:
                self.status = wire.I32.unpack(payload)[0]
            elif kind == wire.ERROR:
                self._fail(payload.decode("utf-8", "replace"))

    def _fail(self, text):
        if self.status is None:
            if self.signalled is not None:
                self.status = 128 + self.signalled
            else:
                say(text)
                self.status = LAB_FAILED
