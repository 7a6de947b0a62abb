"""How many commands a request sends to the server.

MONITOR shows which client sent each command. Those that a script calls inside the server are shown
as sent by ``lua``: they cost no round trip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import OURS, Contestant, environ, fresh_key
from tests.benchmarks.runners import Runner
from tests.benchmarks.series import Series
from tests.benchmarks.waking import let_wait, wake
from tests.support.redis_servers import Server

#: What redis-py sends when it opens a connection.
_SETUP = {"CLIENT", "HELLO", "SELECT", "AUTH"}
_MARK = "ECHO"


@contextmanager
def monitored(server: Server) -> Iterator[Counter[str]]:
    """Count the commands that clients send. The counts are there when the context is left."""
    sent: Counter[str] = Counter()
    with redis.Redis(port=server.port, socket_timeout=60).monitor() as monitor:
        yield sent
        server.client.echo("the end")
        while True:
            seen = monitor.next_command()
            name = seen["command"].split(" ", 1)[0].upper()
            if name == _MARK:
                return
            if seen["client_type"] != "lua" and name not in _SETUP:
                sent[name] += 1


def send(contestant: Contestant, *keys: str | None) -> None:
    """Send a request with each key."""
    for key in keys:
        contestant.answer(environ(key))


def _of_requests(runner: Runner, bench: Bench) -> list[Series]:
    calls, firsts = bench.size.calls, [fresh_key() for _ in range(bench.size.calls)]
    kinds = {"no key": [None] * calls, "first": firsts, "replay": firsts}
    series = []
    for kind, keys in kinds.items():
        with monitored(bench.server) as sent:
            runner.run(send, *keys)
        series.append(Series(f"{runner.name}, {kind}", "", (sent.total() / calls,)))
    return series


def _of_waiters(runner: Runner, bench: Bench, connected: int) -> list[Series]:
    client, waiters = bench.server.client, bench.size.waiters
    with monitored(bench.server) as going_to_sleep:
        let_wait(runner, bench, 1, waiters)
    listening = len(client.client_list(_type="pubsub"))
    connections = len(client.client_list()) - connected
    with monitored(bench.server) as waking:
        runner.run(wake)
    # Without the commands of the first request, and the one that leaves the channel.
    counts = {
        "claims": going_to_sleep["SET"] + going_to_sleep["EVALSHA"] - 1,
        "subscriptions": going_to_sleep["SUBSCRIBE"],
        "commands on waking": waking.total() - waking["UNSUBSCRIBE"] - 1,
        "connections that listen": listening,
        "connections in all": connections,
    }
    return [
        Series(f"{runner.name}, {waiters} waiters: {what}", "", (float(number),))
        for what, number in counts.items()
    ]


def measure(bench: Bench) -> Findings:
    """Count for requests of each kind, and for a group of requests that wait."""
    findings = Findings("Commands to the server, and connections", [])
    for name in (OURS, bench.peer):
        connected = len(bench.server.client.client_list())
        with bench.runners(name) as made:
            findings.series.extend(_of_requests(made[name], bench))
            findings.series.extend(_of_waiters(made[name], bench, connected))
    waiters = bench.size.waiters
    limits = {
        "no key": 0,
        "first": 2,
        "replay": 1,
        f"{waiters} waiters: claims": 2 * waiters,
        f"{waiters} waiters: subscriptions": 1,
        f"{waiters} waiters: commands on waking": 1,
        f"{waiters} waiters: connections that listen": 1,
    }
    findings.targets.extend(
        Target(f"commands: {what}", findings[f"{OURS}, {what}"].median, limit, "")
        for what, limit in limits.items()
    )
    return findings
