"""Commands and replies that are lost between library and store, at every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle
from typing import Any, NamedTuple

import pytest

from flask_idempotent.stores.redis.commands import Script
from flask_idempotent.stores.redis.store import RedisStore
from tests.chaos.pauses import fail_unless_paused, in_time, repeat_if_paused
from tests.chaos.services import (
    SERVICES,
    CountingView,
    GatedView,
    Service,
    Timed,
    lost_leases,
    tally,
    timed,
)
from tests.chaos.serving import sized
from tests.support.polling import until
from tests.support.proxy import Action, Fault, Proxy
from tests.support.redis_servers import Server

pytestmark = pytest.mark.chaos

#: The lease, and the timeout of a reply.
LEASE = 0.6
PATIENCE = 0.8
#: A command that nobody answers must fit into a lease more than once, as it does by default.
LONG_LEASE = 3.0
RENEWED_PATIENCE = 0.2
POLL = 1.0


class Way(NamedTuple):
    """A way to go wrong: what happens, for how long, how often."""

    action: Action
    seconds: float = 0.0
    times: int = 1


WAYS = {
    "cut before the command": Way("cut before"),
    "cut before it, twice": Way("cut before", times=2),
    "reply lost": Way("lose reply"),
    "reply lost, twice": Way("lose reply", times=2),
    "half a reply": Way("half reply"),
    "half a reply, twice": Way("half reply", times=2),
    "swallowed": Way("swallow"),
    "reply later than a third of the lease": Way("delay", LEASE * 0.45),
    "reply later than the lease": Way("delay", LEASE * 1.15),
    "reply later than anybody waits": Way("delay", PATIENCE * 1.3),
    "command later than anybody waits": Way("hold", PATIENCE * 1.3),
}
STEPS = (
    "claim", "contend", "complete", "release", "clock", "renew", "subscribe", "message",
)  # fmt: skip
#: The bytes by which the proxy knows a step's command, where that is not a script.
PLAIN = {
    "claim": b"$3\r\nSET\r\n",
    "clock": b"$4\r\nTIME\r\n",
    "subscribe": b"SUBSCRIBE",
}


@dataclass
class Setup:
    """Two processes on one server, the first behind a proxy."""

    near: Service
    far: Service
    proxy: Proxy
    runs: Any
    background: Callable[..., Future[Any]]
    lease: float

    def place(self, step: str, way: Way) -> None:
        if step == "message":
            fault = Fault(b"$7\r\nmessage\r\n", way.action, way.seconds, way.times)
            self.proxy.message_faults.append(fault)
            return
        needle = PLAIN.get(step) or Script(step).digest.encode()
        self.proxy.faults.append(Fault(needle, way.action, way.seconds, way.times))


def lost_claim(setup: Setup) -> None:
    """A client repeats what is answered 503."""
    first = timed(setup.near)
    assert first.status in (200, 503)
    assert first.within(2)
    if first.status == 503:
        # On a slow machine each of two losses costs an answer.
        retry = timed_until_served(setup.near)
        assert (retry.status, retry.within(setup.lease + 1)) == (200, True)
    assert setup.far.send() == (200, b"run 1")


def lost_completion(setup: Setup) -> None:
    """The view ran: its client is answered, and so is everybody else."""
    first = timed(setup.near)
    assert (first.status, first.body, first.within(2)) == (200, b"run 1", True)
    assert setup.far.send() == (200, b"run 1")
    assert setup.near.send() == (200, b"run 1")


def lost_release(setup: Setup) -> None:
    """The view failed: the next request runs."""
    assert timed(setup.near).status == 500
    assert setup.runs.count == 1
    retry = timed(setup.far)
    assert (retry.status, retry.body, retry.within(setup.lease + 1)) == (200, b"run 2", True)
    assert setup.near.send() == (200, b"run 2")
    setup.runs.count -= 1


def lost_renewal(setup: Setup) -> None:
    """A slow view keeps its claim: it is renewed in the worker's next round."""
    first = setup.background(timed_until_served, setup.near)
    setup.runs.gate.reached()
    duplicate = setup.background(timed_until_served, setup.far)
    (claim,) = setup.near.engine.worker.renewals
    until(lambda: not setup.proxy.faults)
    lost = time.monotonic()
    until(lambda: claim.renewed > lost)
    setup.runs.gate.open()
    assert duplicate.result().body == first.result().body == b"run 1"


def timed_until_served(service: Service) -> Timed:
    """Send a request as a client does: again after each 503."""
    since = time.monotonic()
    while (answer := timed(service)).status == 503:
        pass
    return Timed(answer.status, answer.body, since, answer.to)


def lost_contention(setup: Setup) -> None:
    """A waiter that cannot contend for the key polls again."""
    lost_notification(setup, lambda: bool(setup.proxy.happened))


def lost_subscription(setup: Setup) -> None:
    """A waiter polls while it cannot subscribe."""
    lost_notification(setup, lambda: bool(setup.proxy.happened))


def lost_message(setup: Setup) -> None:
    """A waiter polls where no message comes."""
    store = setup.near.engine.store
    assert isinstance(store, RedisStore)
    channels = store._subscriber._channels
    lost_notification(
        setup, lambda: any(channel.confirmed.is_set() for channel in list(channels.values()))
    )


def lost_notification(setup: Setup, ready: Callable[[], bool]) -> None:
    owner = setup.background(setup.far.send)
    setup.runs.gate.reached()
    waiter = setup.background(timed, setup.near)
    until(ready)
    setup.runs.gate.open()
    assert owner.result() == (200, b"run 1")
    completed = time.monotonic()
    answer = waiter.result()
    assert (answer.status, answer.body) == (200, b"run 1")
    assert in_time(completed, answer.to, POLL + 0.2)
    until(lambda: setup.proxy.happened)


CHECKS: dict[str, tuple[Callable[[Setup], None], Callable[[], Any]]] = {
    "claim": (lost_claim, CountingView),
    "contend": (lost_contention, GatedView),
    "complete": (lost_completion, CountingView),
    "release": (lost_release, partial(CountingView, failures=1)),
    "clock": (lost_renewal, GatedView),
    "renew": (lost_renewal, GatedView),
    "subscribe": (lost_subscription, GatedView),
    "message": (lost_message, GatedView),
}
Case = tuple[str, str, str]
_turns = cycle(SERVICES)
#: Each step goes wrong in each way, in the short form for one service, in turn.
CASES: list[Case] = [
    (service, step, way)
    for step in STEPS
    for way in WAYS
    for service in sized(list(SERVICES), [next(_turns)])
]
#: Numbers for the keys of a case that is run again.
_numbers = count(1)
ROW = f"lost replies: {len(CASES)} cases"


def run_case(server: Server, case: Case) -> None:
    """Set one case up, and check what happens."""
    name, step, way = case
    check, make_runs = CHECKS[step]
    # While a completion is under way nothing renews: it must fit into the lease.
    silent = step == "complete" and WAYS[way].action in ("swallow", "hold")
    brief = step in ("claim", "complete", "release") and not silent
    lease = LEASE if brief else LONG_LEASE
    patience = RENEWED_PATIENCE if step in ("clock", "renew") else PATIENCE
    runs = make_runs()
    with ExitStack() as stack:
        proxy = stack.enter_context(closing(Proxy(server.port)))
        settings = {"lease": lease, "timeout": 8.0}
        near = SERVICES[name](f"{proxy.url}?socket_timeout={patience}", runs, **settings)
        far = SERVICES[name](server.url, runs, **settings)
        key = "-".join((*case, str(next(_numbers)))).replace(" ", ".").replace(",", ".")
        for service in (near, far):
            service.key = key
            stack.callback(service.engine.close)
        owners = stack.enter_context(lost_leases(near, far))
        pool = stack.enter_context(ThreadPoolExecutor(4))
        setup = Setup(near, far, proxy, runs, pool.submit, lease)
        setup.place(step, WAYS[way])
        with fail_unless_paused(lease, spare=lease / 4):
            check(setup)
            assert proxy.happened, "nothing went wrong"
            tally.add("kills", len(proxy.happened))
            assert runs.count == 1
            assert owners == [], "nobody lost a lease"
            until(lambda: not near.engine.worker.pending, 5)


@pytest.fixture(scope="module")
def results(valkey: Server) -> dict[Case, Future[None]]:
    """All cases, run side by side, as they mostly wait."""
    # A server that knows the scripts is sent their digests, by which the proxy knows the steps.
    for step in ("contend", "complete", "release", "renew"):
        valkey.client.script_load(Script(step).source)
    with ThreadPoolExecutor(sized(6, 32)) as pool:
        return {
            case: pool.submit(repeat_if_paused, partial(run_case, valkey, case)) for case in CASES
        }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_case(results: dict[Case, Future[None]], case: Case) -> None:
    """Whatever is lost, there is one run, and everybody gets its response in time."""
    results[case].result()
