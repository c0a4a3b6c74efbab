# SPDX-License-Identifier: Apache-2.0
"""Every program of ours started for real, as far as where it waits for its first byte from outside, confined."""
import fcntl
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/boot"))
from machine import Machine  # noqa: E402

BUILD = pathlib.Path(os.environ.get("MSB_BUILD", TOP / "build"))
GUEST = pathlib.Path(os.environ.get("MSB_ATTACK_GUEST", BUILD / "dev/tests/attack_guest"))
NET = {"enabled": True, "config": {"version": 1, "guest": {"ipv4": {"address": "172.16.0.2", "prefix": 30, "gateway": "172.16.0.1"}}}}
IMAGE_ROLES = ("unpacker", "loader", "saver", "registry")  # each a method of Stage; the others are a sandbox's
USER = 12345  # an ordinary account: no groups, no capabilities, owns nothing but its state directory


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


def status(pid):
    """The fields of /proc/PID/status."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def threads(pid):
    """{name: tid}; of several alike, the first."""
    found = {}
    for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
        found.setdefault(pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip(), tid)
    return found


class Stage:
    """A state directory, a sandbox with network, and what else is running; all of it ends with the `with` block."""

    def __init__(self, user=USER):
        self.user = user
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="msb-confine-"))
        self.root.chmod(0o755)
        self.home = self.root / "home"
        self.home.mkdir()
        self.secret = self.home / "secret"
        self.secret.write_text("of the user")
        self.others = self.home / "msb/sandboxes/other/spec.json"
        self.others.parent.mkdir(parents=True)
        self.others.write_text("{}")
        for path in (self.home, self.secret, self.home / "msb", self.home / "msb/sandboxes", self.others.parent, self.others):
            os.chown(path, user, user)
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "MSB_HOME": str(self.home / "msb")}
        self.machine = None
        self.running = []
        self.kept = []  # writing ends: they keep readers waiting
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(b"\0" + self.root.name.encode())
        self.abstract.listen()
        self.victim = self.spawn("sleep", "100000").pid

    def as_user(self, *words):
        if self.user == 0:
            return list(map(str, words))
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *map(str, words)]

    def spawn(self, *words, **more):
        child = subprocess.Popen(self.as_user(*words), cwd=self.home, stderr=subprocess.DEVNULL,
                                 **{"env": self.environment, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **more})
        self.running.append(child)
        return child

    def sandbox(self):
        """{role: pid} of a running sandbox whose guest does nothing: the roles confine themselves before it may."""
        self.machine = Machine(kernel=str(GUEST), cmdline_extra="attack=hang", net=NET, memory_mib={"size": 128, "max": 128},
                               timeouts={"boot_s": 600}, ready_fd=None)
        disk = self.machine.dir / "disk"
        disk.write_bytes(bytes(1 << 20))
        for path in (disk, self.machine.dir):
            os.chown(path, self.user, self.user)
        self.machine.changes["disks"] = [{"path": str(disk), "readonly": False, "id": "d"}]
        self.machine.launch(under=self.as_user())
        until(lambda: (self.machine.dir / "run/control.sock").exists() or self.machine.process.poll() is not None, "the supervisor role serves")
        until(lambda: status(self.machine.process.pid)["NoNewPrivs"] == "1", "the supervisor role confines itself")
        told = self.machine.control({"op": "status"})
        until(lambda: "vcpu0" in threads(told["machine_pid"]) and status(told["machine_pid"])["Seccomp"] == "2", "the machine role runs")
        until(lambda: status(told["net_pid"])["Seccomp"] == "2", "msb-net confines itself")
        return {"supervisor": told["pid"], "machine": told["machine_pid"], "net": told["net_pid"]}

    def control_socket(self):
        return str(self.machine.dir / "run/control.sock" if self.machine else self.home / "none").encode()

    def unpacker(self):
        """The unpacker, waiting for the first byte of a layer."""
        layer, keep = os.pipe()
        self.kept.append(keep)
        files = [os.memfd_create(name) for name in ("blob", "split", "scratch", "answer")]
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in files]  # out of the way of those it expects
        shell = 'exec "$0" unpack-layer 3<&$1 4<&$2 5<&$3 6<&$4'
        child = self.spawn("bash", "-c", shell, BUILD / "libexec/msb/msb-image", *high, stdin=layer, pass_fds=high)
        until(lambda: status(child.pid)["Seccomp"] == "2", "the unpacker confines itself")
        return child.pid

    def loader(self):
        """msb-image load, waiting for an archive."""
        quiet, keep = os.pipe()
        self.kept.append(keep)
        child = self.spawn(BUILD / "libexec/msb/msb-image", "load", stdin=quiet)
        until(lambda: status(child.pid)["Seccomp"] == "2", "the loader confines itself")
        return child.pid

    def saver(self):
        """msb-image save, waiting for the lock of its store: one of its own, for a load keeps the other's."""
        apart = {**self.environment, "MSB_HOME": str(self.home / "saving")}
        subprocess.run(self.as_user(BUILD / "libexec/msb/msb-image", "ls"), env=apart, cwd=self.home, stdout=subprocess.DEVNULL, check=True)
        lock = os.open(self.home / "saving/images/lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.chown(lock, self.user, self.user)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.kept.append(lock)
        child = self.spawn(BUILD / "libexec/msb/msb-image", "save", "none:1", env=apart)
        until(lambda: status(child.pid)["Seccomp"] == "2", "the saver confines itself")
        return child.pid

    def registry(self):
        """msb-registry pull, waiting for an answer of its registry."""
        port = self.listener.getsockname()[1]
        child = self.spawn(BUILD / "libexec/msb/msb-registry", "pull", "--plain-http", f"127.0.0.1:{port}/some/image:1")
        self.listener.settimeout(60)
        self.registry_side = self.listener.accept()[0]
        return child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.machine:
            self.machine.__exit__()
        for child in self.running:
            child.send_signal(signal.SIGKILL)
            child.wait()
        subprocess.run(["rm", "-rf", self.root], check=False)
