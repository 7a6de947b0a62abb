"""The subscriber: started at the first wait, once, and back after every interruption."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreError
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.pubsub import PubSubConnection
from flask_idempotent.stores.redis.subscriber import Subscriber
from tests.stores.harness import answer
from tests.support.pauses import within
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server

NAME = "IDEMPOTENT_{sub}@0"


def read() -> CompletedRecord:
    """Return what the store has, whatever a message says."""
    return answer()


def threads() -> int:
    return [t.name for t in threading.enumerate()].count("flask-idempotent-subscriber")


@pytest.fixture
def subscriber(client: Client) -> Iterator[Subscriber]:
    subscriber = Subscriber(client.topology)
    yield subscriber
    subscriber.close()


class TestThread:
    def test_starts_at_the_first_wait(self, subscriber: Subscriber, proxy: Proxy) -> None:
        """There is no thread and no connection before the first wait."""
        assert threads() == 0
        assert proxy.connections == 0
        with subscriber.listen(NAME, 5, read):
            assert threads() == 1
            assert proxy.connections == 1

    def test_one_for_all(self, subscriber: Subscriber, proxy: Proxy, clean_valkey: Server) -> None:
        """However many waiters on however many keys, there is one thread and one connection."""
        with ExitStack() as stack:
            for number in range(50):
                stack.enter_context(subscriber.listen(f"{NAME}{number % 10}", 5, read))
            assert threads() == 1
            assert proxy.connections == 1
            assert len(clean_valkey.client.pubsub_channels()) == 10
        until(lambda: clean_valkey.client.pubsub_channels() == [])
        assert subscriber._channels == {}

    def test_no_more_threads(
        self,
        subscriber: Subscriber,
        clean_valkey: Server,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """If no thread can be started a waiter polls, and the next one's thread serves both."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with subscriber.listen(NAME, 0.01, read) as waiter:
            monkeypatch.undo()
            assert "could not begin: can't start new thread" in caplog.text
            with subscriber.listen(f"{NAME}0", 5, read):
                assert threads() == 1
                assert subscriber._channels[NAME].confirmed.wait(5)
                until(lambda: not subscriber._channels[NAME].unconfirmed)
                waiter.wait(0)
                clean_valkey.client.publish(NAME, b"")
                assert waiter.wait(5) == answer()

    def test_close_ends_it(self, subscriber: Subscriber, proxy: Proxy) -> None:
        """Closing, even twice, ends thread and connection, and a later wait starts them again."""
        with subscriber.listen(NAME, 5, read):
            pass
        subscriber.close()
        subscriber.close()
        assert threads() == 0
        until(lambda: proxy.connections == 0)
        with subscriber.listen(NAME, 5, read):
            assert threads() == 1

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_child_has_its_own(
        self, subscriber: Subscriber, client: Client, clean_valkey: Server
    ) -> None:
        """A forked child starts its own thread, and does not wait for its parent's."""
        with subscriber.listen(NAME, 5, read):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with subscriber.listen(NAME, 5, read) as waiter:
                        clean_valkey.client.publish(NAME, b"")
                        code = 0 if waiter.wait(5) == answer() else 2
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0


class TestInterruptions:
    def test_killed_connection(
        self, subscriber: Subscriber, clean_valkey: Server, proxy: Proxy
    ) -> None:
        """A killed connection wakes the waiter to poll, at once and when it is open again."""
        notified: list[object] = []
        with subscriber.listen(NAME, 5, read) as waiter:
            # All are woken when the connection is lost, and this one once it is made again.
            expect, notify = waiter.expect, waiter.notify
            waiter.expect = lambda reason, asleep: (expect(reason, asleep), notified.append(reason))
            waiter.notify = lambda reason=None: (notify(reason), notified.append(reason))
            clean_valkey.client.client_kill_filter(_type="pubsub")
            until(lambda: notified == [None, None])
            assert subscriber._channels[NAME].confirmed.is_set()
            waiter.wait(0)
            clean_valkey.client.publish(NAME, b"")
            assert waiter.wait(5) == answer()

    def test_waiter_that_did_not_wait_is_told(self, subscriber: Subscriber, proxy: Proxy) -> None:
        """A waiter that went ahead without its subscription is woken once it is confirmed."""
        may_arrive = threading.Event()
        proxy.faults.append(Fault(b"SUBSCRIBE", "delay", until=may_arrive))
        with subscriber.listen(NAME, 0.01, read) as waiter, within(2):
            assert not subscriber._channels[NAME].confirmed.is_set()
            may_arrive.set()
            assert waiter.wait(5) is None

    def test_message_for_those_before(self, subscriber: Subscriber, proxy: Proxy) -> None:
        """A message before the confirmation is for waiters that have left."""
        proxy.faults.append(Fault(b"SUBSCRIBE", "swallow"))
        with subscriber.listen(NAME, 0.01, read) as waiter:
            subscriber.deliver(NAME)
            assert not waiter.notified

    def test_server_away(
        self,
        subscriber: Subscriber,
        client: Client,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """While no connection can be opened waiters poll, and the thread keeps trying."""
        tries: list[float] = []
        (node,) = client.nodes()
        connect = node.subscription

        def refuse_twice() -> PubSubConnection:
            tries.append(time.monotonic())
            if len(tries) < 3:
                raise StoreError("nobody there")
            return connect()

        monkeypatch.setattr(node, "subscription", refuse_twice)
        with subscriber.listen(NAME, 0.01, read):
            assert subscriber._channels[NAME].confirmed.wait(5)
        assert len(tries) == 3
        first, second = tries[1] - tries[0], tries[2] - tries[1]
        assert first >= _timing.RECONNECT_FIRST
        assert second >= 2 * _timing.RECONNECT_FIRST
        assert "nobody there" in caplog.text

    def test_unforeseen_fault(
        self,
        subscriber: Subscriber,
        clean_valkey: Server,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An unexpected error is logged, and the next message is delivered."""

        def fail(connection: PubSubConnection) -> object:
            monkeypatch.undo()
            raise ZeroDivisionError

        monkeypatch.setattr(PubSubConnection, "messages", fail)
        with subscriber.listen(NAME, 5, read) as waiter:
            until(lambda: not subscriber._channels[NAME].unconfirmed)
            waiter.wait(0)
            clean_valkey.client.publish(NAME, b"")
            assert waiter.wait(5) == answer()
        assert "listening for completions failed" in caplog.text

    def test_half_open_connection(
        self,
        subscriber: Subscriber,
        proxy: Proxy,
        clean_valkey: Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A connection that delivers nothing, not even a PONG, is replaced."""
        monkeypatch.setattr(_timing, "SUBSCRIBER_PING_AFTER", 0.1)
        with subscriber.listen(NAME, 5, read) as waiter:
            proxy.go_silent()
            until(lambda: waiter.notified)  # Nothing listens for it.
            waiter.wait(0)
            proxy.speak_again()
            assert subscriber._channels[NAME].confirmed.wait(5)
            # A busy machine may take longer for the next PONG, which is not what this proves.
            monkeypatch.undo()
            until(lambda: not subscriber._channels[NAME].unconfirmed)
            waiter.wait(0)
            clean_valkey.client.publish(NAME, b"")
            assert waiter.wait(5) == answer()

    def test_idle_connection_is_kept(
        self,
        subscriber: Subscriber,
        proxy: Proxy,
        clean_valkey: Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A connection that is only idle answers the PINGs and stays, with channels or without."""
        # So long may a busy machine take for a PONG.
        monkeypatch.setattr(_timing, "SUBSCRIBER_PING_AFTER", 0.3)
        clean_valkey.reset_counts()

        def pings() -> int:
            return clean_valkey.counts().get("ping", 0)

        with subscriber.listen(NAME, 5, read):
            (before,) = clean_valkey.client.client_list(_type="pubsub")
            until(lambda: pings() >= 2)
            (after,) = clean_valkey.client.client_list(_type="pubsub")
        counted = pings()
        until(lambda: pings() > counted)
        with subscriber.listen(NAME, 5, read):
            (later,) = clean_valkey.client.client_list(_type="pubsub")
        assert before["id"] == after["id"] == later["id"]
        assert after["cmd"] == "ping"

    def test_coming_and_going(self, subscriber: Subscriber, clean_valkey: Server) -> None:
        """A waiter that joins while others leave gets every message after its confirmation."""
        missed: list[int] = []

        def visit(number: int) -> None:
            for _ in range(30):
                with subscriber.listen(NAME, 5, read) as waiter:
                    clean_valkey.client.publish(NAME, b"")
                    until_then = time.monotonic() + 5
                    # The next leader is woken to poll, which is not a message.
                    while waiter.wait(until_then - time.monotonic()) != answer():
                        if time.monotonic() > until_then:
                            missed.append(number)
                            break

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(8)))
        assert missed == []


class TestClosing:
    def test_many_at_once(self, client: Client) -> None:
        """However many close at once, and whatever the thread does just then, none fails."""
        subscriber = Subscriber(client.topology)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(100):
                with subscriber.listen(NAME, 5, read):
                    pass
                closings = [pool.submit(subscriber.close) for _ in range(4)]
                assert [closing.result() for closing in closings] == [None] * 4
                assert threads() == 0
