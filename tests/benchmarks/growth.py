"""Whether a request costs more with many records, many claims or many waiting requests."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from flask_idempotent.engine.claims import Claim, ClaimRequest
from flask_idempotent.engine.engine import Engine
from flask_idempotent.http.keys import storage_key
from flask_idempotent.records import FINGERPRINT_SIZE
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.factory import open_store
from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import OURS, Contestant, environ, fresh_key
from tests.benchmarks.machine import usual_build
from tests.benchmarks.runners import Runner, runners
from tests.benchmarks.series import Series, in_turns, median_time
from tests.benchmarks.waking import let_wait, wake
from tests.support.redis_servers import Server

_BATCH = 1_000
_LIMIT = 1.05

#: Copies a record to other keys, inside the server, for an hour.
_COPY = """
local record = redis.call('GET', KEYS[1])
for _, name in ipairs(ARGV) do
  redis.call('SET', name, record, 'EX', 3600)
end
"""


def _serve(contestant: Contestant, keys: list[str]) -> float:
    return median_time(contestant.answer, map(environ, keys))


# Records on a server.


def _names(keys: Iterable[str]) -> list[str]:
    return [storage_key("IDEMPOTENT_", "bench", None, key) for key in keys]


class _Store:
    """A server with a number of live records, which the keys ``0``, ``1`` and so on replay."""

    def __init__(self, server: Server, runner: Runner, live: int) -> None:
        self._server = server
        self._lane = runner
        self._live = live
        server.client.flushall()
        runner.run(_serve, ["0"])
        for start in range(0, live, _BATCH):
            numbers = range(start, min(start + _BATCH, live))
            server.client.eval(_COPY, 1, *_names(["0"]), *_names(map(str, numbers)))
        assert server.client.dbsize() == live, "records have other names"

    def first(self, calls: int) -> float:
        keys = [fresh_key() for _ in range(calls)]
        time = self._lane.run(_serve, keys)
        self._server.client.unlink(*_names(keys))
        return time

    def replay(self, calls: int) -> float:
        keys = [str(random.randrange(self._live)) for _ in range(calls)]
        return self._lane.run(_serve, keys)


@contextmanager
def _filled(bench: Bench, live: int) -> Iterator[_Store]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(usual_build() or bench.binary, Path(folder)).start()
        try:
            # All in this process: the times of two processes differ by more than the limit.
            with runners(server.url, OURS, apart=False) as made:
                yield _Store(server, made[OURS], live)
        finally:
            server.stop()


def records(bench: Bench) -> Findings:
    """Time requests on servers with few and with many live records, all running at once."""
    size = bench.size
    with ExitStack() as stack:
        turns: dict[tuple[str, int], Callable[[], float]] = {}
        for live in size.live:
            store = stack.enter_context(_filled(bench, live))
            turns["first", live] = partial(store.first, size.calls)
            turns["replay", live] = partial(store.replay, size.calls)
        measured = in_turns(turns, size.rounds // 2)
    return _findings("Cost by the live records on the server", "records", measured)


# Claims that a process holds.


_SETTINGS = EngineSettings(timeout=0, expire=3600, lease=3600, takeover=True)


def _request() -> ClaimRequest:
    return ClaimRequest(fresh_key(), "key", bytes(FINGERPRINT_SIZE), _SETTINGS)


def _begun(engine: Engine, request: ClaimRequest) -> Claim:
    claim = engine.claim(request)
    assert isinstance(claim, Claim)
    return claim


def _runs(engine: Engine, calls: int) -> float:
    def run(request: ClaimRequest) -> None:
        engine.release(_begun(engine, request), "failed")

    return median_time(run, (_request() for _ in range(calls)))


def claims(bench: Bench) -> Findings:
    """Time engines that hold few and many claims, in one process."""
    size = bench.size
    engines = {held: Engine(open_store(bench.server.url, "bench"), "bench") for held in size.held}
    try:
        for held, engine in engines.items():
            for _ in range(held):
                _begun(engine, _request())
        turns = {
            ("claim and release", held): partial(_runs, engine, size.calls)
            for held, engine in engines.items()
        }
        measured = in_turns(turns, size.rounds // 2)
    finally:
        for engine in engines.values():
            engine.close()
    return _findings("Cost by the claims that a process holds", "claims held", measured)


# Requests that wait in a process.


def _firsts(runner: Runner, calls: int) -> float:
    return runner.run(_serve, [fresh_key() for _ in range(calls)])


def waiters(bench: Bench) -> Findings:
    """Time requests in processes where few and many others wait for one key."""
    size = bench.size
    with ExitStack() as stack:
        turns = {}
        for number in (1, size.crowd):
            runner = stack.enter_context(bench.runners(OURS))[OURS]
            let_wait(runner, bench, 1, number)
            stack.callback(runner.run, wake)
            turns["first", number] = partial(_firsts, runner, size.calls)
        measured = in_turns(turns, size.rounds // 2)
    return _findings("Cost by the requests that wait in a process", "waiters", measured)


def _findings(title: str, what: str, measured: dict[tuple[str, int], list[float]]) -> Findings:
    series = {
        (act, number): Series(f"{act}, {number:,} {what}", "µs", tuple(values))
        for (act, number), values in measured.items()
    }
    findings = Findings(title, list(series.values()))
    for act in dict.fromkeys(act for act, _ in series):
        numbers = [number for name, number in series if name == act]
        value = series[act, numbers[-1]].over(series[act, numbers[0]])
        name = f"{act}: {numbers[-1]:,} {what} over {numbers[0]:,}"
        findings.targets.append(Target(name, value, _LIMIT))
    return findings
