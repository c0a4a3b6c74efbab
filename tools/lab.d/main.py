# SPDX-License-Identifier: Apache-2.0
"""tools/lab's command line. See docs/lab.md."""

import argparse
import os
import re
import sys

import client
import keep
import kernel
import ram
import server

USAGE = "tools/lab [options] -- CMD… | tools/lab --shell | tools/lab --keep [options] | tools/lab exec [-- CMD…] | tools/lab stop"


def memory_size(text):
    match = re.fullmatch(r"(\d+)([kKmMgGtT]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4096M or 6G")
    size = int(match[1]) << {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}[match[2].lower()]
    if size < 512 << 20:
        raise argparse.ArgumentTypeError("the lab needs at least 512M")
    return size


def default_memory():
    """6 GiB, or three quarters of a smaller machine. Only what is used is taken from the host."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(6 << 30, total // 4 * 3)


def parser_for(name):
    parser = argparse.ArgumentParser(prog=f"lab {name}".strip(), usage=USAGE, allow_abbrev=False)
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECS", help="end the command after SECS (3600)")
    parser.add_argument("--ram", action="append", default=[], metavar="PATH",
                        help="hold this file or directory, and the libraries it needs, in the lab's memory")
    if name == "exec":
        return parser
    parser.add_argument("--icount", action="store_true", help="the lab's clock counts instructions, one per nanosecond")
    parser.add_argument("--cpus", type=int, metavar="N", help="virtual CPUs of the lab (1; with --icount 2)")
    parser.add_argument("--memory", type=memory_size, default=default_memory(), metavar="SIZE", help="such as 4096M or 6G (6G)")
    parser.add_argument("--out", metavar="DIR", help="a directory that the command may write and that the host keeps")
    parser.add_argument("--shell", action="store_true", help="an interactive shell")
    parser.add_argument("--keep", action="store_true", help="a lab in the background, for tools/lab exec")
    parser.add_argument("--idle", type=float, default=1800, metavar="SECS", help="end a kept lab after SECS without use (1800)")
    parser.add_argument("--verbose", action="store_true", help="show the lab's console on stderr")
    return parser


def parse(arguments):
    """Returns (subcommand or "", options); options.command is what follows the first --."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, command = arguments[:split], arguments[split + 1 :]
    name = own.pop(0) if own and own[0] in ("exec", "stop") else ""
    parser = argparse.ArgumentParser(usage=USAGE) if name == "stop" else parser_for(name)
    options, rest = parser.parse_known_args(own)
    if rest and not rest[0].startswith("-"):
        parser.error("write -- before the command")
    if rest:
        parser.error(f"unknown option {rest[0]}")
    if split < len(arguments) and not command:
        parser.error("no command after --")
    options.command = command
    if name == "" and not (command or options.shell or options.keep):
        parser.error("no command")
    if name == "" and options.cpus is None:
        options.cpus = 2 if options.icount else 1  # docs/lab.md, "One processor"
    if name == "" and not 1 <= options.cpus <= 64:
        parser.error("--cpus wants 1 to 64")
    if name != "stop" and options.timeout <= 0:
        parser.error("--timeout wants more than 0 seconds")
    return name, options


def shell():
    return [os.environ.get("SHELL", "/bin/bash"), *(["-i"] if os.isatty(0) else [])]


def run_here(options):
    """A lab for one command."""
    held = ram.files(options.ram, options.command if options.icount else (), options.icount)
    files = kernel.prepare()
    server_pid, sock = server.spawn_for_one(options, files)
    try:
        return client.Client(sock, options.timeout).run(options.command or shell(), options.shell and os.isatty(0),
                                                        out=options.out, ram=held)
    finally:
        sock.close()
        os.waitpid(server_pid, 0)  # with it QEMU is gone


def run_kept(sock, options, settings):
    """A command in a kept lab."""
    held = ram.files(options.ram, options.command if settings["icount"] else ())
    interactive = not options.command and os.isatty(0)
    return client.Client(sock, options.timeout).run(options.command or shell(), interactive, out=settings["out"], ram=held,
                                                    fresh=not settings["icount"])


def main():
    name, options = parse(sys.argv[1:])
    if name == "stop":
        client.say("stopped" if keep.stop() else "none is kept")
        return 0
    if name == "exec":
        sock, settings = keep.find()
        return run_kept(sock, options, settings)
    if options.out:
        options.out = os.path.abspath(options.out)
        os.makedirs(options.out, exist_ok=True)
    if not options.keep:
        return run_here(options)
    sock, started = keep.start(options)
    if started:  # the first command brings what the others will open again and again
        first = client.Client(sock, server.BOOT_SECONDS).run(["/bin/true"], stdin=False,
                                                                  ram=ram.files([], common=True))
        sock.close()
        if first != 0:
            return first
        sock, _ = keep.find()
    if not options.command:
        sock.close()
        client.say(f"{'started' if started else 'already there'}; use: tools/lab exec -- CMD…, end with: tools/lab stop")
        return 0
    return run_kept(sock, options, vars(options))


try:
    sys.exit(main())
except (kernel.KernelError, keep.KeepError, ram.RamError) as failure:
    client.say(str(failure))
    sys.exit(client.LAB_FAILED)
except KeyboardInterrupt:
    sys.exit(130)
