# SPDX-License-Identifier: Apache-2.0
"""What the command's suites on real guests share: the release build, a state directory of their own, cases."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MSB_BUILD", TOP / "build"))
PROGRAM = BUILD / "bin/msb"
IMAGE = "localhost/msb-default"
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="msb-guests-"))
HOME = ROOT / "home"
ENV = {**os.environ, "MSB_HOME": str(HOME)}


class Failed(Exception):
    pass


def msb(*words, stdin=b"", timeout=120):
    return subprocess.run([PROGRAM, *map(str, words)], input=stdin, capture_output=True, timeout=timeout, env=ENV)


def check(condition, what, result=None):
    if condition:
        return
    if result is not None:
        what += f" (rc={result.returncode} out={result.stdout[-300:]!r} err={result.stderr[-300:]!r})"
    raise Failed(what)


def good(*words, **kwargs):
    """The standard output of a command that must succeed, stripped."""
    result = msb(*words, **kwargs)
    check(result.returncode == 0, "msb " + " ".join(map(str, words)), result)
    return result.stdout.decode().strip()


def guest(name, script, **kwargs):
    return good("exec", name, "--", "sh", "-c", script, **kwargs)


def state(name):
    return json.loads(good("inspect", "--format", "json", name))


def names():
    return good("ls", "-q").split()


def until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, what)
        time.sleep(0.05)


def processes():
    """Processes of this build, as {pid: argv}."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            continue
        if alive and argv and argv[0] in ("msb-vmm", "msb-net"):
            found[int(folder.name)] = argv
    return found


def nothing_left():
    """No process and no sandbox directory, once what is ending has ended."""
    def left():
        return list(processes().values()) + [p.name for p in (HOME / "sandboxes").iterdir()]
    until(lambda: not left(), f"nothing is left: {left()}")


def run_cases(scope, *selected):
    """Runs every test_* of `scope` (or the named ones), prints "ok NAME" or "FAIL NAME: why"; the exit code."""
    failed = 0
    good("load", "-q", "-i", BUILD / "share/msb/default-image.oci.tar")
    for name, case in list(scope.items()):
        if not name.startswith("test_") or (selected and name[5:] not in selected):
            continue
        try:
            case()
            print(f"ok {name[5:]}", flush=True)
        except (Failed, subprocess.TimeoutExpired, OSError, ValueError, KeyError, IndexError) as error:
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[1].lineno
            print(f"FAIL {name[5:]}: line {where}: {error}", flush=True)
            for left in msb("ls", "-q").stdout.decode().split():
                msb("rm", "-f", left)
    shutil.rmtree(ROOT, ignore_errors=True)
    return 1 if failed else 0
