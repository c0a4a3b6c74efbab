# SPDX-License-Identifier: Apache-2.0
"""Starts msb-vmm by its spec and talks to what it serves: for tests and benchmarks that need a machine, not a CLI."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MSB_BUILD", TOP / "build"))
VMM = BUILD / "libexec/msb/msb-vmm"
PATIENCE = 120

HELLO, REQUEST, REPLY, ERROR, STDIN, STDOUT, STDERR, STDIN_EOF, EXIT = range(1, 10)
STARTED = 16
AGENT_PORT = 1024


def kernel_path():
    built = BUILD / "share/msb/vmlinux"
    if built.exists():
        return built
    done = subprocess.run([TOP / "kernel-config/build.sh"], stdout=subprocess.PIPE, check=True)
    return pathlib.Path(done.stdout.decode().strip().splitlines()[-1])


def make_root(directory):
    """An EROFS image with busybox, and where it lies. Padded to a multiple of 4 KiB by mkfs.erofs."""
    tree = directory / "tree"
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "run", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "true", "false", "cat", "echo", "sleep", "ls", "dd", "sha256sum", "sync", "poweroff", "reboot", "nproc", "free", "kill", "head", "mount", "ps", "sed", "cut", "wc", "tail", "sort", "grep", "mkdir", "rm", "chmod", "id", "env", "stat", "dmesg", "tee", "init", "halt", "setsid", "touch", "mv", "chown"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    image = directory / "root.erofs"
    subprocess.run(["mkfs.erofs", "-T0", str(image), str(tree)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.rmtree(tree)
    directory.chmod(0o755)  # so that a sandbox of another user can read it
    return image


def make_upper(path, mib):
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-O", "^has_journal", str(path)], check=True)


class Frames:
    """Frames over a connected socket."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(PATIENCE)

    def send(self, kind, payload=b""):
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        self.sock.sendall(struct.pack("<IBBH", len(payload), kind, 0, 0) + payload)

    def take(self, size):
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError("the connection ended")
            data += piece
        return data

    def next(self):
        length, kind, _, _ = struct.unpack("<IBBH", self.take(8))
        return kind, self.take(length)

    def request(self, message):
        """The payload of REPLY; ERROR becomes an exception."""
        self.send(HELLO, {"version": 1, "min": 1, "agent": "test"})
        self.send(REQUEST, message)
        while True:
            kind, payload = self.next()
            if kind == REPLY:
                return json.loads(payload)
            if kind == ERROR:
                raise RuntimeError(payload.decode())

    def close(self):
        self.sock.close()


class Machine:
    """One sandbox. `changes` are merged into the spec's top level."""

    shared_root = None

    def __init__(self, **changes):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="msb-boot-"))
        self.changes = changes
        self.process = None
        self.ready = None

    def spec(self):
        if Machine.shared_root is None:
            Machine.shared_root = make_root(pathlib.Path(tempfile.mkdtemp(prefix="msb-root-")))
        spec = {
            "version": 1, "name": "test", "dir": str(self.dir), "kernel": self.changes.get("kernel") or str(kernel_path()), "initrd": str(BUILD / "share/msb/agent.cpio"),
            "root": {"kind": "erofs", "extents": [{"path": str(Machine.shared_root), "offset": 0, "length": Machine.shared_root.stat().st_size}]},
            "upper": {"kind": "tmpfs", "size_mib": 64},
            "guest": {"version": 1, "hostname": "test", "upper": {"device": None, "tmpfs_size_mib": 64}, "env": ["PATH=/bin"], "clock_ns": time.time_ns()},
            "timeouts": {"boot_s": 100},
        }
        spec.update(self.changes)
        return {key: value for key, value in spec.items() if value is not ...}

    def launch(self, raw=None, under=()):
        """Starts msb-vmm, behind the words of the command `under`; the descriptor to read what it says on ready_fd."""
        ready_read, ready_write = os.pipe()
        spec_fd = os.memfd_create("spec")
        spec = self.spec()
        spec.setdefault("ready_fd", ready_write)
        os.write(spec_fd, raw if raw is not None else json.dumps(spec).encode())
        os.lseek(spec_fd, 0, os.SEEK_SET)
        for fd in (ready_write, spec_fd):
            os.set_inheritable(fd, True)
        self.began = time.monotonic_ns()
        self.stderr = open(self.dir / "stderr", "wb+")
        fds = [spec_fd, ready_write] + [value for key, value in spec.items() if key == "leash_fd" and value]
        self.process = subprocess.Popen([*under, str(VMM), "--spec-fd", str(spec_fd)], pass_fds=fds, stderr=self.stderr, stdin=subprocess.DEVNULL)
        os.close(ready_write)
        os.close(spec_fd)
        return ready_read

    def start(self, expect_ready=True, raw=None, under=(), patience=PATIENCE):
        """The same, and waits for what it says, which may take `patience` seconds."""
        ready_read = self.launch(raw, under)
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([ready_read], [], [], patience)[0]:
                raise RuntimeError("no ready line: " + self.log())
            piece = os.read(ready_read, 65536)
            if not piece:
                break
            line += piece
        self.took_ms = (time.monotonic_ns() - self.began) / 1e6
        os.close(ready_read)
        self.ready = json.loads(line) if line else None
        if expect_ready and not (self.ready and self.ready.get("ready")):
            raise RuntimeError(f"not ready: {line.decode()} {self.log()}")
        return self

    def log(self):
        text = (self.dir / "stderr").read_text(errors="replace")[-2000:]
        console = self.dir / "logs/console.log"
        if console.exists():
            text += "\nconsole: " + console.read_text(errors="replace")[-2000:]
        return text

    def connect(self, name):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.dir / "run" / name))
        return sock

    def agent(self):
        sock = self.connect("vsock.sock")
        sock.sendall(b"CONNECT %d\n" % AGENT_PORT)
        answer = b""
        while not answer.endswith(b"\n"):
            piece = sock.recv(1)
            if not piece:
                raise RuntimeError("the guest refused: " + self.log())
            answer += piece
        return Frames(sock)

    def control(self, message):
        frames = Frames(self.connect("control.sock"))
        try:
            return frames.request(message)
        finally:
            frames.close()

    def exec(self, *argv, stdin=b""):
        """(exit message, stdout, stderr)"""
        frames = self.agent()
        frames.send(HELLO, {"version": 1, "min": 1, "agent": "test"})
        frames.send(REQUEST, {"op": "exec", "argv": list(argv), "stdin": bool(stdin)})
        if stdin:
            for at in range(0, len(stdin), 65536):
                frames.send(STDIN, stdin[at : at + 65536])
            frames.send(STDIN_EOF)
        out = {STDOUT: b"", STDERR: b""}
        while True:
            kind, payload = frames.next()
            if kind in out:
                out[kind] += payload
            elif kind == EXIT:
                frames.close()
                return json.loads(payload), out[STDOUT], out[STDERR]
            elif kind == ERROR:
                frames.close()
                raise RuntimeError(payload.decode())

    def state(self):
        return json.loads((self.dir / "state.json").read_text())

    def wait(self):
        return self.process.wait(PATIENCE)

    def end(self):
        """What state.json says of the end, after it."""
        self.wait()
        return self.state().get("end", {})

    def children(self):
        found = []
        for task in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = task.read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == self.process.pid:
                    found.append(int(task.parent.name))
        return found

    def left(self):
        """Running processes that have this sandbox's directory, or what lies in it, open; it may take a moment."""
        for _ in range(40):
            found = []
            for link in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
                with contextlib.suppress(OSError):
                    if os.readlink(link).startswith(str(self.dir)) and int(link.parts[2]) != os.getpid():
                        found.append(int(link.parts[2]))
            if not found:
                return []
            time.sleep(0.05)
        return sorted(set(found))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
