"""The lookout: what it makes of events, and of one look after another."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent.cli.poller import Line, Lookout
from flask_idempotent.stores.events import Event, Kind
from tests.cli.harness import claim, complete, damage, name, store_of
from tests.stores.harness import ENDS, HOUR, answer, expire, lapse, owner, running


@pytest.fixture(name="lookout")
def _lookout(app: Flask) -> Lookout:
    return Lookout(store_of(app), "IDEMPOTENT_")


def told(lines: object) -> list[str]:
    return [line.event for line in lines]  # type: ignore[attr-defined]


def heard(lookout: Lookout, kind: Kind, by: str = "", woken: int = 0) -> list[Line]:
    record = running(by) if by else None
    return list(lookout.hear(Event(name(), kind, by=record, woken=woken)))


class TestBegin:
    def test_what_is_in_progress(self, app: Flask, lookout: Lookout) -> None:
        """What is in progress is told, stuck or not, and what cannot be read; each run once."""
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        assert told(lookout.begin()) == ["in progress", "lapsed"]
        claim(app, "c")
        damage(app, "d")
        assert sorted(told(lookout.begin())) == ["in progress", "unreadable"]

    def test_event_of_what_was_seen(self, app: Flask, lookout: Lookout) -> None:
        """A claim that the first look has told is not told again when its event arrives."""
        claim(app, owner="ada")
        assert told(lookout.begin()) == ["in progress"]
        assert heard(lookout, Kind.CLAIMED, "ada") == []
        assert told(heard(lookout, Kind.TAKEN_OVER, "bob")) == ["taken over"]


class TestHear:
    def test_duplicates(self, lookout: Lookout) -> None:
        """Each duplicate is told once, however often it looks; with the next run anew."""
        heard(lookout, Kind.CLAIMED, "ada")
        assert told(heard(lookout, Kind.BUSY, "bob")) == ["busy"]
        assert heard(lookout, Kind.BUSY, "bob") == []
        assert told(heard(lookout, Kind.BUSY, "cyd")) == ["busy"]
        heard(lookout, Kind.RELEASED)
        heard(lookout, Kind.CLAIMED, "cyd")
        assert told(heard(lookout, Kind.BUSY, "bob")) == ["busy"]

    @pytest.mark.parametrize("kind", [Kind.REPLAYED, Kind.REUSED, Kind.UNKNOWN])
    def test_each_request(self, lookout: Lookout, kind: Kind) -> None:
        """Replays, reuses and refusals are told each time."""
        assert [told(heard(lookout, kind, "bob")) for _ in "12"] == [[str(kind)]] * 2

    @pytest.mark.parametrize("kind", [Kind.COMPLETED, Kind.RELEASED])
    def test_end_of_a_run(self, lookout: Lookout, kind: Kind) -> None:
        """The end of a run tells whose it was and how many processes were woken."""
        heard(lookout, Kind.CLAIMED, "ada")
        assert heard(lookout, kind, woken=2) == [Line(str(kind), name(), running("ada"), woken=2)]
        assert list(lookout.look()) == []


class TestLook:
    def test_lapse(self, app: Flask, lookout: Lookout) -> None:
        """A lease that ends is told once, and again only when it was renewed meanwhile."""
        found = claim(app)
        list(lookout.begin())
        assert told(lookout.look()) == []
        for _ in "12":
            lapse(store_of(app), found)
            assert (told(lookout.look()), told(lookout.look())) == (["lapsed"], [])
            claim(app)
            assert told(lookout.look()) == []

    def test_run_of_which_only_duplicates_were_heard(self, app: Flask, lookout: Lookout) -> None:
        """A claim that a duplicate tells of is looked at too."""
        lapse(store_of(app), claim(app))
        heard(lookout, Kind.BUSY, "bob")
        (line,) = lookout.look()
        assert line.event == "lapsed"
        assert line.by is not None
        assert line.by.owner == owner("ada")

    def test_gone(self, app: Flask, lookout: Lookout) -> None:
        """A record that is gone is told by the second look that misses it."""
        found = claim(app)
        list(lookout.begin())
        expire(store_of(app), found)
        looks = [told(lookout.look()) for _ in "123"]
        assert looks == [[], ["gone"], []]

    def test_event_on_its_way(self, app: Flask, lookout: Lookout) -> None:
        """A response that a look sees before its event arrives is told once."""
        found = claim(app)
        list(lookout.begin())
        store_of(app).complete(found, answer(), expire=HOUR)
        assert told(lookout.look()) == []
        assert told(heard(lookout, Kind.COMPLETED)) == ["completed"]
        assert told(lookout.look()) == []

    def test_lost_events(self, app: Flask, lookout: Lookout) -> None:
        """What happened while no event arrived is told when two looks have seen it."""
        for key in "abcd":
            claim(app, key, owner="ada")
        list(lookout.begin())
        store = store_of(app)
        store.complete(name("a"), answer(), expire=HOUR)
        lapse(store, name("b"))
        claim(app, "b", owner="bob")
        store.release(name("c"), owner("ada"), **ENDS)
        claim(app, "c", owner="bob")
        damage(app, "d")
        assert told(lookout.look()) == []
        found = {line.key: line.event for line in lookout.look()}
        assert found == {
            name("a"): "completed", name("b"): "taken over", name("c"): "claimed",
            name("d"): "unreadable",
        }  # fmt: skip
        assert told(lookout.look()) == []

    def test_costs_no_scan(
        self, app: Flask, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only what is in progress is looked at, and not the whole database."""
        claim(app)
        list(lookout.begin())
        monkeypatch.delattr(type(lookout.store), "scan")
        assert list(lookout.look()) == []
