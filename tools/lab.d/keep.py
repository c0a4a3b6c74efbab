# SPDX-License-Identifier: Apache-2.0
"""A lab that stays: its state directory, starting it in the background, finding it again, ending it.

The directory holds `lock` (held by the server as long as it lives), `socket`, `lab.json` (what it was started with) and
`log` (what went wrong).
"""

import fcntl
import json
import os
import pathlib
import socket
import stat
import time

import kernel
import server
import wire

WAIT_SECONDS = 30
# What must be the same for a lab to be shared.
SHARED = ("icount", "cpus", "memory", "out")


class KeepError(Exception):
    """The kept lab cannot be started, found or used; the text says why."""


def directory():
    """Returns the state directory, which no other user can enter."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    path = pathlib.Path(base if base.startswith("/") else "/tmp") / f"msb-lab-{os.getuid()}"
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise KeepError(f"{path} is not a directory that only you can enter; remove it")
    return path


def connect(path):
    """Returns a connection to the running lab's server, or None."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path / "socket"))
        return sock
    except OSError:
        sock.close()
        return None


def settings(path):
    """Returns what the running lab was started with."""
    try:
        return json.loads((path / "lab.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KeepError(f"{path}/lab.json: {error}") from error


def find():
    """Returns (connection, settings) of the running lab."""
    path = directory()
    sock = connect(path)
    if sock is None:
        raise KeepError("no lab is kept; start one with: tools/lab --keep")
    return sock, settings(path)


def start(options):
    """Returns (connection, True if it was started now) to a lab that is kept with these options."""
    path = directory()
    wanted = {name: getattr(options, name) for name in SHARED}
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            pass
        sock = connect(path)
        if sock is not None:
            os.close(lock)
            have = settings(path)
            if have != wanted:
                raise KeepError(f"a lab is kept with other settings ({have}); end it with: tools/lab stop")
            return sock, False
        if time.monotonic() > deadline:
            raise KeepError(f"another lab is starting or ending and does not get on; see {path}/log")
        time.sleep(0.1)

    files = kernel.prepare()
    (path / "socket").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path / "socket"))
    listener.listen(64)
    (path / "lab.json").write_text(json.dumps(wanted), encoding="utf-8")
    if os.fork() == 0:
        _serve(options, files, listener, lock, path)
    os.close(lock)
    listener.close()
    sock = connect(path)
    if sock is None:
        raise KeepError(f"the lab's server ended at once; see {path}/log")
    return sock, True


def _serve(options, files, listener, lock, path):
    """In the forked child: becomes the background server, never returns."""
    code = 1
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(path / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for target, fd in ((0, null), (1, log), (2, log)):
            os.dup2(fd, target)
        kept = sorted((listener.fileno(), lock))
        for low, high in zip([2, *kept], [*kept, os.sysconf("SC_OPEN_MAX")]):
            os.closerange(low + 1, high)
        os.chdir("/")
        server.Server(options, files, None, listener).run()
        (path / "socket").unlink(missing_ok=True)
        code = 0
    except BaseException as error:  # pylint: disable=broad-except
        os.write(2, f"lab: server: {error!r}\n".encode())
    os._exit(code)


def stop():
    """Ends the kept lab and waits until it is gone. Returns False if there was none."""
    path = directory()
    sock = connect(path)
    if sock is None:
        return False
    sock.sendall(wire.pack(wire.STOP, 0))
    while sock.recv(4096):
        pass
    lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.close(lock)
    return True
