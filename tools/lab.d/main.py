# SPDX-License-Identifier: Apache-2.0
"""tools/lab's command line. See docs/lab.md."""

import argparse
import os
import re
import sys

import client
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


def parse(arguments):
    parser = argparse.ArgumentParser(prog="lab", usage=USAGE)
    parser.add_argument("--icount", action="store_true", help="the lab's clock counts instructions, one per nanosecond")
    parser.add_argument("--cpus", type=int, default=2, metavar="N")
    parser.add_argument("--memory", type=memory_size, default=default_memory(), metavar="SIZE")
    parser.add_argument("--out", metavar="DIR", help="a directory that the command writes and the host keeps")
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECS", help="ends the command after SECS (3600)")
    parser.add_argument("--shell", action="store_true", help="an interactive shell")
    parser.add_argument("--verbose", action="store_true", help="the lab's console on stderr")
    parser.add_argument("command", nargs="*")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:split])
    if options.command:
        parser.error(f"write -- before the command: {USAGE}")
    options.command = arguments[split + 1 :]
    if options.out:
        options.out = os.path.abspath(options.out)
        os.makedirs(options.out, exist_ok=True)
    return parser, options


def main():
    parser, options = parse(sys.argv[1:])
    if options.shell:
        options.command = options.command or [os.environ.get("SHELL", "/bin/bash"), "-i"]
    if not options.command:
        parser.error("no command")
    sock = server.spawn_for(options, [])
    return client.Client(sock, options.timeout).run(options.command, options.shell, out=options.out)


sys.exit(main())
