"""Views with steps: they go on after a crash, and each way in which one does not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask

from flask_idempotent import Crash, current_claim, step
from flask_idempotent.testing import NotIdempotent
from tests.support.transactions import MemoryTransaction
from tests.testing.apps import app_with
from tests.testing.faulty_apps import check


class Shop:
    """A view of three steps, of which the second must not be repeated."""

    def __init__(self, **settings: Any) -> None:
        self.runs = 0
        #: How often the function of each step was called for each key.
        self.calls: Counter[tuple[str, str]] = Counter()
        self.app = app_with(self.order, **settings)

    def call(self, name: str) -> str:
        self.calls[current_claim.key, name] += 1
        return name

    def order(self) -> tuple[list[str], int]:
        self.runs += 1
        return [
            step("reserve", self.call, "reserve"),
            step("charge", self.call, "charge", once=True),
            step("ship", self.call, "ship"),
        ], 201

    @property
    def repeated(self) -> set[str]:
        """The steps whose function was called again for some key."""
        return {name for (_, name), calls in self.calls.items() if calls > 1}


class TestSafe:
    def test_crashes(self) -> None:
        """The view runs twice for each command about a step, but not where a step is open."""
        shop = Shop()
        check(shop.app)
        commands, open_points = 4, 2
        assert shop.runs == 4 + 2 * 2 * commands - open_points
        assert shop.repeated == {"reserve", "ship"}

    def test_function(self) -> None:
        """A function is asked where a step is open, and may let it be called again."""
        crashes: list[Crash] = []

        def decide(crash: Crash) -> str:
            crashes.append(crash)
            return "rerun"

        shop = Shop(on_crash=decide)
        check(shop.app)
        asked = [crash for crash in crashes if crash.steps.get("charge") == "started"]
        assert [dict(crash.steps) for crash in asked] == [
            {"reserve": "ended", "charge": "started"}
        ] * 2
        assert "charge" in shop.repeated

    @pytest.mark.parametrize("decision", ["hold", ("known", 200)])
    def test_function_that_answers(self, decision: Any) -> None:
        """A function may answer or hold, whatever the step."""
        shop = Shop(on_crash=lambda crash: decision)
        check(shop.app)
        assert shop.repeated == set()

    def test_hold(self) -> None:
        """With ``on_crash="hold"`` nothing is called again."""
        shop = Shop(on_crash="hold")
        check(shop.app)
        assert shop.repeated == set()

    def test_transaction(self) -> None:
        """A view with a transaction goes on after its steps too."""
        shop = Shop(transaction=MemoryTransaction())
        check(shop.app)
        assert "charge" not in shop.repeated

    def test_async(self) -> None:
        """An async view goes on after its steps too."""

        async def charge() -> int:
            return 12

        async def view() -> list[int]:
            return [await step("charge", charge, once=True), await step("ship", charge)]

        assert check(app_with(view)).json == [12, 12]

    def test_fewer_steps(self) -> None:
        """A view may call a step in some runs only."""
        runs = count()

        def view() -> str:
            if next(runs) == 4:  # The first of those whose owner crashes.
                step("rare", str)
            return "ran"

        check(app_with(view))
        check(app_with(lambda: step("first", str) if current_claim.attempt == 1 else "ran"),
              crash=False)  # fmt: skip


def with_random_names() -> Flask:
    numbers = count()
    return app_with(lambda: step(f"charge-{next(numbers)}", str))


def with_unique_charges() -> Flask:
    """The service refuses a charge that it has made."""
    charged: set[str] = set()

    def charge() -> bool:
        is_known = current_claim.key in charged
        charged.add(current_claim.key)
        return is_known

    def view() -> tuple[str, int]:
        return ("refused", 409) if step("charge", charge) else ("charged", 201)

    return app_with(view)


def with_results_elsewhere() -> Flask:
    """The step leaves its result in a list, which is empty in the next run."""

    def view() -> tuple[str, int]:
        shelves: list[int] = []
        step("reserve", lambda: shelves.append(7))
        return ("reserved", 201) if shelves else ("no shelf", 500)

    return app_with(view)


def with_short_hold() -> Flask:
    return app_with(lambda: step("charge", str, once=True), lease=30, expire=30, hold_for=30)


FAULTS: dict[str, tuple[Callable[[], Flask], str, str]] = {
    "random names": (
        with_random_names,
        "had ended when its owner crashed, and the next run did not call a step of this name",
        "Give a step the same name in every run",
    ),
    "unique charges": (
        with_unique_charges,
        "its owner crashed after the function of the step 'charge' had returned, before its "
        "result was stored, and the view, run again, answered 409 CONFLICT instead of 201 CREATED",
        "current_claim.key_for('charge')",
    ),
    "results elsewhere": (
        with_results_elsewhere,
        "run again after its owner crashed, the view answered 500 INTERNAL SERVER ERROR instead "
        "of 201 CREATED",
        "Take what the view needs from what step() returns",
    ),
    "short hold": (
        with_short_hold,
        "the step 'charge' has once=True, and its owner crashed in it, and it began again",
        "Let hold_for= be longer than lease=",
    ),
}


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    def test_each(self, name: str) -> None:
        """Each failure says at which step the owner crashed, and how to fix the view."""
        make, what, fix = FAULTS[name]
        with pytest.raises(NotIdempotent) as caught:
            check(make())
        text = re.sub(r"\s+", " ", str(caught.value))
        assert what in text
        assert fix in text.partition("How to fix it: ")[2]

    def test_exception(self) -> None:
        """An exception of the view rises, with a note that says after which crash."""
        shelves: dict[str, int] = {}

        def view() -> str:
            step("reserve", shelves.update, shelf=7)
            return str(shelves.pop("shelf"))

        with pytest.raises(KeyError, match="shelf") as caught:
            check(app_with(view))
        assert caught.value.__notes__ == [
            "The view ran again after its owner had crashed after the view had returned."
        ]
