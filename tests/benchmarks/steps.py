"""What steps cost, beside the same view without steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import redis

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import (
    FAILS,
    NO_STEPS,
    ONCE,
    ONE_STEP,
    THREE_STEPS,
    Contestant,
    environ,
    fresh_key,
)
from tests.benchmarks.cost import time_in_turns
from tests.benchmarks.runners import Runner
from tests.benchmarks.series import Series
from tests.support.redis_servers import Server

_VIEWS = (NO_STEPS, ONE_STEP, ONCE, THREE_STEPS)
#: How many commands a first request may send, and one that goes on after the steps of a run that
#: failed: it claims the key, contends for it, reads the results and completes.
_FIRST = {NO_STEPS: 2, ONE_STEP: 3, ONCE: 4, THREE_STEPS: 5}
_GOES_ON = {NO_STEPS: 2, ONE_STEP: 4, ONCE: 4, THREE_STEPS: 4}
#: The arguments of a first request's SET and EVALSHA, where the view has no steps.
_ARGUMENTS = 15

_ARGUMENT = re.compile(rb'"(?:[^"\\]|\\.)*"')


def measure(bench: Bench) -> Findings:
    """Time first requests to views with steps and without."""
    times = time_in_turns(bench.size, partial(bench.runners, *_VIEWS), ["first"])
    series = [Series(f"{kind}: {name}", "µs", values) for (kind, name), values in times.items()]
    return Findings("Steps: a first request", series)


def commands(bench: Bench) -> Findings:
    """Count what first requests send to the server, and those that go on after recorded steps."""
    findings = Findings("Steps: commands to the server", [])
    for view in _VIEWS:
        with bench.runners(view) as made:
            counts = _count(made[view], bench)
        for what, count in counts.items():
            findings.series.append(Series(f"{view}, {what}", "", (float(count),)))
        findings.targets.extend(
            Target(f"{view}, {what}: commands", counts[f"{what}: commands"], limits[view], "")
            for what, limits in (("first", _FIRST), ("goes on", _GOES_ON))
        )
    sent = findings[f"{NO_STEPS}, first: arguments"].median
    findings.targets.append(Target(f"{NO_STEPS}, first: arguments", sent, _ARGUMENTS, ""))
    return findings


def _count(runner: Runner, bench: Bench) -> Counter[str]:
    # Connections are opened and scripts are loaded by the requests before.
    for key in (fresh_key(), fresh_key()):
        with _sent(bench.server) as first:
            runner.run(_send, fresh_key())
        runner.run(_send, key, True)
        with _sent(bench.server) as goes_on:
            runner.run(_send, key)
    counts: Counter[str] = Counter()
    for what, lines in (("first", first), ("goes on", goes_on)):
        commands = list(map(_arguments, lines))
        counts[f"{what}: commands"] = len(commands)
        counts[f"{what}: arguments"] = sum(map(len, commands))
        counts[f"{what}: bytes"] = sum(map(_size, commands))
    return counts


def _arguments(line: bytes) -> list[bytes]:
    """The arguments of a command that MONITOR shows, which escapes them as Python does."""
    quoted = _ARGUMENT.findall(line)
    return [part[1:-1].decode("unicode_escape").encode("latin-1") for part in quoted]


def _size(command: list[bytes]) -> int:
    """The bytes of a command as it is sent (RESP)."""
    return len(b"*%d\r\n" % len(command)) + sum(
        len(b"$%d\r\n%b\r\n" % (len(argument), argument)) for argument in command
    )


@contextmanager
def _sent(server: Server) -> Iterator[list[bytes]]:
    """Record the commands that clients send. They are there when the context is left."""
    lines: list[bytes] = []
    with redis.Redis(port=server.port, socket_timeout=60).monitor() as monitor:
        yield lines
        server.client.echo("the end")
        while True:
            line: bytes = monitor.connection.read_response(disable_decoding=True)
            if b'"ECHO"' in line.upper():
                return
            if b" lua]" not in line:
                lines.append(line)


def _send(contestant: Contestant, key: str, fails: bool = False) -> None:
    request = environ(key)
    if fails:
        request[FAILS] = "1"
    contestant.answer(request)
