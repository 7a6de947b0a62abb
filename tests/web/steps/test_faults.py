"""A fault at each single command of a view of three steps: what the retries do."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.support.clients import WayIn, problem
from tests.support.faulty_store import fail
from tests.support.stepped import SteppedOrders

#: The commands of such a view: it claims, reserves, begins to charge, has charged, mails, answers.
COMMANDS = ["claim", "step", "step", "step", "step", "complete"]


@pytest.fixture
def orders(make_app: MakeApp) -> SteppedOrders:
    return SteppedOrders(WayIn("app-wide", make_app))


def break_command(
    orders: SteppedOrders, number: int, moment: str, action: Callable[[], object]
) -> None:
    """Let something happen at one of the commands.

    :param number: its place in ``COMMANDS``.
    :param moment: ``"before"`` it is carried out, or ``"after"``, when its reply is lost.
    """
    name = COMMANDS[number]
    earlier = COMMANDS[:number].count(name)
    actions = orders.store.before if moment == "before" else orders.store.after
    actions[name] = [*([lambda: None] * earlier), action]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(len(COMMANDS)))
class TestOneFault:
    def test_store_fails(self, orders: SteppedOrders, number: int, moment: str) -> None:
        """The view is answered once, the client's retries included, and charges once."""
        break_command(orders, number, moment, fail(StoreUnavailable("away")))
        answers = []
        while not answers or answers[-1] != 200:
            answers.append(orders.post().status_code)
            state_of(orders.app).engine.worker.pending.run()
        assert answers in ([200], [503, 200])
        assert orders.calls == ["reserve", "charge", "mail"]

    def test_worker_is_interrupted(self, orders: SteppedOrders, number: int, moment: str) -> None:
        """The view charges once where a worker's timeout interrupts the command."""
        break_command(orders, number, moment, sys.exit)
        with pytest.raises(SystemExit):
            orders.post()
        state_of(orders.app).engine.worker.pending.run()
        assert orders.post().status_code == 200
        assert orders.calls == ["reserve", "charge", "mail"]

    def test_process_dies(self, orders: SteppedOrders, number: int, moment: str) -> None:
        """Where the process dies the charge is made once, or never again while it is unknown."""

        def die() -> None:
            for name in ("step", "release", "complete"):
                orders.store.before[name] = [fail(StoreUnavailable("it has died"))] * 9
            raise SystemExit

        break_command(orders, number, moment, die)
        with pytest.raises(SystemExit):
            orders.post()
        state_of(orders.app).engine.close()
        orders.store.before.clear()
        orders.pass_time(31)
        answer = orders.post()
        if (number, moment) in {(2, "after"), (3, "before")}:
            assert problem(answer) == (409, "outcome-unknown")
        else:
            assert answer.status_code == 200
            assert orders.calls.count("charge") == 1
        assert orders.calls.count("charge") == (number > 2 or answer.status_code == 200)
