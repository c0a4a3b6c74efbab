# SPDX-License-Identifier: Apache-2.0
"""The lab's server: owns QEMU, joins clients' connections to sessions in the lab, ends the lab when it is time.

One process, one thread, one loop. It has one client for `lab -- CMD` and listens for many with `--keep`.
"""

import os
import selectors
import socket
import time

import qemu
import wire

BOOT_SECONDS = 240
CONSOLE_KEPT = 64 << 10
CONSOLE_LINES = 15
# The client does not read: more than its streams' windows and the small frames between cannot be under way.
MAX_UNSENT = 16 << 20


class Peer:
    """A stream socket with frames in and a buffer out."""

    def __init__(self, server, sock, session):
        self.server = server
        self.sock = sock
        self.session = session
        self.decoder = wire.Decoder()
        self.unsent = bytearray()
        self.started = False
        sock.setblocking(False)
        server.selector.register(sock, selectors.EVENT_READ, self)

    def send(self, kind, session, payload=b""):
        self.unsent += wire.pack(kind, session, payload)
        self.flush()

    def flush(self):
        try:
            while self.unsent:
                sent = self.sock.send(memoryview(self.unsent)[: 256 << 10])
                del self.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:  # its end is seen when it is read
            self.unsent.clear()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        if self.sock.fileno() >= 0:
            self.server.selector.modify(self.sock, events, self)

    def close(self):
        if self.sock.fileno() >= 0:
            self.server.selector.unregister(self.sock)
            self.sock.close()


class Server:
    """`files` is what kernel.prepare() gave; `client` is the connected socket of the one client, `listener` the socket of a
    kept lab; one of the two is None.
    """

    def __init__(self, options, files, client, listener):
        self.options = options
        self.files = files
        self.selector = selectors.DefaultSelector()
        self.listener = listener
        self.clients = {}  # session -> Peer
        self.next_session = 1
        self.up = False
        self.waiting = []  # START frames that came before the lab was up
        self.console = bytearray()
        self.console_sock = None
        self.qemu = None
        self.guest = None
        self.idle_since = time.monotonic()
        self.ending = None
        if listener is not None:
            listener.setblocking(False)
            self.selector.register(listener, selectors.EVENT_READ, listener)
        else:
            self._add_client(client)

    def run(self):
        """Starts the lab and serves until it ends."""
        try:
            self._start()
            self._loop()
        except OSError as error:
            self._fail(str(error))
        finally:
            if self.qemu is not None:
                self.qemu.kill()
                self.qemu.wait()
            self._drain()

    def _start(self):
        port, port_qemu = socket.socketpair()
        self.console_sock, console_qemu = socket.socketpair()
        for sock in (port, port_qemu):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        argv = qemu.command(self.options, self.files, port_qemu.fileno(), console_qemu.fileno())
        self.qemu = qemu.start(argv, port_qemu.fileno(), console_qemu.fileno(), console_qemu.fileno())
        port_qemu.close()
        console_qemu.close()
        self.console_sock.setblocking(False)
        self.selector.register(self.console_sock, selectors.EVENT_READ, self.console_sock)
        self.guest = Peer(self, port, 0)
        self.boot_deadline = time.monotonic() + BOOT_SECONDS

    def _loop(self):
        while self.ending is None:
            now = time.monotonic()
            timeout = None
            if not self.up:
                timeout = self.boot_deadline - now
                if timeout <= 0:
                    self._fail(f"the lab did not come up within {BOOT_SECONDS} s")
                    return
            elif self.listener is not None and not self.clients:
                timeout = self.idle_since + self.options.idle - now
                if timeout <= 0:
                    return
            for key, events in self.selector.select(timeout):
                what = key.data
                if what is self.console_sock:
                    self._read_console()
                elif what is self.listener:
                    self._accept()
                elif isinstance(what, Peer):
                    if events & selectors.EVENT_WRITE:
                        what.flush()
                    if events & selectors.EVENT_READ and what.sock.fileno() >= 0:
                        self._read_peer(what)
                if self.ending is not None:
                    return

    def _read_console(self):
        try:
            data = self.console_sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(self.console_sock)
            self._fail("the lab ended by itself")
            return
        self.console += data
        del self.console[:-CONSOLE_KEPT]
        if self.options.verbose:
            os.write(2, data)

    def _accept(self):
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        self._add_client(sock)

    def _add_client(self, sock):
        session = self.next_session
        self.next_session += 1
        self.clients[session] = Peer(self, sock, session)
        if self.up:
            self.clients[session].send(wire.HELLO, 0)

    def _read_peer(self, peer):
        try:
            data = peer.sock.recv(256 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if peer is self.guest:
                self._fail("the lab ended by itself")
            else:
                self._drop(peer)
            return
        try:
            for kind, session, payload in peer.decoder.feed(data):
                if peer is self.guest:
                    self._from_guest(kind, session, payload)
                else:
                    self._from_client(peer, kind, payload)
        except wire.WireError as error:
            if peer is self.guest:
                self._fail(f"the lab's channel is broken: {error}")
            else:
                self._drop(peer)

    def _drop(self, peer):
        """A client is gone: its command ends; with no listener, the lab too."""
        if self.clients.pop(peer.session, None) is None:
            return
        if self.up and peer.started:
            self.guest.send(wire.KILL, peer.session)
        peer.close()
        self.idle_since = time.monotonic()
        if self.listener is None:
            self.ending = "client"

    def _from_client(self, peer, kind, payload):
        if kind == wire.STOP:
            self.ending = "stop"
        elif kind == wire.START and peer.started:
            pass
        elif not self.up:
            self.waiting.append((kind, peer.session, payload))
        elif kind in (wire.START, wire.STDIN, wire.SIGNAL, wire.RESIZE, wire.CLOSE, wire.ACK):
            peer.started = True
            self.guest.send(kind, peer.session, payload)

    def _from_guest(self, kind, session, payload):
        if kind == wire.HELLO:
            self.up = True
            waiting, self.waiting = self.waiting, []
            for early_kind, early_session, early_payload in waiting:
                if early_session in self.clients:
                    self._from_client(self.clients[early_session], early_kind, early_payload)
            for peer in self.clients.values():
                peer.send(wire.HELLO, 0)
            return
        peer = self.clients.get(session)
        if peer is None:
            return
        peer.send(kind, 0, payload)
        if len(peer.unsent) > MAX_UNSENT:
            self._drop(peer)
        elif kind in (wire.EXIT, wire.ERROR):
            peer.started = False

    def _fail(self, why):
        """Tells every client that the lab is over, with the end of its console."""
        self._read_rest_of_console()
        text = why
        lines = self.console.decode("utf-8", "replace").replace("\r", "").splitlines()
        panic = next((i for i, line in enumerate(lines) if "Kernel panic" in line), len(lines))
        lines = lines[max(0, panic - CONSOLE_LINES) : panic + 1]  # what led to a panic says more than its call trace
        if lines:
            text += "; the end of its console:\n  " + "\n  ".join(lines)
        for peer in self.clients.values():
            peer.send(wire.ERROR, 0, text.encode())
        self.ending = why

    def _read_rest_of_console(self):
        try:
            while self.console_sock is not None and (data := self.console_sock.recv(65536)):
                self.console += data
        except OSError:
            pass

    def _drain(self):
        """Sends what clients have still to get."""
        deadline = time.monotonic() + 5
        for peer in list(self.clients.values()):
            try:
                peer.sock.settimeout(max(0.1, deadline - time.monotonic()))
                peer.sock.sendall(peer.unsent)
            except OSError:
                pass
            peer.sock.close()


def spawn_for_one(options, files):
    """Forks the server of one client; returns its process id and the client's socket. It dies with the calling process."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            qemu.die_with_parent(parent)
            ours.close()
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            Server(options, files, theirs, None).run()
            code = 0
        except BaseException as error:  # pylint: disable=broad-except
            os.write(2, f"lab: server: {error!r}\n".encode())
        os._exit(code)
    theirs.close()
    return pid, ours
