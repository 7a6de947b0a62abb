"""Waiters: with broken wake-ups, in large numbers, and with different payloads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from flask import request

from flask_idempotent._timing import POLL_EVERY
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from tests.chaos.pauses import in_time
from tests.chaos.services import AppService, CountingView, Failed, late, timed
from tests.chaos.serving import sized
from tests.support.clients import Gate
from tests.support.polling import until
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server
from tests.support.repeating import repeated

pytestmark = pytest.mark.chaos

#: Seconds within which a waiter notices, however broken its wake-up.
BOUND = POLL_EVERY + 0.2

MakeService = Callable[..., AppService]
Background = Callable[..., Future[Any]]


class TestWakeUp:
    """However the wake-up is broken, a waiter is late by one poll at most."""

    row = "waiting: subscriber killed, deaf, refused"

    def test_subscriber_is_killed(self, clean_valkey: Server, make_service: MakeService) -> None:
        """A subscriber that is killed again and again costs no waiter more than the poll."""

        killed: list[int] = []

        def kill() -> None:
            if count := clean_valkey.client.client_kill_filter(_type="pubsub"):
                killed.append(count)

        with repeated(kill, 0.03):
            self._wake_up(clean_valkey, make_service, clean_valkey.url, broken=lambda: bool(killed))

    def test_subscriber_is_deaf(self, clean_valkey: Server, make_service: MakeService) -> None:
        """An open connection that delivers no message costs no waiter more than the poll."""
        with closing(Proxy(clean_valkey.port)) as proxy:
            proxy.message_faults.append(Fault(b"$7\r\nmessage\r\n", "swallow", times=1 << 30))
            channels = clean_valkey.client.pubsub_channels
            self._wake_up(
                clean_valkey, make_service, proxy.url, broken=lambda: len(channels()) == 4
            )
            until(lambda: proxy.happened)

    def test_subscriber_is_half_open(self, clean_valkey: Server, make_service: MakeService) -> None:
        """A connection whose packets are lost costs no waiter more than the poll."""
        with closing(Proxy(clean_valkey.port)) as proxy, closing(Client.from_url(proxy.url)) as ear:

            def make_hearing(url: str, view: Any) -> AppService:
                service = make_service(url, view)
                assert isinstance(service.engine.store, RedisStore)
                service.engine.store._subscriber._topology = ear.topology
                return service

            def silenced() -> bool:
                if len(clean_valkey.client.pubsub_channels()) == 4:
                    proxy.go_silent()
                return proxy.is_silent

            self._wake_up(clean_valkey, make_hearing, clean_valkey.url, broken=silenced)

    def test_subscriber_is_refused(self, clean_valkey: Server, make_service: MakeService) -> None:
        """A subscription that always fails costs no waiter more than the poll."""
        with closing(Proxy(clean_valkey.port)) as proxy:
            proxy.faults.append(Fault(b"SUBSCRIBE", "cut before", times=1 << 30))
            self._wake_up(
                clean_valkey, make_service, proxy.url, broken=lambda: len(proxy.happened) > 1
            )

    def test_subscriber_is_never_confirmed(
        self, clean_valkey: Server, make_service: MakeService
    ) -> None:
        """A subscription that is never confirmed costs no waiter more than the poll."""
        with closing(Proxy(clean_valkey.port)) as proxy:
            proxy.faults.append(Fault(b"SUBSCRIBE", "swallow", times=1 << 30))
            self._wake_up(
                clean_valkey, make_service, proxy.url, broken=lambda: bool(proxy.happened)
            )

    def _wake_up(
        self, server: Server, make_service: MakeService, url: str, broken: Callable[[], bool]
    ) -> None:
        ended: dict[str, float] = {}
        gates = {f"key-{number}": Gate() for number in range(4)}

        def view() -> bytes:
            key = request.headers["Idempotency-Key"]
            gates[key]()
            return key.encode()

        owner, other = make_service(server.url, view), make_service(url, view)
        with ThreadPoolExecutor(4 * len(gates)) as pool:
            owners = {key: pool.submit(timed, owner, key) for key in gates}
            for gate in gates.values():
                gate.reached()

            waiters = [(key, pool.submit(timed, other, key)) for key in gates for _ in range(3)]
            until(lambda: other.engine.waiters == len(waiters) and broken())
            for key, gate in gates.items():
                gate.open()
                assert owners[key].result().body == key.encode()
                ended[key] = time.monotonic()
            for key, waiter in waiters:
                answer = waiter.result()
                assert (answer.status, answer.body) == (200, key.encode())
                assert in_time(ended[key], answer.to, BOUND)


class TestSharing:
    row = "waiting: two payloads for a key"

    def test_other_payload(self, clean_valkey: Server, make_service: MakeService) -> None:
        """F4: nobody is given another payload's answer, however often the key changes hands."""
        tries: dict[tuple[str, bytes], int] = {}

        def view() -> bytes:
            key = request.headers["Idempotency-Key"], request.data
            tries[key] = tries.get(key, 0) + 1
            time.sleep(0.01)
            if tries[key] <= 2:
                raise Failed
            return b"for " + request.data

        services = [make_service(clean_valkey.url, view) for _ in range(2)]
        statuses: list[int] = []

        def client(number: int, key: str) -> None:
            payload = ("ada", "bob")[number % 2]
            answer = timed(services[number // 2 % 2], key, payload)
            statuses.append(answer.status)
            if answer.status == 200:
                assert answer.body == f"for {payload}".encode()

        with ThreadPoolExecutor(16) as pool:
            for turn in range(sized(200, 12)):
                clients = [pool.submit(client, number, f"key-{turn}") for number in range(16)]
                for each in clients:
                    each.result()
        assert set(statuses) <= {200, 422, 500}
        assert {200, 422, 500} <= set(statuses)


class TestTakeOver:
    row = "waiting: owners that give up"

    def test_one_runs_and_the_others_wait_on(
        self, clean_valkey: Server, make_service: MakeService
    ) -> None:
        """Each time an owner gives up, one of its waiters runs and the others wait on."""
        at_once: list[int] = []
        busy = threading.Semaphore(0)

        class Alone(CountingView):
            def __call__(self) -> bytes:
                busy.release()
                at_once.append(busy._value)
                try:
                    return super().__call__()
                finally:
                    busy.acquire()

        runs = Alone(seconds=0.05, failures=5)
        services = [make_service(clean_valkey.url, runs) for _ in range(2)]
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda number: timed(services[number % 2]), range(40)))
        assert sorted(answer.status for answer in answers) == [200] * 35 + [500] * 5
        assert {answer.body for answer in answers if answer.status == 200} == {b"run 6"}
        assert late(answers, 6 * 0.05 + BOUND) == []
        assert max(at_once) == 1


class TestMaxWaiters:
    row = "waiting: too many"

    def test_limit(
        self, clean_valkey: Server, make_service: MakeService, background: Background
    ) -> None:
        """IDEMPOTENT_MAX_WAITERS: one more gets 409 at once, until a place is free."""
        gate = Gate()

        def view() -> bytes:
            gate()
            return b"done"

        service = make_service(clean_valkey.url, view, max_waiters=3, timeout=5)
        owner = background(timed, service)
        gate.reached()
        waiters = [background(timed, service) for _ in range(3)]
        until(lambda: service.engine.waiters == 3)
        for _ in range(5):
            refused = timed(service)
            assert (refused.status, refused.within(0.3)) == (409, True)
        gate.open()
        assert {answer.result().body for answer in [owner, *waiters]} == {b"done"}
        assert service.engine.waiters == 0
