"""Servers that answer as a test says: Sentinels that are wrong, and servers that are no primary."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable


class AnsweringServer(socketserver.ThreadingTCPServer):
    """Answers every command with what a function returns.

    :param answer: gets the words of a command, and the number of its connection; returns the bytes
        of a reply, or None for silence.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: Callable[[list[bytes], int], bytes | None]) -> None:
        self.answer = answer
        #: How many connections were opened.
        self.connections = 0
        self.commands: list[list[bytes]] = []
        super().__init__(("127.0.0.1", 0), _Conversation)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Conversation(socketserver.StreamRequestHandler):
    server: AnsweringServer

    def handle(self) -> None:
        number, self.server.connections = self.server.connections, self.server.connections + 1
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            self.server.commands.append(words)
            reply = self.server.answer(words, number)
            if reply is not None:
                self.wfile.write(reply)


class FakeSentinel:
    """A Sentinel that names any server as the primary.

    :param port: the port that it names; None where it does not know a primary.
    :param epoch: the number of the failover; None where it does not say.
    :param password: which its clients must send.
    """

    def __init__(self, port: int | None, epoch: int | None = 1, password: str = "") -> None:
        self.primary_port = port
        self.epoch = epoch
        self.password = password.encode()
        self.is_silent = False
        self._server = AnsweringServer(self._answer)
        self.port = self._server.port

    @property
    def asked(self) -> int:
        """How often it was asked where the primary is."""
        return sum(words[1:2] == [b"GET-MASTER-ADDR-BY-NAME"] for words in self._server.commands)

    def _answer(self, words: list[bytes], _: int) -> bytes | None:
        if self.is_silent:
            return None
        if words[0] == b"AUTH":
            return b"+OK\r\n" if words[-1] == self.password else b"-WRONGPASS this is wrong\r\n"
        if words[0] == b"CLIENT":
            return b"+OK\r\n"
        logged_in = any(sent[0] == b"AUTH" for sent in self._server.commands)
        if self.password and not logged_in:
            return b"-NOAUTH Authentication required.\r\n"
        if words[1] == b"GET-MASTER-ADDR-BY-NAME":
            port = self.primary_port
            return b"*-1\r\n" if port is None else _array("127.0.0.1", str(port))
        if self.epoch is None:
            return b"-NOPERM this user has no permissions to run the 'sentinel|master' command\r\n"
        return _array("name", "shop", "config-epoch", str(self.epoch))

    def close(self) -> None:
        self._server.close()


def _array(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words
    )
