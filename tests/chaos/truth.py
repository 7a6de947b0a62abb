"""The rules: what must be true of the notes and of the answers, whatever happened meanwhile."""

from __future__ import annotations

import math
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.factory import open_store
from tests.chaos.harness import Row, Strike
from tests.chaos.notes import Note, read_notes
from tests.chaos.stalls import Late, overlap, standstills
from tests.chaos.swarm import Answer

#: Seconds that a take-over may last beyond the end of the lease.
LATE = 1.0


@dataclass
class Run:
    """One run of a view."""

    key: str
    owner: str
    attempt: int
    pid: int
    run: str
    request: str
    path: str
    start: float
    end: float = math.inf
    completed: float = math.inf

    def __str__(self) -> str:
        return f"run {self.run[:8]} (pid {self.pid}, attempt {self.attempt}, at {self.start:.3f})"


@dataclass
class Ask:
    """One request that reached a worker.

    :param end: when its view started or it was answered.
    """

    pid: int
    time: float
    end: float = math.inf

    def cut_by(self, deaths: dict[int, float]) -> bool:
        """Whether the death of its worker ended it."""
        return self.end == math.inf and self.pid in deaths


class Truth:
    """What the notes say.

    :param folder: where they are.
    :param lease: seconds that a claim outlives its owner; the default is the library's.
    """

    def __init__(self, folder: Path, lease: float = 30.0) -> None:
        self.notes = read_notes(folder)
        self._lease = lease
        self._beats: dict[int, list[Late]] = defaultdict(list)
        for line in read_notes(folder, "beats"):
            self._beats[line["pid"]].append((line["due"], line["time"]))
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.asks: dict[str, list[Ask]] = defaultdict(list)
        self.answered: dict[str, list[float]] = defaultdict(list)
        #: How often each owner was told that its lease is lost.
        self.leases_lost: Counter[str] = Counter()
        self._owners: dict[str, Run] = {}
        self._asks: dict[str, Ask] = {}
        for line in self.notes:
            handle = getattr(self, f"_on_{line['event']}", None)
            if handle is not None:
                handle(line)

    @property
    def count(self) -> int:
        """How many runs began."""
        return sum(map(len, self.runs.values()))

    @property
    def running(self) -> list[Run]:
        """The runs that have begun and not ended."""
        return [run for runs in self.runs.values() for run in runs if run.end == math.inf]

    @cached_property
    def stops(self) -> list[Strike]:
        """What the machine did to workers: it let one stand still for too long for its lease.

        A claim is renewed when a third of its lease is over, at the next of the six ticks that
        there are in a lease. So half a lease is to spare.
        """
        return [
            Strike(pid, signal.SIGSTOP, since, to)
            for pid, beats in self._beats.items()
            for since, to in standstills(beats, self._lease, self._lease / 2)
        ]

    @cached_property
    def late(self) -> set[str]:
        """The keys of which an owner stood still, so that it looked dead."""
        runs = chain.from_iterable(self.runs.values())
        return {run.key for run in runs if struck(run, self.stops)}

    def stood_still(self, pid: int, since: float, to: float) -> float:
        """For how many of these seconds a worker stood still."""
        return overlap(self._beats[pid], since, to)

    def named(self, event: str) -> list[Note]:
        return [note for note in self.notes if note["event"] == event]

    def _on_ask(self, line: Note) -> None:
        ask = self._asks[line["request"]] = Ask(line["pid"], line["time"])
        self.asks[line["key"]].append(ask)

    def _on_start(self, line: Note) -> None:
        names = ("key", "owner", "attempt", "pid", "run", "request", "path")
        run = Run(**{name: line[name] for name in names}, start=line["time"])
        self._owners[run.owner] = run
        self.runs[run.key].append(run)
        self._asks[run.request].end = run.start

    def _on_end(self, line: Note) -> None:
        self._owners[line["owner"]].end = line["time"]

    def _on_answer(self, line: Note) -> None:
        ask = self._asks[line["request"]]
        ask.end = min(ask.end, line["time"])
        if line["status"] == 201:
            self.answered[line["key"]].append(line["time"])

    def _on_completed(self, line: Note) -> None:
        # Stored in the background, outside the request, a response does not say whose it is.
        runs = [run for run in self.runs[line["key"]] if run.pid == line["pid"]]
        run = self._owners.get(line["owner"]) or runs[-1]
        run.completed = line["time"]

    def _on_lease_lost(self, line: Note) -> None:
        # By owner: a process that is stopped between its claim and its view's start may hear that
        # the lease is lost before the view starts.
        self.leases_lost[line["owner"]] += 1


def ran_once(row: Row, truth: Truth, keys: Iterable[str]) -> None:
    """Each key's view ran exactly once."""
    for key in keys:
        runs = truth.runs[key]
        row.require(
            len(runs) == 1 or key in truth.late, f"{key} ran {len(runs)} times: {_list(runs)}"
        )


def ran_once_and_for_each_hit(row: Row, truth: Truth, strikes: list[Strike]) -> None:
    """A key's view ran once, and once more at most for each strike that hit its owner."""
    strikes = sorted([*strikes, *truth.stops], key=lambda strike: strike.time)
    for key, runs in truth.runs.items():
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


def runs_hit(truth: Truth, strikes: list[Strike]) -> int:
    """How many runs were hit."""
    return sum(struck(run, strikes) is not None for runs in truth.runs.values() for run in runs)


def struck(run: Run, strikes: list[Strike]) -> Strike | None:
    """The strike that hit a run: while it ran, or before its response was known to be stored."""
    for strike in strikes:
        if strike.pid == run.pid and run.start <= strike.end and strike.time <= run.completed:
            return strike
    return None


def taken_over_in_time(row: Row, truth: Truth, strikes: list[Strike], lease: float) -> None:
    """After an owner's death nobody waits longer than lease + 1 s for the key's next run.

    Who asks after the lease waits a second at most.
    """
    deaths = {strike.pid: strike.time for strike in strikes}
    for runs in truth.runs.values():
        for run in runs:
            strike = struck(run, strikes)
            if strike is not None:
                _taken_over(row, truth, run, _last_death(truth, run, strike, deaths), lease, deaths)


def _last_death(truth: Truth, run: Run, strike: Strike, deaths: dict[int, float]) -> float:
    following = [other for other in truth.runs[run.key] if other.start > strike.time]
    if not following or following[0].attempt <= run.attempt + 1:
        return strike.time
    # Another owner died in between, after its claim and before its view began.
    cut = [deaths[ask.pid] for ask in truth.asks[run.key] if ask.cut_by(deaths)]
    return max(time for time in (*cut, strike.time) if time < following[0].start)


def _taken_over(
    row: Row, truth: Truth, run: Run, death: float, lease: float, deaths: dict[int, float]
) -> None:
    lapse = death + lease
    waiting = [
        (max(ask.time, lapse), ask.pid)
        for ask in truth.asks[run.key]
        if ask.end > lapse and not ask.cut_by(deaths)
    ]
    lives = [other.start for other in truth.runs[run.key] if other.start > death]
    lives += [time for time in truth.answered[run.key] if time > death]
    if not lives or not waiting:
        return
    row.slowest = max(row.slowest, min(lives) - death)
    since, pid = min(waiting)
    late = min(lives) - since - truth.stood_still(pid, since, min(lives))
    row.require(
        late <= LATE,
        f"{run.key}: an owner died at {death:.3f} and the next sign of life came at "
        f"{min(lives):.3f}, {late:.3f} s later than the lease allows",
    )


def all_answered(row: Row, answers: list[Answer], unanswered: Iterable[object]) -> None:
    """Every client got the view's answer in the end."""
    for job in unanswered:
        row.require(False, f"{job} was never answered")
    for answer in answers:
        row.require(answer.status == 201, f"{answer.key}: {answer.status} {answer.body[:200]!r}")


def one_answer(row: Row, truth: Truth, answers: list[Answer]) -> None:
    """All answers of a key are equal, and are those of one of its runs."""
    contents: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    for answer in answers:
        contents[answer.key].add(answer.content)
    for key, different in contents.items():
        one = len(different) == 1 or key in truth.late
        row.require(one, f"{key} has {len(different)} answers: {different}")
    _of_a_run(row, truth, answers)


def one_replay(row: Row, truth: Truth, answers: list[Answer]) -> None:
    """All replays of a key are equal; a run's own client gets that run's answer."""
    one_answer(row, truth, [answer for answer in answers if answer.replayed])
    own = [answer for answer in answers if not answer.replayed]
    _of_a_run(row, truth, own)
    runs = [answer.headers.get("x-run") for answer in own]
    row.require(len(runs) == len(set(runs)), "a run's own answer was sent to two clients")


def own_clients_answered(row: Row, truth: Truth, answers: list[Answer]) -> None:
    """Every run that began, a late one too, answered the client that began it."""
    own = {answer.headers.get("x-run") for answer in answers if not answer.replayed}
    for run in chain.from_iterable(truth.runs.values()):
        row.require(run.run in own, f"{run.key}: the own client of {run} did not get its answer")


def _of_a_run(row: Row, truth: Truth, answers: list[Answer]) -> None:
    for answer in answers:
        runs = [run.run for run in truth.runs[answer.key]]
        row.require(answer.headers.get("x-run") in runs, f"{answer.key}: an answer of no run")


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
        row.require(answer.replayed, f"{answer.key}: a later retry is no replay")
        if answer.key in before:
            same = before[answer.key].content == answer.content
            row.require(same, f"{answer.key}: its stored response has changed")


def lease_lost_told(row: Row, truth: Truth, later: list[Answer]) -> int:
    """Every run that was overtaken told so, once, and no other did.

    :param later: replays of what is stored in the end.
    :returns: how many were overtaken.
    """
    kept = {answer.key: answer.headers.get("x-run") for answer in later}
    overtaken = 0
    for key, runs in truth.runs.items():
        for run in runs:
            lost = truth.leases_lost[run.owner]
            if run.run != kept.get(key):
                overtaken += 1
                row.require(lost == 1, f"{key}: {run} sent lease_lost {lost} times")
            else:
                row.require(lost == 0 or len(runs) > 1, f"{key}: {run} lost its only lease")
    return overtaken


def late_owners_overwrote_nothing(
    row: Row, truth: Truth, strikes: list[Strike], later: list[Answer]
) -> None:
    """The response of the last owner stands, unless that owner came late itself."""
    kept = {answer.key: answer.headers.get("x-run") for answer in later}
    for key, runs in truth.runs.items():
        for run in reversed(runs):
            if run.run == kept.get(key):
                break
            hit = struck(run, [*strikes, *truth.stops])
            row.require(hit, f"{key}: an earlier owner overwrote that of {run}")


def _list(runs: list[Run]) -> str:
    return ", ".join(map(str, runs))
