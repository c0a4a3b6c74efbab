# SPDX-License-Identifier: Apache-2.0
"""PID 1 of the lab: runs commands that come over the virtio-serial port and carries their streams and exit status.

One thread, one loop. A command runs in its own session and its own cgroup; when its first process ends, or its client goes,
whatever is left of the cgroup is killed, so that nothing of one command is there for the next.
"""

import ctypes
import errno
import fcntl
import glob
import json
import os
import resource
import selectors
import signal
import stat
import struct
import sys
import termios
import time

import wire

CGROUPS = "/sys/fs/cgroup"
MODULES_LOADED = 9  # init.sh writes a line to this descriptor
# How long the streams of an ended command may stay open without a byte before they are closed by force: only a process
# that left the command's cgroup can hold them.
LINGER_SECONDS = 5.0

MS_BIND = 4096

libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, fstype, flags, options):
    if libc.mount(source.encode(), target.encode(), fstype.encode(), flags, options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} on {target}: {os.strerror(code)}")


def write_file(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


class Session:
    """One command: its process, its three streams, what is still to be written and how much may be sent."""

    def __init__(self, agent, number):
        self.agent = agent
        self.number = number
        self.cgroup = f"{CGROUPS}/lab-{number}"
        self.pid = None
        self.status = None
        self.linger_until = None
        self.tty = False
        self.stdin = None
        self.stdin_buffer = bytearray()
        self.stdin_ended = False
        self.outputs = {}  # wire type -> descriptor
        self.credit = {wire.STDOUT: wire.WINDOW, wire.STDERR: wire.WINDOW}
        self.syncs = False

    def start(self, request):
        if request.get("fresh"):
            # A kept lab: forget what was cached of the host's tree, it may have changed since the last command.
            write_file("/proc/sys/vm/drop_caches", "3")
        if request.get("out"):
            self.agent.mount_out(request["out"])
            self.syncs = True
        reveal(request["cwd"])
        os.mkdir(self.cgroup)
        self.tty = bool(request.get("tty"))
        if self.tty:
            master, slave = os.openpty()
            self._resize(slave, *request["tty"])
            child = (slave, slave, slave)
            self.stdin, self.outputs = os.dup(master), {wire.STDOUT: master}
        else:
            out_read, out_write = os.pipe()
            err_read, err_write = os.pipe()
            for fd in (out_read, err_read):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 256 << 10)
            if request.get("stdin"):
                in_read, self.stdin = os.pipe()
            else:
                in_read = os.open("/dev/null", os.O_RDONLY)
            child = (in_read, out_write, err_write)
            self.outputs = {wire.STDOUT: out_read, wire.STDERR: err_read}
        self.pid = os.fork()
        if self.pid == 0:
            self._become(request, child)
        for fd in set(child):
            os.close(fd)
        for fd in self.outputs.values():
            os.set_blocking(fd, False)
        if self.stdin is not None:
            os.set_blocking(self.stdin, False)
        self.watch()

    def _become(self, request, child):
        """In the new process: turns into the command, never returns."""
        code = 126
        try:
            write_file(f"{self.cgroup}/cgroup.procs", "0")
            os.setsid()
            for target, fd in enumerate(child):
                os.dup2(fd, target)
            if self.tty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.closerange(3, 4096)
            os.umask(request["umask"])
            os.chdir(request["cwd"])
            env = request["env"]
            os.environb.clear()
            program = request["argv"][0]
            try:
                os.execvpe(program, request["argv"], env)
            except FileNotFoundError:
                code = 127
                raise
        except OSError as error:
            os.write(2, f"lab: {request['argv'][0]}: {error}\n".encode())
        except BaseException as error:  # pylint: disable=broad-except
            os.write(2, f"lab: {error!r}\n".encode())
        os._exit(code)

    @staticmethod
    def _resize(fd, rows, columns):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("<HHHH", rows, columns, 0, 0))

    def watch(self):
        """Tells the loop which descriptors to look at: outputs only with credit, stdin only with something to write."""
        for kind, fd in self.outputs.items():
            self.agent.want(fd, selectors.EVENT_READ if self.credit[kind] > 0 else 0, (self, kind))
        if self.stdin is not None:
            self.agent.want(self.stdin, selectors.EVENT_WRITE if self.stdin_buffer else 0, (self, wire.STDIN))

    def on_ready(self, kind):
        if kind == wire.STDIN:
            self._flush_stdin()
        elif kind in self.outputs:
            self._pump(kind)
        self.watch()

    def _pump(self, kind):
        fd = self.outputs[kind]
        try:
            data = os.read(fd, min(wire.CHUNK, self.credit[kind]))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # a pty's end of file
                raise
            data = b""
        if not data:
            self.agent.want(fd, 0, None)
            os.close(fd)
            del self.outputs[kind]
            return
        if self.linger_until:
            self.linger_until = time.monotonic() + LINGER_SECONDS
        self.credit[kind] -= len(data)
        self.agent.send(kind, self.number, data)

    def on_stdin(self, data):
        if data:
            self.stdin_buffer += data
        else:
            self.stdin_ended = True
        self._flush_stdin()
        self.watch()

    def _flush_stdin(self):
        done = 0
        if self.stdin is None:
            done = len(self.stdin_buffer)
        elif self.stdin_buffer:
            try:
                done = os.write(self.stdin, self.stdin_buffer)
            except BlockingIOError:
                pass
            except OSError:  # nobody reads any more: what comes is dropped, as in a broken pipe
                done = len(self.stdin_buffer)
                self._close_stdin()
        if done:
            del self.stdin_buffer[:done]
            self.agent.send(wire.ACK, self.number, wire.ACKED.pack(wire.STDIN, done))
        if self.stdin_ended and not self.stdin_buffer and self.stdin is not None and not self.tty:
            self._close_stdin()

    def _close_stdin(self):
        if self.stdin is not None:
            self.agent.want(self.stdin, 0, None)
            os.close(self.stdin)
            self.stdin = None

    def on_ack(self, kind, count):
        if kind in self.credit:
            self.credit[kind] += count
            self.watch()

    def on_signal(self, number):
        if self.pid and self.status is None:
            try:
                os.killpg(self.pid, number)
            except OSError:
                pass

    def on_resize(self, rows, columns):
        if self.tty and wire.STDOUT in self.outputs:
            self._resize(self.outputs[wire.STDOUT], rows, columns)

    def kill(self):
        for path in [self.cgroup, *glob.glob(f"{self.cgroup}/**/", recursive=True)]:
            try:
                write_file(f"{path}/cgroup.kill", "1")
            except OSError:
                pass

    def on_exit(self, status):
        self.status = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self.kill()
        self.linger_until = time.monotonic() + LINGER_SECONDS

    def finished(self, now):
        """True when the command has ended and all it wrote is sent."""
        if self.status is None:
            return False
        if self.outputs:
            waits_for_client = any(self.credit[k] <= 0 for k in self.outputs)
            if waits_for_client or now < self.linger_until:
                return False
        return True

    def close(self):
        for fd in self.outputs.values():
            self.agent.want(fd, 0, None)
            os.close(fd)
        self.outputs = {}
        self._close_stdin()
        for path in sorted(glob.glob(f"{self.cgroup}/**/", recursive=True), reverse=True):
            try:
                os.rmdir(path)
            except OSError:
                pass
        if self.syncs:
            os.sync()


def reveal(path):
    """Makes a directory of the host that lies under one of the lab's own tmpfs (a /tmp/x, say) visible there."""
    if os.path.isdir(path) or not os.path.isdir("/run/lab/root" + path):
        return
    os.makedirs(path, exist_ok=True)
    mount("/run/lab/root" + path, path, "none", MS_BIND, "")


class Agent:
    def __init__(self, port):
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.events = {}
        self.sessions = {}
        self.out = None
        self.wakeup_read, self.wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def want(self, fd, events, data):
        """Sets what the loop waits for on a descriptor; 0 for nothing."""
        have = self.events.get(fd, 0)
        if have == events:
            return
        if not have:
            self.selector.register(fd, events, data)
        elif not events:
            self.selector.unregister(fd)
        else:
            self.selector.modify(fd, events, data)
        self.events[fd] = events

    def send(self, kind, session, payload=b""):
        # Blocking: the server always reads, and what it holds is bounded by the windows.
        data = memoryview(wire.pack(kind, session, payload))
        while data:
            data = data[os.write(self.port, data) :]

    def mount_out(self, path):
        if self.out is None:
            os.makedirs(path, exist_ok=True)
            mount("out", path, "9p", 0, "trans=virtio,version=9p2000.L,msize=512000,cache=mmap")
            self.out = path

    def handle(self, kind, number, payload):
        session = self.sessions.get(number)
        if kind == wire.START:
            session = Session(self, number)
            try:
                session.start(json.loads(payload))
                self.sessions[number] = session
            except (OSError, ValueError, KeyError) as error:
                self.send(wire.ERROR, number, f"could not start the command: {error}".encode())
                session.close()
        elif session is None:
            pass  # it ended meanwhile
        elif kind == wire.STDIN:
            session.on_stdin(payload)
        elif kind == wire.ACK:
            session.on_ack(*wire.ACKED.unpack(payload))
        elif kind == wire.SIGNAL:
            session.on_signal(wire.U32.unpack(payload)[0])
        elif kind == wire.RESIZE:
            session.on_resize(*wire.SIZE.unpack(payload))
        elif kind == wire.KILL:
            session.kill()
            for stream in session.credit:  # nobody will acknowledge: let the rest run out
                session.credit[stream] = 1 << 62
            session.watch()

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for session in self.sessions.values():
                if session.pid == pid:
                    session.on_exit(status)

    def run(self):
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wakeup_write, warn_on_full_buffer=False)
        self.want(self.wakeup_read, selectors.EVENT_READ, (None, None))
        self.want(self.port, selectors.EVENT_READ, (None, wire.START))
        self.send(wire.HELLO, 0)
        decoder = wire.Decoder()
        while True:
            lingering = any(s.status is not None for s in self.sessions.values())
            for key, _ in self.selector.select(0.2 if lingering else None):
                session, kind = key.data
                if session is not None:
                    session.on_ready(kind)
                elif kind is None:
                    os.read(self.wakeup_read, 4096)
                    self.reap()
                else:
                    data = os.read(self.port, 64 << 10)
                    if not data:
                        return  # the server is gone
                    for frame in decoder.feed(data):
                        self.handle(*frame)
            now = time.monotonic()
            for number, session in list(self.sessions.items()):
                if session.finished(now):
                    session.close()
                    del self.sessions[number]
                    self.send(wire.EXIT, number, wire.I32.pack(session.status))


def find_port():
    for name in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(name, encoding="ascii") as file:
            if file.read().strip() == "msb.lab":
                return os.open("/dev/" + name.split("/")[-2], os.O_RDWR | os.O_CLOEXEC)
    raise OSError(errno.ENODEV, "no virtio-serial port")


def make_device_nodes(table):
    """Makes the nodes whose opening loads a module, from depmod's table of "module name type:major:minor" lines."""
    with open(table, encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if len(fields) != 3 or line.startswith("#"):
                continue
            kind = stat.S_IFCHR if fields[2][0] == "c" else stat.S_IFBLK
            major, minor = fields[2][1:].split(":")
            path = f"/dev/{fields[1]}"
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.mknod(path, kind | 0o600, os.makedev(int(major), int(minor)))


def set_up():
    """What needs no shell: limits, device permissions, modules on demand, controllers."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    # The overlay seen without what is mounted over it.
    os.makedirs("/run/lab/root", exist_ok=True)
    mount("/", "/run/lab/root", "none", MS_BIND, "")
    with open("/proc/cmdline", encoding="utf-8") as file:
        words = dict(w.split("=", 1) for w in file.read().split() if "=" in w)
    tree = bytes.fromhex(words.get("lab.modules", "")).decode()
    if tree:
        os.makedirs("/lib/modules", exist_ok=True)
        reveal(tree)
        target = f"/lib/modules/{os.uname().release}"
        if not os.path.isdir(target):
            os.makedirs(target, exist_ok=True)
            mount(f"/run/lab/root{tree}/lib/modules/{os.uname().release}", target, "none", MS_BIND, "")
            make_device_nodes(f"{target}/modules.devname")
    with open(f"{CGROUPS}/cgroup.controllers", encoding="ascii") as file:
        for controller in file.read().split():
            try:
                write_file(f"{CGROUPS}/cgroup.subtree_control", f"+{controller}")
            except OSError:
                pass
    os.read(MODULES_LOADED, 1)
    os.close(MODULES_LOADED)
    for device in ("kvm", "fuse", "vhost-vsock", "net/tun"):
        try:
            os.chmod(f"/dev/{device}", 0o666)
        except FileNotFoundError:
            print(f"lab: no /dev/{device}", file=sys.stderr)


def main():
    set_up()
    Agent(find_port()).run()
    os.sync()
    write_file("/proc/sysrq-trigger", "o")
    signal.pause()


main()
