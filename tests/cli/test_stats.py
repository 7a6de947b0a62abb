"""The command stats: how many records there are."""

from __future__ import annotations

from flask import Flask

from tests.cli.harness import claim, complete, damage, document, give_up, run, store_of
from tests.stores.harness import lapse


class TestStats:
    def test_counts(self, app: Flask) -> None:
        """Records         are counted by state, with their size and the age of the oldest."""
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        damage(app, "c")
        give_up(app, "e")
        with store_of(app).listen(claim(app, "d"), 5):
            data = document(app, "stats")
        assert data.pop("size") > 100
        assert data.pop("oldest_in_progress") > data.pop("oldest_completed")
        assert data.pop("oldest_released") > 0
        assert data == {
            "records": 5, "in_progress": 2, "lapsed": 1, "with_waiters": 1, "completed": 1,
            "released": 1, "held_at_step": 0, "unreadable": 1,
        }  # fmt: skip

    def test_for_people(self, app: Flask) -> None:
        """The same in words."""
        complete(app)
        lines = run(app, "stats").stdout.splitlines()
        assert lines[0].startswith("Records         1, ")
        assert lines[4].startswith("Completed       1, the oldest ")
        assert document(app, "stats")["oldest_in_progress"] is None
