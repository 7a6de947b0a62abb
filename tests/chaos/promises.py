"""The promises: what must be true of the history and of the answers, whatever happened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, pairwise

from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.factory import open_store
from tests.chaos.clients import Answer
from tests.chaos.history import History, Run, struck
from tests.chaos.serving import Row, Strike

#: Seconds that a take-over may last beyond the end of the lease.
LATE = 1.0


def ran_once(row: Row, history: History, keys: Iterable[str]) -> None:
    """Each key's view ran exactly once."""
    for key in keys:
        runs = history.runs[key]
        row.require(
            len(runs) == 1 or key in history.late, f"{key} ran {len(runs)} times: {_list(runs)}"
        )


def ran_once_and_for_each_hit(row: Row, history: History, strikes: list[Strike]) -> None:
    """A key's view ran once, and once more at most for each strike that hit its owner."""
    strikes = sorted([*strikes, *history.stops], key=lambda strike: strike.time)
    for key, runs in history.runs.items():
        hit = [run for run in runs if struck(run, strikes) is not None]
        row.require(
            len(runs) <= 1 + len(hit),
            f"{key} ran {len(runs)} times, and {len(hit)} of its owners were hit: {_list(runs)}",
        )
        for run, following in pairwise(runs):
            strike = struck(run, strikes)
            row.require(
                strike is not None and following.start >= strike.time,
                f"{key}: {following} began although nothing had happened to {run}",
            )


def runs_hit(history: History, strikes: list[Strike]) -> int:
    """How many runs were hit."""
    return sum(struck(run, strikes) is not None for runs in history.runs.values() for run in runs)


def taken_over_in_time(row: Row, history: History, strikes: list[Strike], lease: float) -> None:
    """After an owner's death nobody waits longer than lease + 1 s for the key's next run.

    A request that comes after the lease waits a second at most.
    """
    deaths = {strike.pid: strike.time for strike in strikes}
    for runs in history.runs.values():
        for run in runs:
            strike = struck(run, strikes)
            if strike is not None:
                _taken_over(
                    row, history, run, _last_death(history, run, strike, deaths), lease, deaths
                )


def _last_death(history: History, run: Run, strike: Strike, deaths: dict[int, float]) -> float:
    following = [other for other in history.runs[run.key] if other.start > strike.time]
    if not following or following[0].attempt <= run.attempt + 1:
        return strike.time
    # Another owner died in between, after its claim and before its view began.
    cut = [deaths[ask.pid] for ask in history.asks[run.key] if ask.cut_by(deaths)]
    return max(time for time in (*cut, strike.time) if time < following[0].start)


def _taken_over(
    row: Row, history: History, run: Run, death: float, lease: float, deaths: dict[int, float]
) -> None:
    lapse = death + lease
    waiting = [
        (max(ask.time, lapse), ask.pid)
        for ask in history.asks[run.key]
        if ask.end > lapse and not ask.cut_by(deaths)
    ]
    lives = [other.start for other in history.runs[run.key] if other.start > death]
    lives += [time for time in history.answered[run.key] if time > death]
    if not lives or not waiting:
        return
    row.slowest = max(row.slowest, min(lives) - death)
    since, pid = min(waiting)
    late = min(lives) - since - history.paused(pid, since, min(lives))
    row.require(
        late <= LATE,
        f"{run.key}: an owner died at {death:.3f} and the next run or answer came at "
        f"{min(lives):.3f}, {late:.3f} s later than the lease allows",
    )


def all_answered(row: Row, answers: list[Answer], unanswered: Iterable[object]) -> None:
    """Every client got the view's answer in the end."""
    for request in unanswered:
        row.require(False, f"{request} was never answered")
    for answer in answers:
        row.require(answer.status == 201, f"{answer.key}: {answer.status} {answer.body[:200]!r}")


def one_answer(row: Row, history: History, answers: list[Answer]) -> None:
    """All answers of a key are equal, and are those of one of its runs."""
    contents: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    for answer in answers:
        contents[answer.key].add(answer.content)
    for key, different in contents.items():
        one = len(different) == 1 or key in history.late
        row.require(one, f"{key} has {len(different)} answers: {different}")
    _of_a_run(row, history, answers)


def one_replay(row: Row, history: History, answers: list[Answer]) -> None:
    """All replays of a key are equal; the client that started a run gets that run's answer."""
    one_answer(row, history, [answer for answer in answers if answer.replayed])
    own = [answer for answer in answers if not answer.replayed]
    _of_a_run(row, history, own)
    runs = [answer.headers.get("x-run") for answer in own]
    row.require(len(runs) == len(set(runs)), "a run's own answer was sent to two clients")


def own_clients_answered(row: Row, history: History, answers: list[Answer]) -> None:
    """Every run, a late one too, answered the client that started it."""
    own = {answer.headers.get("x-run") for answer in answers if not answer.replayed}
    for run in chain.from_iterable(history.runs.values()):
        row.require(run.run in own, f"{run.key}: {run} did not answer its own client")


def _of_a_run(row: Row, history: History, answers: list[Answer]) -> None:
    for answer in answers:
        runs = [run.run for run in history.runs[answer.key]]
        row.require(answer.headers.get("x-run") in runs, f"{answer.key}: no run gave this answer")


def stored(row: Row, url: str, keys: Iterable[str]) -> None:
    """The store has one completed record for each key and nothing else."""
    store = open_store(url, "chaos")
    names = set(store.scan("IDEMPOTENT_"))
    expected = len(set(keys))
    row.require(len(names) == expected, f"{len(names)} records for {expected} keys")
    for name in names:
        record = store.read(name)
        row.require(isinstance(record, CompletedRecord), f"{name} is not completed: {record}")
    store.close()


def swept(row: Row, answers: list[Answer], later: list[Answer]) -> None:
    """Every later retry gets the stored response, which is what was replayed before."""
    before = {answer.key: answer for answer in answers if answer.replayed}
    for answer in later:
        row.require(answer.replayed, f"{answer.key}: a later retry is not a replay")
        if answer.key in before:
            same = before[answer.key].content == answer.content
            row.require(same, f"{answer.key}: its stored response has changed")


def lease_lost_was_sent(row: Row, history: History, later: list[Answer]) -> int:
    """``lease_lost`` was sent once for every run that was overtaken, and for no other.

    :param later: replays of what is stored in the end.
    :returns: how many were overtaken.
    """
    kept = {answer.key: answer.headers.get("x-run") for answer in later}
    overtaken = 0
    for key, runs in history.runs.items():
        for run in runs:
            lost = history.leases_lost[run.owner]
            if run.run != kept.get(key):
                overtaken += 1
                row.require(lost == 1, f"{key}: {run} sent lease_lost {lost} times")
            else:
                row.require(lost == 0 or len(runs) > 1, f"{key}: {run} lost its only lease")
    return overtaken


def late_owners_overwrote_nothing(
    row: Row, history: History, strikes: list[Strike], later: list[Answer]
) -> None:
    """The response of the last owner stands, unless that owner came late itself."""
    kept = {answer.key: answer.headers.get("x-run") for answer in later}
    for key, runs in history.runs.items():
        for run in reversed(runs):
            if run.run == kept.get(key):
                break
            hit = struck(run, [*strikes, *history.stops])
            row.require(hit, f"{key}: an earlier owner overwrote that of {run}")


def _list(runs: list[Run]) -> str:
    return ", ".join(map(str, runs))
