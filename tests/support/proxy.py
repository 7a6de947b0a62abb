"""A proxy between the library and a server, which breaks the connection where a test says."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from typing import Literal

Action = Literal[
    "cut before",
    "cut after",
    "lose reply",
    "half reply",
    "swallow",
    "delay",
    "hold",
    "refuse",
    "shut",
]

#: For ``times``: more often than anything happens in a test.
EVER = 1_000_000_000


@dataclass
class Fault:
    """Something that happens to the next commands that contain ``needle``.

    :param seconds: how long a "delay" holds the reply back, and a "hold" the command.
    :param times: how often it happens.
    :param reply: what the proxy answers on "refuse"; the server does not receive the command. On
        "shut" the reply is lost, and the proxy accepts no connection from then on.
    :param until: holds a delayed reply back until it is set, in place of seconds.
    """

    needle: bytes
    action: Action
    seconds: float = 0.0
    times: int = 1
    reply: bytes = b""
    until: threading.Event | None = None

    def delay(self) -> None:
        """Return when a delayed reply may be sent."""
        if self.until is None:
            time.sleep(self.seconds)
        else:
            self.until.wait(10)


class Proxy:
    """Listens on a loopback port and passes everything on to a server's."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.faults: list[Fault] = []
        #: The same for messages that the server pushes: "swallow" loses the message, "delay" holds
        #: it back, and any other action breaks the connection.
        self.message_faults: list[Fault] = []
        self.happened: list[Action] = []
        #: Whether new connections are closed at once.
        self.is_shut = False
        self._silent = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._forgotten: set[tuple[socket.socket, socket.socket]] = set()
        self._threads = [threading.Thread(target=self._accept, name="proxy", daemon=True)]
        self._threads[0].start()

    def go_silent(self) -> None:
        """Pass nothing on in either direction, and close nothing, until ``speak_again``."""
        self._silent.set()

    @property
    def is_silent(self) -> bool:
        return self._silent.is_set()

    def forget_flows(self) -> None:
        """Pass nothing on over the open connections, and close none: a NAT has forgotten them."""
        self._forgotten |= self._pairs

    def speak_again(self) -> None:
        self._silent.clear()

    def refuse_nx_with_get(self) -> None:
        """Answer a SET with NX and GET as a server before Redis 7.0, in scripts too."""
        syntax = b"-ERR syntax error\r\n"
        self.faults += [
            Fault(b"$2\r\nNX\r\n$3\r\nGET\r\n", "refuse", times=EVER, reply=syntax),
            Fault(b"'NX', 'GET'", "refuse", times=EVER, reply=syntax),
        ]

    def cut_all(self) -> None:
        """Close every connection that is open."""
        for pair in list(self._pairs):
            _shut(*pair)

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_shut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(
                target=self._pump, args=(client, server), name="proxy", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        pair = (client, server)
        self._pairs.add(pair)
        try:
            with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
                selector.register(client, selectors.EVENT_READ)
                selector.register(server, selectors.EVENT_READ)
                fault: Fault | None = None
                while True:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
                        if not data:
                            return
                        if self._silent.is_set() or pair in self._forgotten:
                            continue
                        if key.fileobj is client:
                            fault = _fault_for(data, self.faults, self.happened)
                            if fault is not None and fault.action == "refuse":
                                client.sendall(fault.reply)
                                continue
                            if not _pass_on(server, data, fault):
                                return
                        elif not self._reply(client, data, fault):
                            return
        finally:
            self._pairs.discard(pair)
            _shut(*pair)
            client.close()
            server.close()

    def _reply(self, client: socket.socket, data: bytes, fault: Fault | None) -> bool:
        unasked = _fault_for(data, self.message_faults, self.happened)
        if unasked is not None and unasked.action == "swallow":
            return True
        fault = unasked or fault
        if fault is None or fault.action in ("delay", "hold"):
            if fault is not None and fault.action == "delay":
                fault.delay()
            client.sendall(data)
            return True
        self.is_shut |= fault.action == "shut"
        if fault.action == "half reply":
            client.sendall(data[: len(data) // 2])
        return False


def _pass_on(server: socket.socket, data: bytes, fault: Fault | None) -> bool:
    if fault is not None and fault.action == "cut before":
        return False
    if fault is not None and fault.action == "hold":
        time.sleep(fault.seconds)
    if fault is None or fault.action != "swallow":
        server.sendall(data)
    return fault is None or fault.action != "cut after"


def _fault_for(data: bytes, faults: list[Fault], happened: list[Action]) -> Fault | None:
    for fault in faults:
        if fault.needle in data:
            fault.times -= 1
            if not fault.times:
                faults.remove(fault)
            happened.append(fault.action)
            return fault
    return None


def _shut(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
