"""The command watch, and what it makes of one look after another."""

from __future__ import annotations

import json
import time

import pytest
from flask import Flask

from flask_idempotent.cli.watching import Lookout
from flask_idempotent.errors import StoreUnavailable
from tests.cli.harness import claim, complete, damage, name, run, store_of
from tests.stores.harness import HOUR, answer, expire, lapse, owner


@pytest.fixture
def lookout(app: Flask) -> Lookout:
    return Lookout(store_of(app), "IDEMPOTENT_")


def events(lookout: Lookout) -> list[str]:
    return [event for event, _ in lookout.look()]


class TestLookout:
    def test_life_of_a_key(self, app: Flask, lookout: Lookout) -> None:
        """A claim, a waiter, a lapse, a take-over and a response are told once each."""
        assert events(lookout) == []
        found = claim(app)
        assert (events(lookout), events(lookout)) == (["claimed"], [])
        with store_of(app).listen(found, 5):
            assert (events(lookout), events(lookout)) == (["waited for"], [])
        lapse(store_of(app), found)
        assert (events(lookout), events(lookout)) == (["lapsed"], [])
        claim(app, owner="bob")
        assert events(lookout) == ["taken over"]
        store_of(app).complete(found, answer("bob"), expire=HOUR)
        assert (events(lookout), events(lookout)) == (["completed"], [])
        expire(store_of(app), found)
        assert events(lookout) == []

    def test_first_look(self, app: Flask, lookout: Lookout) -> None:
        """At first what is in progress is told, stuck or not, and what is over is not."""
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        assert events(lookout) == ["in progress", "lapsed"]

    def test_released_and_claimed(self, app: Flask, lookout: Lookout) -> None:
        """A claim that goes is released; one with another owner in its place is a claim."""
        found = claim(app)
        events(lookout)
        store_of(app).release(found, owner("ada"), expire=HOUR)
        assert events(lookout) == ["released"]
        claim(app)
        events(lookout)
        store_of(app).release(found, owner("ada"), expire=HOUR)
        claim(app, owner="bob")
        assert events(lookout) == ["claimed"]

    def test_key_that_is_new_again(self, app: Flask, lookout: Lookout) -> None:
        """A completed record is looked at again when its life is over."""
        found = complete(app)
        store_of(app)._client.execute("PEXPIRE", found, 1)  # type: ignore[attr-defined]
        events(lookout)
        time.sleep(0.002)
        claim(app)
        assert events(lookout) == ["claimed"]

    def test_unreadable(self, app: Flask, lookout: Lookout) -> None:
        """A record that cannot be read is told once."""
        damage(app)
        assert (events(lookout), events(lookout)) == (["unreadable"], [])


def interrupt() -> None:
    raise KeyboardInterrupt


class TestWatch:
    def test_lines(self, app: Flask) -> None:
        """Each event is a line: time, event, record, and what there is to know."""
        with store_of(app).listen(claim(app), 5):
            lines = run(app, "watch", "--for", "0").stdout.splitlines()
        assert [line.split("  ")[1] for line in lines] == ["in progress", "waited for"]
        assert "here, process 7, attempt 1, began " in lines[0]
        assert lines[1].endswith("by 1 process")

    def test_json_lines(self, app: Flask) -> None:
        """For programs each event is a JSON document on a line of its own."""
        damage(app)
        (line,) = run(app, "watch", "--for", "0", "--json").stdout.splitlines()
        found = json.loads(line)
        assert (found["event"], found["storage_key"]) == ("unreadable", name())

    def test_goes_on_without_the_store(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the store is away a watcher is told so and goes on; Ctrl-C is a good end."""
        looks = iter([StoreUnavailable("away"), KeyboardInterrupt()])

        def look(_: Lookout) -> None:
            raise next(looks)

        monkeypatch.setattr(Lookout, "look", look)
        result = run(app, "watch", "--every", "1ms")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "the store failed: away\n"

    def test_response_has_its_status(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A completion is told with its status."""
        pauses = iter([lambda: complete(app)])

        def sleep(_: float) -> None:
            next(pauses, interrupt)()

        monkeypatch.setattr("time.sleep", sleep)
        lines = run(app, "watch").stdout.splitlines()
        assert lines[0].endswith("status 201")
