# SPDX-License-Identifier: Apache-2.0
"""Frames between the lab's client, its server and the agent inside the lab.

A frame is a 12-byte header (type, session, length; little endian) and a payload. The same frames travel on the client's
Unix socket (session is 0 there: one connection is one session) and on the virtio-serial port into the lab.

Every byte stream has a window: its sender stops when WINDOW bytes are not acknowledged yet. So no process in between has to
hold more than one window per stream, and a slow reader of one session holds up no other.
"""

import os
import struct

# towards the lab
START = 1  # pack_start()
STDIN = 2  # bytes; an empty payload is the end of the stream
SIGNAL = 3  # u32: signal number for the command's process group
RESIZE = 4  # u16 rows, u16 columns
KILL = 5  # the session's client is gone: end its processes
CLOSE = 7  # u32 stream type: nobody reads this stream any more
STOP = 6  # client to server only: end the lab
# from the lab
HELLO = 16  # the lab is up
STDOUT = 17
STDERR = 18
EXIT = 19  # i32: exit status as a shell counts it
ERROR = 20  # text: the lab failed, this session is over
# both ways
ACK = 32  # u32 stream type (STDIN, STDOUT, STDERR), u32 bytes

HEADER = struct.Struct("<III")
U32 = struct.Struct("<I")
I32 = struct.Struct("<i")
SIZE = struct.Struct("<HH")
ACKED = struct.Struct("<II")

WINDOW = 1 << 20
CHUNK = 32 << 10
MAX_PAYLOAD = 8 << 20  # a START frame carries the whole environment


class WireError(Exception):
    """The peer sent something that is no frame."""


def pack(kind, session, payload=b""):
    """Returns one frame as bytes."""
    return HEADER.pack(kind, session, len(payload)) + payload


FLAG_STDIN = 1  # the client sends a standard input
FLAG_TTY = 2  # the command runs on a terminal
FLAG_FRESH = 4  # forget what is cached of the host's files
START_HEADER = struct.Struct("<IIIIIHH")


def pack_start(argv, env, ram, cwd, out, umask, size, flags):
    """Returns a START payload: a header, then all strings, each with a NUL at its end."""
    strings = [os.fsencode(text) for text in (*argv, *(f"{k}={v}" for k, v in env.items()), *ram, cwd, out)]
    return START_HEADER.pack(flags, umask, len(argv), len(env), len(ram), *size) + b"".join(text + b"\0" for text in strings)


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """Takes more bytes and yields each complete (type, session, payload)."""
        self._buffer += data
        position = 0
        while len(self._buffer) - position >= HEADER.size:
            kind, session, length = HEADER.unpack_from(self._buffer, position)
            if length > MAX_PAYLOAD:
                raise WireError(f"frame of {length} bytes")
            end = position + HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[position + HEADER.size : end])
            position = end
            yield kind, session, payload
        del self._buffer[:position]
