"""A storm: clients that retry while something happens to the workers that serve them."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.chaos.clients import Answer, Request, RetryingClients, rounds, send_all
from tests.chaos.history import History, Run
from tests.chaos.promises import all_answered, swept
from tests.chaos.serving import Row, ServedApp
from tests.support.polling import until

#: Chooses where a key is sent.
Choose = Callable[[random.Random], str]


def work(dice: random.Random) -> str:
    view = dice.choice(["work", "work", "work", "impatient"])
    return f"/{view}/{dice.randint(20, 300)}"


class Storm:
    """Clients that retry while something happens to the workers, and one more request per key.

    :param count: how many clients.
    :param name: what its keys begin with.
    """

    def __init__(self, served: ServedApp, count: int, name: str) -> None:
        self.served = served
        self._count = count
        self._name = name
        self._on = True
        self._dice = random.Random(name)
        self._rivals: list[RetryingClients] = []
        self.later: list[Answer] = []

    def during(self, happens: Callable[[], None], path: Choose = work) -> None:
        requests = rounds(
            self._name, keys=100_000, copies=3, window=6, path=path, on=lambda: self._on
        )
        self.clients = RetryingClients(self.served.port, self._count, requests)
        with self.clients:
            try:
                happens()
            finally:
                self._on = False
        for rivals in self._rivals:
            self.clients.absorb(rivals)
        once_more = list({answer.key: answer.request for answer in self.clients.answers}.values())
        self.sweep = send_all(self.served.port, 4, once_more)
        self.later = self.sweep.answers
        self.unanswered = self.clients.unanswered + self.sweep.unanswered

    def busy(self) -> int:
        """The process id of a worker that runs a view."""
        runs: list[Run] = []

        def look() -> list[Run]:
            runs[:] = History(self.served.folder).running
            return runs

        until(look)
        return self._dice.choice(runs).pid

    def rivals(self, pid: int) -> RetryingClients:
        """New clients that send all that a worker runs."""
        runs = [run for run in History(self.served.folder).running if run.pid == pid]
        requests = [Request(run.key, run.path) for run in runs]
        clients = RetryingClients(self.served.port, len(requests), iter(requests))
        self._rivals.append(clients)
        return clients

    def send(self, request: Request) -> None:
        """Send one more request, and wait for its answer."""
        self._rivals.append(send_all(self.served.port, 1, [request]))

    @property
    def keys(self) -> set[str]:
        return {answer.key for answer in self.later}

    def row(self, test: str, history: History, kills: int) -> Row:
        """A row, with the checks that hold for every storm."""
        clients = self.clients
        requests = clients.sent + len(self.later)
        row = Row(test, requests, history.count, kills, clients.faults.total())
        all_answered(row, clients.answers + self.later, self.unanswered)
        swept(row, clients.answers, self.later)
        return row
