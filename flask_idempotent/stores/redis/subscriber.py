"""One listener for all waiters of a process: one thread, one connection.

It starts at the first wait, never before. Pub/sub makes waiting fast; the waiters' own polling
makes it right. So a broken connection is no error here: every waiter is woken to look for itself,
and the listener connects again.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

from flask_idempotent import _timing
from flask_idempotent._forks import ForkAware
from flask_idempotent._logging import logger
from flask_idempotent.errors import StoreError
from flask_idempotent.stores.waiters import Bell, Bells, News

if TYPE_CHECKING:
    from flask_idempotent.records import Record
    from flask_idempotent.stores.redis.client import Feed

Read = Callable[[], "Record | None"]
Connect = Callable[[], "AbstractContextManager[Feed]"]


class _Channel:
    """The waiters on one channel."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.bells = Bells()
        self.confirmed = threading.Event()
        # Those that may have missed a message, and look again as soon as we hear the channel.
        self.unsure: set[Bell] = set()


class Subscriber(ForkAware):
    """Hears the channels that somebody waits on.

    :param connect: opens a connection for pub/sub.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        super().__init__()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._wishes: list[tuple[str, str]] = []
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._closing = False
        self._moved = False

    @contextmanager
    def listen(self, name: str, seconds: float, read: Read) -> Iterator[Bell]:
        """Hear a channel; see ``Store.listen``.

        :param read: reads the record from the store, once for all who are woken by a message.
        """
        channel, bell = self._join(name, read)
        try:
            if not channel.confirmed.wait(seconds):
                self._doubt(channel, bell)
            yield bell
        finally:
            self._leave(name, channel, bell)

    def _join(self, name: str, read: Read) -> tuple[_Channel, Bell]:
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel(read)
                self._wish("SUBSCRIBE", name)
            return channel, channel.bells.join()

    def _leave(self, name: str, channel: _Channel, bell: Bell) -> None:
        with self._lock:
            channel.bells.leave(bell)
            channel.unsure.discard(bell)
            if not channel.bells and self._channels.get(name) is channel:
                del self._channels[name]
                self._wish("UNSUBSCRIBE", name)

    def _doubt(self, channel: _Channel, bell: Bell) -> None:
        with self._lock:
            if not channel.confirmed.is_set():
                bell.unsure = True
                channel.unsure.add(bell)

    def _wish(self, command: str, name: str) -> None:
        self._wishes.append((command, name))
        if self._thread is None:
            try:
                self._start()
            except (RuntimeError, OSError) as error:
                # No more threads or files. Waiters look for themselves; the next wish tries again.
                logger.warning("listening for completions could not begin: %s", error)
        elif len(self._wishes) == 1:
            self._nudge()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        thread = threading.Thread(
            target=_Listener(self, self._connect, theirs).run,
            name="flask-idempotent-subscriber",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            ours.close()
            theirs.close()
            raise
        self._wake, self._thread = ours, thread

    def _nudge(self) -> None:
        assert self._wake is not None
        # A listener that is ending has closed its side; one with a full buffer wakes anyway.
        with suppress(BlockingIOError, BrokenPipeError):
            self._wake.send(b"\0")

    def take_wishes(self) -> list[tuple[str, str]]:
        """What to send next, in order."""
        with self._lock:
            wishes, self._wishes = self._wishes, []
            return wishes

    def restart(self) -> list[str]:
        """Forget what was sent, wake whoever was heard for, and name the channels to hear."""
        with self._lock:
            self._wishes = []
            for channel in self._channels.values():
                if channel.confirmed.is_set():
                    channel.confirmed.clear()
                    channel.unsure.update(channel.bells)
                    channel.bells.doubt()
            return list(self._channels)

    def confirm(self, name: str) -> None:
        """Let those in who wait for their subscription; those that did not wait look again."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is not None:
                channel.confirmed.set()
                for bell in channel.unsure:
                    bell.ring()
                channel.unsure.clear()

    def deliver(self, name: str) -> None:
        """Wake the waiters of a channel to look at the store.

        Whoever may use the channel may send anything, so what a message says counts for nothing.
        """
        with self._lock:
            channel = self._channels.get(name)
            # Before its confirmation, a message is for those who left the channel just now.
            if channel is not None and channel.confirmed.is_set():
                channel.bells.ring(News(channel.read))

    def tell(self, name: str, news: News) -> None:
        """Wake the waiters of a channel with what this process has just stored."""
        if name in self._channels:
            with self._lock:
                channel = self._channels.get(name)
                if channel is not None:
                    channel.bells.ring(news)

    def reconnect(self) -> None:
        """Listen on a new connection: the present one may lead to a server that was replaced."""
        with self._lock:
            if self._thread is not None:
                self._moved = True
                self._nudge()

    def take_moved(self) -> bool:
        """Whether to connect anew, told once."""
        moved, self._moved = self._moved, False
        return moved

    @property
    def closing(self) -> bool:
        """Whether the listener is to end."""
        return self._closing

    def close(self) -> None:
        """End the thread and its connection; a later wait starts them again."""
        with self._lock:
            thread, wake = self._thread, self._wake
            if thread is None or wake is None:
                return
            self._closing = True
            self._nudge()
        thread.join()
        with self._lock:
            # Unless somebody else has closed it meanwhile, and perhaps another one begun.
            if self._thread is thread:
                wake.close()
                self._begin()


class _Listener:
    """The thread's side: the only one that touches the connection.

    :param connect: opens a connection for pub/sub.
    :param wake: becomes readable when there is something to send.
    """

    def __init__(self, subscriber: Subscriber, connect: Connect, wake: socket.socket) -> None:
        self._subscriber = subscriber
        self._connect = connect
        self._wake = wake
        # A channel may be left and joined again before its first confirmation arrives.
        self._unconfirmed: Counter[str] = Counter()
        self._pause = _timing.RECONNECT_FIRST

    def run(self) -> None:
        while not self._subscriber.closing:
            self._subscriber.take_moved()
            try:
                with self._connect() as feed:
                    self._serve(feed)
            except StoreError as error:
                logger.warning("listening for completions was interrupted: %s", error)
            except Exception:
                logger.exception("listening for completions failed; it goes on")
            if not self._subscriber.closing:
                self._subscriber.restart()
                self._sleep(self._pause)
                self._pause = min(2 * self._pause, _timing.RECONNECT_LONGEST)
        self._wake.close()

    def _sleep(self, pause: float) -> None:
        until = time.monotonic() + pause
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._subscriber.closing and (left := until - time.monotonic()) > 0:
                selector.select(left)
                self._drain()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    def _serve(self, feed: Feed) -> None:
        self._unconfirmed.clear()
        for name in self._subscriber.restart():
            self._send(feed, "SUBSCRIBE", name)
        heard, asked = time.monotonic(), False
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(feed.fileno(), selectors.EVENT_READ)
            while not self._subscriber.closing:
                ready = selector.select(_timing.SUBSCRIBER_PING_AFTER)
                self._drain()
                if self._subscriber.take_moved():
                    return
                for command, name in self._subscriber.take_wishes():
                    self._send(feed, command, name)
                if any(key.fileobj is not self._wake for key, _ in ready):
                    for message in feed.messages():
                        self._handle(message)
                    heard, asked = time.monotonic(), False
                elif time.monotonic() - heard >= _timing.SUBSCRIBER_PING_AFTER:
                    if asked:
                        raise StoreError("the connection fell silent")
                    feed.send("PING")
                    heard, asked = time.monotonic(), True

    def _send(self, feed: Feed, command: str, name: str) -> None:
        if command == "SUBSCRIBE":
            self._unconfirmed[name] += 1
        feed.send(command, name)

    def _handle(self, message: object) -> None:
        if not isinstance(message, list):
            return  # A PONG while no channel is subscribed to.
        kind, name = message[0], message[1].decode()
        if kind == b"message":
            self._subscriber.deliver(name)
        elif kind == b"subscribe":
            # A server may take the connection and refuse the channel: only now is it mended.
            self._pause = _timing.RECONNECT_FIRST
            self._unconfirmed[name] -= 1
            if not self._unconfirmed[name]:
                del self._unconfirmed[name]
                self._subscriber.confirm(name)
