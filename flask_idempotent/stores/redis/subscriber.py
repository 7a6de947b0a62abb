"""One thread listens for all waiters of a process: what the waiters see of it.

Pub/sub makes waiting fast; the waiters' own polling makes it right. So a broken connection is not
an error here: its waiters are woken to poll, and the thread opens it again. That thread starts at
the first wait, never before.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flask_idempotent._forks import ForkAware
from flask_idempotent._logging import logger
from flask_idempotent.stores.redis.subscriber_thread import SubscriberThread
from flask_idempotent.stores.redis.topology import Topology
from flask_idempotent.stores.waiters import Notification, Waiter, WaiterQueue

if TYPE_CHECKING:
    from flask_idempotent.records import Record

Read = Callable[[], "Record | None"]
#: What the thread does with a channel: ``subscribe`` or ``unsubscribe``.
ChannelCommand = Callable[[SubscriberThread, str], None]


class _Channel:
    """The waiters on one channel."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.waiters = WaiterQueue()
        #: Set while the server has confirmed the subscription.
        self.confirmed = threading.Event()
        #: Those that may have missed a message. They are woken once the subscription is confirmed.
        self.unconfirmed: set[Waiter] = set()


class Subscriber(ForkAware):
    """Subscribes to the channels that requests of this process wait on.

    :param topology: says which server has a channel.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        super().__init__()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._start_over()

    def _start_over(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._commands: list[tuple[ChannelCommand, str]] = []
        self._thread: threading.Thread | None = None
        self._wake_socket: socket.socket | None = None
        self._closing = False
        self._must_reconnect = False

    @contextmanager
    def listen(self, channel_name: str, seconds: float, read: Read) -> Iterator[Waiter]:
        """Wait on a channel; see ``Store.listen``.

        :param read: reads the record from the store, once for all who are woken by a message.
        """
        channel, waiter = self._join(channel_name, read)
        try:
            if not channel.confirmed.wait(seconds):
                self._mark_unconfirmed(channel, waiter)
            yield waiter
        finally:
            self._leave(channel_name, channel, waiter)

    def _join(self, channel_name: str, read: Read) -> tuple[_Channel, Waiter]:
        with self._lock:
            channel = self._channels.get(channel_name)
            if channel is None:
                channel = self._channels[channel_name] = _Channel(read)
                self._enqueue(SubscriberThread.subscribe, channel_name)
            return channel, channel.waiters.join()

    def _leave(self, channel_name: str, channel: _Channel, waiter: Waiter) -> None:
        with self._lock:
            channel.waiters.leave(waiter)
            channel.unconfirmed.discard(waiter)
            if not channel.waiters and self._channels.get(channel_name) is channel:
                del self._channels[channel_name]
                self._enqueue(SubscriberThread.unsubscribe, channel_name)

    def _mark_unconfirmed(self, channel: _Channel, waiter: Waiter) -> None:
        with self._lock:
            if not channel.confirmed.is_set():
                waiter.may_have_missed = True
                channel.unconfirmed.add(waiter)

    def _enqueue(self, command: ChannelCommand, channel_name: str) -> None:
        self._commands.append((command, channel_name))
        if self._thread is None:
            try:
                self._start_thread()
            except (RuntimeError, OSError) as error:
                # The process has no more threads or files. Waiters poll; the next command tries
                # again.
                logger.warning("listening for completions could not begin: %s", error)
        elif len(self._commands) == 1:
            self.wake()

    def _start_thread(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        thread = threading.Thread(
            target=SubscriberThread(self, self._topology, theirs).run,
            name="flask-idempotent-subscriber",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            ours.close()
            theirs.close()
            raise
        self._wake_socket, self._thread = ours, thread

    def wake(self) -> None:
        """Wake the thread to look for something to do."""
        if self._wake_socket is not None:
            # A thread that is ending has closed its side; one with a full buffer wakes anyway.
            with suppress(BlockingIOError, BrokenPipeError):
                self._wake_socket.send(b"\0")

    def notify_stored(self, channel_name: str, notification: Notification) -> None:
        """Wake the waiters of a channel with the response that this process has just stored."""
        if channel_name in self._channels:
            with self._lock:
                channel = self._channels.get(channel_name)
                if channel is not None:
                    channel.waiters.notify(notification)

    def reconnect(self) -> None:
        """Look again which servers have the channels: some were replaced, or slots have moved."""
        with self._lock:
            if self._thread is not None:
                self._must_reconnect = True
                self.wake()

    def close(self) -> None:
        """End the thread and its connection; a later wait starts them again."""
        with self._lock:
            thread, wake_socket = self._thread, self._wake_socket
            if thread is None or wake_socket is None:
                return
            self._closing = True
            self.wake()
        thread.join()
        with self._lock:
            # Another call may have closed it in the meantime, and another thread may have started.
            if self._thread is thread:
                wake_socket.close()
                self._start_over()

    # What the thread calls.

    @property
    def closing(self) -> bool:
        """Whether the thread has to end."""
        return self._closing

    def take_commands(self) -> list[tuple[ChannelCommand, str]]:
        """Remove and return what to do next, in order."""
        with self._lock:
            commands, self._commands = self._commands, []
            return commands

    def take_reconnect(self) -> bool:
        """Return whether to connect again; True once for each call of ``reconnect``."""
        must_reconnect, self._must_reconnect = self._must_reconnect, False
        return must_reconnect

    def interrupt(self, channel_names: Iterable[str]) -> None:
        """Mark subscriptions as not confirmed any more.

        Waiters whose subscription was confirmed may have missed a message and are woken to poll.
        """
        with self._lock:
            for channel_name in channel_names:
                channel = self._channels.get(channel_name)
                if channel is not None and channel.confirmed.is_set():
                    channel.confirmed.clear()
                    channel.unconfirmed.update(channel.waiters)
                    channel.waiters.wake_to_poll()

    def confirm(self, channel_name: str) -> None:
        """Mark a subscription as confirmed, and wake the waiters that did not wait for that."""
        with self._lock:
            channel = self._channels.get(channel_name)
            if channel is not None:
                channel.confirmed.set()
                for waiter in channel.unconfirmed:
                    waiter.notify()
                channel.unconfirmed.clear()

    def deliver(self, channel_name: str) -> None:
        """Wake the waiters of a channel to read the record from the store.

        The contents of the message are ignored: other users of the server may be able to send some.
        """
        with self._lock:
            channel = self._channels.get(channel_name)
            # A message before the confirmation is for waiters that have left the channel since.
            if channel is not None and channel.confirmed.is_set():
                channel.waiters.notify(Notification(channel.read))
