"""Workers that are killed, terminated, aborted, replaced and stopped while clients retry."""

from __future__ import annotations

import math
import random
import re
import signal
from itertools import chain
from pathlib import Path

import pytest

from tests.chaos.clients import Answer
from tests.chaos.history import History, struck
from tests.chaos.promises import (
    late_owners_overwrote_nothing,
    lease_lost_was_sent,
    one_answer,
    one_replay,
    own_clients_answered,
    ran_once,
    ran_once_and_for_each_hit,
    runs_hit,
    stored,
    taken_over_in_time,
)
from tests.chaos.serving import (
    FULL,
    Row,
    Strike,
    kill_workers,
    serve,
    sized,
    stop_workers,
)
from tests.chaos.storms import Storm
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LEASE = 1.0
#: Where every owner lives long enough to answer, a slow machine must not make one look dead.
LONG_LEASE = 10.0
WORKERS = sized(4, 2)
CLIENTS = {"gthread": sized(24, 12), "sync": sized(12, 6)}
#: With the application loaded before the fork, and after it.
KINDS = {"gthread": ["--preload"], "sync": []}


def patient_work(dice: random.Random) -> str:
    return f"/work/{dice.randint(20, 300)}"


@pytest.mark.parametrize("kind", KINDS if FULL else ["gthread"])
def test_killed(clean_valkey: Server, tmp_path: Path, kind: str) -> None:
    """When workers are killed, each key is taken over in time and ends with one stored response."""
    url, count = clean_valkey.url, sized(120, 5)
    with serve(
        tmp_path, url, *KINDS[kind], workers=WORKERS, kind=kind, IDEMPOTENT_LEASE=LEASE
    ) as served:
        storm = Storm(served, CLIENTS[kind], f"killed-{kind}")
        storm.during(
            lambda: kill_workers(served, signal.SIGKILL, count=count, pause=0.5, seed=kind)
        )
        history = History(tmp_path, LEASE)
        row = storm.row(f"SIGKILL, {kind}", history, len(served.strikes))
        one_answer(row, history, storm.clients.answers + storm.later)
        ran_once_and_for_each_hit(row, history, served.strikes)
        hits = runs_hit(history, served.strikes)
        taken_over_in_time(row, history, served.strikes, LEASE)
        stored(row, url, storm.keys)
        row.conclude()
    assert hits, "no kill hit an owner"
    assert len(served.strikes) == count


@pytest.mark.parametrize("kind", KINDS if FULL else ["gthread"])
def test_terminated(clean_valkey: Server, tmp_path: Path, kind: str) -> None:
    """A worker that gets SIGTERM ends its runs first, so that each key runs once."""
    url, count = clean_valkey.url, sized(60, 3)
    with serve(
        tmp_path, url, *KINDS[kind], workers=WORKERS, kind=kind, IDEMPOTENT_LEASE=LONG_LEASE
    ) as served:
        storm = Storm(served, CLIENTS[kind], f"leaving-{kind}")
        storm.during(
            lambda: kill_workers(served, signal.SIGTERM, count=count, pause=0.5, seed=kind),
            patient_work,
        )
        history = History(tmp_path, LONG_LEASE)
        row = storm.row(f"SIGTERM, {kind}", history, len(served.strikes))
        one_answer(row, history, storm.clients.answers + storm.later)
        ran_once(row, history, storm.keys)
        stored(row, url, storm.keys)
        row.conclude()
    assert len(served.strikes) == count


@pytest.mark.parametrize("kind", KINDS if FULL else ["gthread"])
def test_replaced(clean_valkey: Server, tmp_path: Path, kind: str) -> None:
    """A worker that gunicorn replaces after some requests leaves each key run once."""
    url, count = clean_valkey.url, sized(40, 3)
    options = ["--max-requests", "30", "--max-requests-jitter", "10", *KINDS[kind]]
    with serve(
        tmp_path, url, *options, workers=WORKERS, kind=kind, IDEMPOTENT_LEASE=LONG_LEASE
    ) as served:
        storm = Storm(served, CLIENTS[kind], f"replaced-{kind}")
        storm.during(lambda: served.until_exits(count), lambda dice: f"/work/{dice.randint(0, 50)}")
        history = History(tmp_path, LONG_LEASE)
        row = storm.row(f"max_requests, {kind}", history, len(served.deaths()))
        one_answer(row, history, storm.clients.answers + storm.later)
        ran_once(row, history, storm.keys)
        stored(row, url, storm.keys)
        row.conclude()


def test_aborted(clean_valkey: Server, tmp_path: Path) -> None:
    """When gunicorn aborts a worker whose view hangs, the key is free at once and runs again."""
    url, count = clean_valkey.url, sized(20, 2)

    def path(dice: random.Random) -> str:
        return "/hang/30000" if dice.random() < 0.05 else f"/work/{dice.randint(20, 200)}"

    with serve(
        tmp_path, url, "--timeout", "1", workers=WORKERS, kind="sync", IDEMPOTENT_LEASE=LEASE
    ) as served:
        storm = Storm(served, CLIENTS["sync"], "aborted")
        storm.during(lambda: served.until_exits(count), path)
        history = History(tmp_path, LEASE)
        strikes = served.deaths()
        row = storm.row("worker timeout (SIGABRT), sync", history, len(strikes))
        one_answer(row, history, storm.clients.answers + storm.later)
        ran_once_and_for_each_hit(row, history, strikes)
        hits = runs_hit(history, strikes)
        # gunicorn kills an aborted worker when it checks again, which may be at once.
        killed = {int(pid) for pid in re.findall(r"pid:(\d+)\) was sent SIGKILL", served.output())}
        aborted = [strike for strike in strikes if strike.pid not in killed]
        released_if_aborted(row, history, aborted)
        stored(row, url, storm.keys)
        row.conclude()
    assert hits, "no abort hit an owner"


def released_if_aborted(row: Row, history: History, strikes: list[Strike]) -> None:
    """A run whose view an abort ended released its key at once."""
    released = {note["owner"] for note in history.named("released")}
    for run in chain.from_iterable(history.runs.values()):
        if run.end == math.inf and struck(run, strikes):
            row.require(run.owner in released, f"{run.key}: {run} was aborted and not released")


@pytest.mark.parametrize("kind", KINDS if FULL else ["gthread"])
def test_stopped(clean_valkey: Server, tmp_path: Path, kind: str) -> None:
    """A late owner overwrites nothing, answers its own client and reports its lost lease."""
    # The next owner still runs after the first time, and has answered after the second.
    url, times = clean_valkey.url, [1.1 * LEASE, 2 * LEASE] * sized(8, 1)
    with serve(
        tmp_path, url, *KINDS[kind], workers=WORKERS, kind=kind, IDEMPOTENT_LEASE=LEASE
    ) as served:
        storm = Storm(served, CLIENTS[kind], f"stopped-{kind}")
        storm.during(
            lambda: stop_workers(
                served, pause=0.5, times=times, choose=storm.busy, meanwhile=storm.rivals
            ),
            lambda dice: f"/work/{dice.randint(100, 900)}",
        )
        history = History(tmp_path, LEASE)
        row = storm.row(f"SIGSTOP and SIGCONT, {kind}", history, len(served.strikes))
        one_replay(row, history, storm.clients.answers + storm.later)
        own_clients_answered(row, history, storm.clients.answers)
        ran_once_and_for_each_hit(row, history, served.strikes)
        overtaken = lease_lost_was_sent(row, history, storm.later)
        late_owners_overwrote_nothing(row, history, served.strikes, storm.later)
        stored(row, url, storm.keys)
        row.conclude()
    assert overtaken, "no owner was overtaken"


def test_held(clean_valkey: Server, tmp_path: Path) -> None:
    """With on_crash="hold" a killed owner's key never runs again, and each request gets 409."""
    url, count = clean_valkey.url, sized(40, 2)
    with serve(
        tmp_path,
        url,
        "--preload",
        workers=WORKERS,
        IDEMPOTENT_LEASE=LEASE,
        IDEMPOTENT_ON_CRASH="hold",
    ) as served:
        storm = Storm(served, CLIENTS["gthread"], "held")
        storm.during(lambda: kill_workers(served, signal.SIGKILL, count=count, pause=0.5, seed=""))
        history = History(tmp_path, LEASE)
        answers = storm.clients.answers + storm.later
        requests = storm.clients.sent + len(storm.later)
        faults = storm.clients.faults.total()
        row = Row('SIGKILL, on_crash="hold"', requests, history.count, len(served.strikes), faults)
        row.require(not storm.unanswered, f"never answered: {storm.unanswered}")
        unknown = held(row, history, answers, storm.later)
        strikes = [*served.strikes, *history.stops]
        for run in chain.from_iterable(history.runs[key] for key in unknown):
            row.require(struck(run, strikes), f"{run.key}: unknown, but its owner lives")
        row.conclude()
    assert unknown, "no kill hit an owner"


def held(row: Row, history: History, answers: list[Answer], later: list[Answer]) -> set[str]:
    """Each key has either its one run's answer or "outcome-unknown", and no key has both."""
    unknown = {answer.key for answer in later if answer.problem == "outcome-unknown"}
    for key in history.asks:
        row.require(len(history.runs[key]) <= 1, f"{key} ran {len(history.runs[key])} times")
    for answer in answers:
        if answer.status != 201:
            right = (answer.status, answer.problem) == (409, "outcome-unknown")
            row.require(right, f"{answer.key}: {answer.status} {answer.body[:200]!r}")
        # An owner that paused looked dead, and its late answer is stored after all.
        row.require(
            (answer.status == 409) == (answer.key in unknown) or answer.key in history.late,
            f"{answer.key}: {answer.status}, while its outcome is {answer.key in unknown=}",
        )
    one_answer(row, history, [answer for answer in answers if answer.status == 201])
    return unknown
